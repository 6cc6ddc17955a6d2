"""Policies that run only what is signed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dmsign_fast.envelope.signed_content import MAX_MESSAGE
from dmsign_fast.errors import ParameterError
from dmsign_fast.node.ipe.parse import parse_policy
from dmsign_fast.node.ipe.policy import Action, Operation, Policy, Property, Rule, check_name

__all__ = ["Room", "make_policy", "room"]

_SIGNATURE = 2048
"""Bytes kept for a signature: an RSA-4096 key with its certificate embedded takes 2038."""
_SIGNED = {Property.DMVERITY_SIGNATURE: "TRUE"}


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of what the kernel takes, signed: bytes, and rules that name a root hash."""

    size: int
    left: int
    rules_left: int


def make_policy(
    name: str,
    version: tuple[int, int, int],
    *,
    root_hashes: Collection[str] | None = None,
    revoked: Collection[str] = (),
    initramfs: bool = False,
    strict: bool = False,
) -> Policy:
    """Return a policy that lets only signed files be executed.

    Args:
        name: of the policy; one with the same name and a higher version replaces it.
        version: see Policy.
        root_hashes: of the devices, ``ALG:HEX``, that may be used, and only with a signature; None
            is every device with a signature by a key that the kernel trusts.
        revoked: root hashes of devices that may not be used, signed or not.
        initramfs: what the initramfs holds may be used too.
        strict: the other operations need the same as execution: kernel modules, firmware, kexec,
            certificates. With ``root_hashes`` they are left to the initramfs alone.

    Raises:
        ParameterError: the name is none, a root hash is both allowed and revoked, or the policy is
            larger than the kernel takes.
    """
    check_name(name)
    if both := sorted({*(root_hashes or ())} & {*revoked}):
        raise ParameterError(
            f"{both[0]} is revoked, and is of a layer that is allowed: revoke only the root hashes "
            "of layers that no allowed image has"
        )
    defaults: dict[Operation | None, Action] = {None: Action.DENY if strict else Action.ALLOW}
    if not strict:
        defaults[Operation.EXECUTE] = Action.DENY
    rules: list[Rule] = []
    for operation in Operation if strict else (Operation.EXECUTE,):
        if initramfs:
            rules.append(Rule(operation, {Property.BOOT_VERIFIED: "TRUE"}, Action.ALLOW))
        named = root_hashes
        if root_hashes is not None and operation is not Operation.EXECUTE:
            named = ()
        if named is None or operation is Operation.EXECUTE:
            rules += (
                Rule(operation, {Property.DMVERITY_ROOTHASH: one}, Action.DENY)
                for one in dict.fromkeys(revoked)
            )
        if named is None:
            rules.append(Rule(operation, _SIGNED, Action.ALLOW))
        else:
            rules += (
                Rule(operation, {Property.DMVERITY_ROOTHASH: one, **_SIGNED}, Action.ALLOW)
                for one in dict.fromkeys(named)
            )
    policy = Policy(name, version, defaults, tuple(rules))
    if (left := room(policy).left) < 0:
        raise ParameterError(
            f"the policy is {-left} bytes larger than the kernel takes with a signature "
            f"({MAX_MESSAGE}): name fewer layers, or trust every signature, without --root-hashes"
        )
    # as it will be read; with the lines of the rules
    return parse_policy(policy.text.encode())


def room(policy: Policy) -> Room:
    """What is left for more rules, with some bytes kept for the signature."""
    size = len(policy.text.encode())
    left = MAX_MESSAGE - _SIGNATURE - size
    named = {Property.DMVERITY_ROOTHASH: f"sha256:{'0' * 64}", **_SIGNED}
    rule = len(f"{Rule(Operation.EXECUTE, named, Action.ALLOW)}\n")
    return Room(size, left, max(left, 0) // rule)
