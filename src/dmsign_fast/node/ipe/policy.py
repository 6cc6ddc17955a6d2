"""Policies of IPE as frozen values: their text, and what they decide.

The grammar is that of ``security/ipe/policy_parser.c``, the decisions are those of
``security/ipe/eval.c`` in Linux 7.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dmsign_fast.errors import ParameterError

__all__ = [
    "DIGEST_SIZES",
    "Action",
    "Decision",
    "Operation",
    "Policy",
    "Property",
    "Rule",
    "Source",
    "check_name",
    "named_root_hash",
    "parse_version",
]


class Operation(StrEnum):
    """What is done with a file."""

    EXECUTE = "EXECUTE"
    FIRMWARE = "FIRMWARE"
    KMODULE = "KMODULE"
    KEXEC_IMAGE = "KEXEC_IMAGE"
    KEXEC_INITRAMFS = "KEXEC_INITRAMFS"
    POLICY = "POLICY"
    X509_CERT = "X509_CERT"


class Action(StrEnum):
    """What becomes of it."""

    ALLOW = "ALLOW"
    DENY = "DENY"


class Property(StrEnum):
    """What a rule asks of a file."""

    BOOT_VERIFIED = "boot_verified"
    """TRUE of files of the initramfs, also of those that were written into it later."""
    DMVERITY_SIGNATURE = "dmverity_signature"
    DMVERITY_ROOTHASH = "dmverity_roothash"
    FSVERITY_SIGNATURE = "fsverity_signature"
    FSVERITY_DIGEST = "fsverity_digest"

    @property
    def is_digest(self) -> bool:
        """Whether its value is ``ALG:HEX``; otherwise TRUE or FALSE."""
        return self in DIGEST_SIZES


_SHA2 = {"sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64}
DIGEST_SIZES: Mapping[Property, Mapping[str, int]] = {
    Property.DMVERITY_ROOTHASH: {"sha1": 20, **_SHA2, "sha3-256": 32, "sha3-512": 64},
    Property.FSVERITY_DIGEST: {"sha256": 32, "sha512": 64},
}
"""Bytes of a digest, by its name: others never match, and the kernel does not say so."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,254}")
_VERSION = re.compile(r"(\d{1,5})\.(\d{1,5})\.(\d{1,5})", re.ASCII)
_LARGEST = 65535


@dataclass(frozen=True, slots=True)
class Rule:
    """The first rule of an operation that matches a file decides.

    Attributes:
        conditions: all of them must hold; TRUE, FALSE or ``ALG:HEX`` in lower case.
        line: of the text that it was read from, from 1; 0 if it was made.
    """

    operation: Operation
    conditions: Mapping[Property, str]
    action: Action
    line: int = 0

    def matches(self, source: Source) -> bool:
        """Whether all conditions hold of a file."""
        return all(source.value(name) == value for name, value in self.conditions.items())

    def __str__(self) -> str:
        asked = "".join(f" {name}={value}" for name, value in self.conditions.items())
        return f"op={self.operation}{asked} action={self.action}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file comes from, as far as IPE looks.

    Attributes:
        boot_verified: the initramfs.
        root_hash: of the dm-verity device, ``ALG:HEX`` in lower case; None on no such device.
        signed: that device was opened with a signature.
        fsverity_digest: likewise of fs-verity.
        fsverity_signed: that fs-verity has a signature.
    """

    boot_verified: bool = False
    root_hash: str | None = None
    signed: bool = False
    fsverity_digest: str | None = None
    fsverity_signed: bool = False

    def value(self, name: Property) -> str | None:
        """The value of a property, as rules have it."""
        if name is Property.DMVERITY_ROOTHASH:
            return self.root_hash
        if name is Property.FSVERITY_DIGEST:
            return self.fsverity_digest
        holds = {
            Property.BOOT_VERIFIED: self.boot_verified,
            Property.DMVERITY_SIGNATURE: self.signed,
            Property.FSVERITY_SIGNATURE: self.fsverity_signed,
        }[name]
        return "TRUE" if holds else "FALSE"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy decides; ``rule`` is None where a default does."""

    action: Action
    rule: Rule | None

    def __str__(self) -> str:
        by = f"line {self.rule.line}: {self.rule}" if self.rule else "the default"
        return f"{self.action} by {by}"


@dataclass(frozen=True)
class Policy:
    """A whole policy.

    Attributes:
        version: three numbers, each up to 65535.
        defaults: by operation; ``None`` is the global one.
    """

    name: str
    version: tuple[int, int, int]
    defaults: Mapping[Operation | None, Action] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    def default(self, operation: Operation) -> Action:
        """What becomes of a file that no rule matches."""
        return self.defaults.get(operation) or self.defaults[None]

    def decide(self, operation: Operation, source: Source) -> Decision:
        """What becomes of such a file: ``ipe_evaluate_event()``."""
        for rule in self.rules:
            if rule.operation is operation and rule.matches(source):
                return Decision(rule.action, rule)
        return Decision(self.default(operation), None)

    @property
    def text(self) -> str:
        """The policy as the kernel reads it."""
        version = ".".join(map(str, self.version))
        lines = [f"policy_name={self.name} policy_version={version}"]
        for operation, action in self.defaults.items():
            named = f" op={operation}" if operation else ""
            lines.append(f"DEFAULT{named} action={action}")
        return "\n".join((*lines, *map(str, self.rules), ""))


def parse_version(text: str) -> tuple[int, int, int]:
    """``A.B.C``; ParameterError if it is not three numbers up to 65535."""
    found = _VERSION.fullmatch(text)
    if not found or any(int(one) > _LARGEST for one in found.groups()):
        raise ParameterError(
            f"the version {text!r} is not A.B.C, three numbers of at most {_LARGEST}"
        )
    return int(found[1]), int(found[2]), int(found[3])


def check_name(name: str) -> str:
    """Return the name of a policy; ParameterError if it cannot be that of a directory."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise ParameterError(
            f"a policy cannot be called {name!r}: use up to 255 letters, digits and _ . + -, "
            "without two dots in a row"
        )
    return name


def named_root_hash(text: str) -> str:
    """``ALG:HEX`` of a root hash, or HEX of SHA-256 or SHA-512, in lower case.

    Raises:
        ParameterError: it is neither.
    """
    algorithm, colon, digest = text.lower().rpartition(":")
    if not colon:
        algorithm = {64: "sha256", 128: "sha512"}.get(len(digest), "")
    size = DIGEST_SIZES[Property.DMVERITY_ROOTHASH].get(algorithm)
    if size is None or not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", digest):
        raise ParameterError(f"{text!r} is no root hash: give HEX, or ALG:HEX such as sha256:...")
    return f"{algorithm}:{digest}"
