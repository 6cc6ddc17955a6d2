"""The text of a policy of IPE to a value, as ``security/ipe/policy_parser.c`` reads it or stricter.

What the kernel takes and nobody can mean is refused too: a rule that never applies, a revocation
that comes too late, a digest that no file can have.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from dmsign_fast.envelope.signed_content import MAX_MESSAGE
from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.node.ipe.policy import (
    DIGEST_SIZES,
    Action,
    Operation,
    Policy,
    Property,
    Rule,
    Source,
    check_name,
    parse_version,
)

__all__ = ["parse_policy"]

_OTHER = "a digest that the rules do not name"


def parse_policy(text: bytes) -> Policy:
    """Parse a policy.

    Raises:
        FormatError: the kernel refuses it, or takes it and it cannot be meant; with the line, and
            the kernel's error if there is one.
    """
    if len(text) > MAX_MESSAGE:
        raise FormatError(
            f"{len(text)} bytes are more than the kernel takes, {MAX_MESSAGE}: EMSGSIZE"
        )
    if b"\0" in text:
        raise FormatError("there is a NUL, and the kernel ignores the text behind it")
    lines = list(_lines(text.decode(errors="surrogateescape")))
    if not lines:
        raise FormatError("there is no line: a policy begins with policy_name= (Linux: EBADMSG)")
    number, words = lines[0]
    name, version = _header(number, words)
    defaults: dict[Operation | None, Action] = {}
    rules: list[Rule] = []
    for number, words in lines[1:]:
        if words[0] == "DEFAULT":
            _add_default(number, words, defaults)
        else:
            rules.append(_rule(number, words))
    missing = [one for one in Operation if one not in defaults]
    if missing and None not in defaults:
        raise FormatError(
            f"no DEFAULT for {', '.join(missing)}, nor for all operations (Linux: EBADMSG)"
        )
    _check_reached(rules)
    return Policy(name, version, defaults, tuple(rules))


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Number and words of each line that has any."""
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        code = line.partition("#")[0].rstrip(" \t\v\f")
        if words := [word for word in re.split("[ \t]", code) if word]:
            yield number, words


def _refuse(line: int, why: str, errno: str = "") -> FormatError:
    linux = f"Linux: {errno}" if errno else "Linux takes it"
    return FormatError(f"line {line}: {why} ({linux})")


def _header(line: int, words: list[str]) -> tuple[str, tuple[int, int, int]]:
    keys = ("policy_name=", "policy_version=")
    if words[0].startswith("\ufeff"):
        raise _refuse(line, "the text begins with a byte order mark", "EBADMSG")
    if len(words) != len(keys) or not all(map(str.startswith, words, keys)):
        why = "the first line is to be policy_name=NAME policy_version=A.B.C, and no more"
        raise _refuse(line, why, "EBADMSG")
    name, version = (word.removeprefix(key) for word, key in zip(words, keys, strict=True))
    try:
        check_name(name)
    except ParameterError as error:
        errno = (
            "ENAMETOOLONG" if len(name) > 255 else "EACCES" if re.search(r"/|\.\.", name) else ""
        )
        raise _refuse(line, str(error), errno) from None
    try:
        return name, parse_version(version)
    except ParameterError as error:
        parts = version.split(".")
        errno = "EBADMSG" if len(parts) != 3 else "ERANGE" if "".join(parts).isdigit() else "EINVAL"
        raise _refuse(line, str(error), errno) from None


def _add_default(line: int, words: list[str], defaults: dict[Operation | None, Action]) -> None:
    if len(words) not in (2, 3):
        raise _refuse(line, "DEFAULT [op=OPERATION] action=ACTION is wanted", "EBADMSG")
    operation = _operation(line, words[1]) if len(words) == 3 else None
    if operation in defaults:
        which = f"for {operation}" if operation else "for all operations"
        raise _refuse(line, f"a second DEFAULT {which}", "EBADMSG")
    defaults[operation] = _action(line, words[-1])


def _rule(line: int, words: list[str]) -> Rule:
    if len(words) < 2:
        raise _refuse(line, "op=OPERATION [PROPERTY=VALUE]... action=ACTION is wanted", "EBADMSG")
    operation, action = _operation(line, words[0]), _action(line, words[-1])
    conditions: dict[Property, str] = {}
    for word in words[1:-1]:
        name, value = _condition(line, word)
        if name in conditions:
            raise _refuse(line, f"{name} stands there twice")
        conditions[name] = value
    return Rule(operation, conditions, action, line)


