"""``dmsign-fast fleet status``: how far a run is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_json, print_line, size_text

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "say how far a run is, also while it goes on"
EXAMPLES = """\
examples:
  dmsign-fast fleet status run.state
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("state", type=Path, metavar="STATE", help="the state file of the run")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.fleet.reading import ReadableState
    from dmsign_fast.fleet.report import summary

    with ReadableState(args.state) as state:
        counts = state.counts()
    if args.output == "json":
        print_json(summary(counts))
        return 0
    waiting, failed = counts.unresolved
    layers, hashed, bad = counts.layers
    print_line(f"run:        {'unfinished' if counts.ended is None else 'finished'}")
    print_line(f"references: {waiting} to look up, {failed} failed")
    images = ", ".join(f"{number} {name}" for name, number in counts.images.items() if number)
    print_line(f"images:     {images or 'none'}")
    print_line(f"layers:     {hashed} of {layers} hashed, {bad} failed")
    print_line(
        f"bytes:      {size_text(counts.bytes[1])} of {size_text(counts.bytes[0])}; "
        f"{size_text(counts.bytes[2])} in all images"
    )
    return 0
