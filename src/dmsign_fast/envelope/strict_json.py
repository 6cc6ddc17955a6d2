"""JSON that means one thing to every reader: RFC 8259 without its liberties.

A name that is repeated, or NaN, is read differently by different programs, and what was signed for
one of them must not be something else to another.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from dmsign_fast.errors import FormatError

__all__ = ["dump_json", "parse_json"]


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in ``data``; ``what`` names it in the FormatError for anything else.

    Refused are names given twice, NaN and infinities, text that is not UTF-8, and surrogates.
    """
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_no_repetition, parse_constant=_no_constant
        )
        dump_json(value)  # fails for half of a surrogate pair
    except FormatError as error:
        raise FormatError(f"{what} {error}") from None
    except UnicodeError:
        raise FormatError(f"{what} is not UTF-8 text") from None
    except RecursionError:
        raise FormatError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise FormatError(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not a JSON object")
    return value


def dump_json(value: object) -> bytes:
    """Return the same bytes for the same value: sorted names, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _no_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise FormatError(f"has the name {twice!r} more than once")
    return found


def _no_constant(name: str) -> NoReturn:
    raise FormatError(f"has the value {name}, which is not JSON")
