"""JSON that every program reads alike, or FormatError.

A document is signed by its digest, so nobody may find something else in it than we do: duplicate
names, names that differ from a known one in case only (Go takes them for the same), NaN, numbers
out of range and lone surrogates are refused. As in Go, null is the same as nothing.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from dmsign_fast.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Members", "check_value", "dump_json", "read_json", "read_object"]

_MAX_INTEGER = (1 << 63) - 1
_MAX_DIGITS = 20
_MAX_DEPTH = 64


def read_object(data: bytes, what: str, entries: str | None = None) -> dict[str, Any]:
    """Return the JSON object in ``data``; ``what`` names it in the FormatError for anything else.

    Refused are names given twice, NaN and infinities, text that is not UTF-8, surrogates, and
    more than 64 levels, on which a later step could founder.

    Args:
        data: UTF-8.
        what: names it in messages.
        entries: the name of a member that is an array whose elements are not checked yet, since
            others wrote them: give each to ``check_value``.
    """
    value = read_json(data, what)
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not a JSON object")
    checked = value
    if entries and isinstance(value.get(entries), list) and not isinstance(value, _Repeated):
        checked = {name: one for name, one in value.items() if name != entries}
    check_value(checked, what)
    return value


def read_json(data: bytes, what: str) -> Any:
    """Return the JSON value in ``data``, as lenient as most programs: for what nobody signs.

    FormatError for what is no JSON. Numbers out of range become infinite.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_object, parse_int=_integer)
    except UnicodeError:
        raise FormatError(f"{what} is not UTF-8 text") from None
    except RecursionError:
        raise FormatError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise FormatError(f"{what} is not JSON: {error}") from None


def check_value(value: Any, what: str) -> None:
    """FormatError if a value of ``read_json`` is one that not every program would read alike."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(_MAX_DEPTH):
        for one in level:
            if isinstance(one, _Repeated):
                raise FormatError(f"{what} has the name {one.name!r} more than once")
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for values in inner for one in values if isinstance(one, dict | list)]
        if not level:
            break
    else:
        raise FormatError(f"{what} is nested too deeply")
    try:
        dump_json(value)
    except UnicodeError:  # half of a surrogate pair
        raise FormatError(f"{what} is not UTF-8 text") from None
    except ValueError as error:
        raise FormatError(f"{what} is not JSON: {error}") from None


def dump_json(value: object) -> bytes:
    """Return the same bytes for the same value: sorted names, no spaces, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


class _Repeated(dict[str, Any]):
    """An object that gives ``name`` twice."""

    name: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeated, seen = _Repeated(found), set[str]()
    for repeated.name, _ in pairs:
        if repeated.name in seen:
            break
        seen.add(repeated.name)
    return repeated


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


class Members:
    """The members of a JSON object, each taken with the type that it must have."""

    def __init__(self, value: Any, known: Collection[str], what: str) -> None:
        """Take ``value``, whose members are ``known`` or left alone; FormatError if no object."""
        if not isinstance(value, dict):
            raise FormatError(f"{what} is not a JSON object")
        folded = {name.casefold() for name in known}
        for name in value:
            if name not in known and name.casefold() in folded:
                raise FormatError(f"{what} has a member {name!r}: its case is wrong")
        self.what = what
        self.other = {name: one for name, one in value.items() if name not in known}
        self._value = value

    def wrong(self, name: str, problem: str) -> FormatError:
        """The error of one member."""
        return FormatError(f"{self.what}: {name} {problem}")

    def has(self, name: str) -> bool:
        """Whether the member is there and not null."""
        return self._value.get(name) is not None

    def text(self, name: str) -> str:
        """A string that is there and not empty."""
        value = self._value.get(name)
        if not isinstance(value, str) or not value:
            problem = "is missing" if value is None or value == "" else "is not a string"
            raise self.wrong(name, problem)
        return value

    def optional_text(self, name: str) -> str | None:
        """A string; None where there is none or an empty one."""
        return self.text(name) if self._value.get(name) not in (None, "") else None

    def integer(self, name: str) -> int:
        """An integer from 0 to 2**63 - 1."""
        value = self._value.get(name)
        if value is None:
            raise self.wrong(name, "is missing")
        if type(value) is not int or not 0 <= value <= _MAX_INTEGER:
            raise self.wrong(name, f"is not an integer from 0 to {_MAX_INTEGER}")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._value.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "is neither true nor false")
        return value

    def array(self, name: str) -> list[Any]:
        """An array; null or nothing is an empty one."""
        value = self._value.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "is not an array")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """An array of strings."""
        values = self.array(name)
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(name, "is not an array of strings")
        return tuple(values)

    def annotations(self, name: str = "annotations") -> dict[str, str]:
        """An object whose values are strings; null or nothing is an empty one."""
        value = self._value.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise self.wrong(name, "is not an object of strings")
        return value

    def value(self, name: str) -> Any:
        """The member as it is, None if it is not there."""
        return self._value.get(name)