def _operation(line: int, word: str) -> Operation:
    try:
        return Operation(word.removeprefix("op=") if word.startswith("op=") else "")
    except ValueError:
        known = ", ".join(Operation)
        raise _refuse(line, f"{word!r} is not op= and one of {known}", "EBADMSG") from None


def _action(line: int, word: str) -> Action:
    try:
        return Action(word.removeprefix("action=") if word.startswith("action=") else "")
    except ValueError:
        why = f"the last word is {word!r}, not action=ALLOW or action=DENY"
        raise _refuse(line, why, "EBADMSG") from None


def _condition(line: int, word: str) -> tuple[Property, str]:
    key, _, value = word.partition("=")
    try:
        name = Property(key)
    except ValueError:
        known = ", ".join(Property)
        raise _refuse(line, f"{word!r} is no property: use {known}", "EBADMSG") from None
    if not name.is_digest:
        if value not in ("TRUE", "FALSE"):
            raise _refuse(line, f"{name} is TRUE or FALSE, not {value!r}", "EBADMSG")
        return name, value
    algorithm, colon, digest = value.partition(":")
    if not colon or len(digest) % 2 or not re.fullmatch("[0-9a-fA-F]+", digest):
        errno = "EINVAL" if colon else "EBADMSG"
        raise _refuse(line, f"{name} is to be ALG:HEX, not {value!r}", errno)
    sizes = DIGEST_SIZES[name]
    if algorithm not in sizes:
        raise _refuse(
            line, f"{name} has the algorithm {algorithm!r}, not one of {', '.join(sizes)}"
        )
    if len(digest) != 2 * sizes[algorithm]:
        why = f"{name} has {len(digest) // 2} bytes, and {algorithm} has {sizes[algorithm]}"
        raise _refuse(line, f"{why}: no file matches")
    return name, f"{algorithm}:{digest.lower()}"


# ---------------------------------------------------------------------------- what rules can mean

_Digests = tuple[str | None, str | None]


def _check_reached(rules: list[Rule]) -> None:
    """Raise FormatError for a rule that applies to no file, or a revocation that comes too late.

    Earlier rules are kept by the digests that they name: few can match one file, for a rule that
    says the same as an earlier one is refused. So the work is linear in the rules.
    """
    earlier: dict[tuple[Operation, _Digests], list[Rule]] = {}
    for rule in rules:
        taken = []
        for source in _samples(rule):
            digests = itertools.product((source.root_hash, None), (source.fsverity_digest, None))
            keys = ((rule.operation, one) for one in dict.fromkeys(digests))
            before = (one for key in keys for one in earlier.get(key, ()))
            taken.append([one for one in before if one.matches(source)])
        if not taken:
            raise _refuse(rule.line, "no file can have these properties together")
        if all(taken):
            first = min(one.line for found in taken for one in found)
            raise _refuse(rule.line, f"it never applies: line {first} and others decide before it")
        allowing = {one.line for found in taken for one in found if one.action is Action.ALLOW}
        if allowing and rule.action is Action.DENY and _digests(rule) != (None, None):
            why = f"it comes too late: line {min(allowing)} allows what it is to deny"
            raise _refuse(rule.line, why)
        earlier.setdefault((rule.operation, _digests(rule)), []).append(rule)


def _digests(rule: Rule) -> _Digests:
    asked = rule.conditions
    return asked.get(Property.DMVERITY_ROOTHASH), asked.get(Property.FSVERITY_DIGEST)


def _samples(rule: Rule) -> Iterator[Source]:
    """A file of each kind that the rule matches."""
    root_hash, digest = (one or _OTHER for one in _digests(rule))
    kinds = (
        Source(),
        Source(boot_verified=True),
        *(
            Source(False, device, signed, verity, verity_signed)
            for device, signed in ((None, False), (root_hash, False), (root_hash, True))
            for verity, verity_signed in ((None, False), (digest, False), (digest, True))
            if device or verity
        ),
    )
    return (source for source in kinds if rule.matches(source))
