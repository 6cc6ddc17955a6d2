"""Bad blocks as text and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from dmsign_fast.verity.report import BadBlocks

__all__ = ["bad_json", "print_bad"]

_REASONS = {
    "digest": "not what was hashed",
    "spare": "spare area not zero",
    "missing": "beyond the end of the data",
    "unverifiable": "below a hash block that cannot be repaired",
}


def bad_json(found: Iterable[BadBlocks]) -> list[dict[str, Any]]:
    """One object for each run of blocks."""
    return [
        {
            "kind": "data" if bad.level is None else "hash",
            "level": bad.level,
            "reason": bad.reason,
            "first_block": part.first,
            "blocks": part.blocks,
            "offset": part.offset,
            "size": part.size,
        }
        for bad in found
        for part in bad
    ]


def print_bad(
    args: argparse.Namespace, found: Iterable[BadBlocks], verdict: str | None = None
) -> None:
    """One line for each run of blocks, with the verdict, or the reason why it is bad."""
    for bad in found:
        kind, path = "data block", args.data
        if bad.level is not None:
            kind, path = f"hash block (level {bad.level})", args.hash
        for part in bad:
            last = part.first + part.blocks - 1
            numbers = f"{part.first}" if last == part.first else f"{part.first}-{last}"
            end = part.offset + part.size - 1
            why = verdict if verdict and bad.reason == "digest" else _REASONS[bad.reason]
            print(f"{kind} {numbers}, bytes {part.offset}-{end} of {path}: {why}")
