"""``dmsign-fast benchmark``: how fast this machine is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_json, print_line

if TYPE_CHECKING:
    from dmsign_fast.benchmark.speeds import Speed

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "measure how fast this machine hashes, corrects errors and decompresses"
EXAMPLES = """\
examples:
  dmsign-fast benchmark --quick
  dmsign-fast benchmark --output json
  dmsign-fast benchmark --plot machine.svg              needs the extra bench
"""
_SHM = Path("/dev/shm")  # noqa: S108 - a tmpfs, in a new directory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("--quick", action="store_true", help="measure with a smaller file, and for a shorter time")
    add("--plot", type=Path, metavar="FILE", help="draw the results as bars too, in a .png or .svg")
    add(
        "--directory",
        type=Path,
        metavar="DIR",
        help="make the file of 1 GiB (with --quick 64 MiB) here; default: /dev/shm, or where "
        "you are",
    )


def _label(row: Speed) -> str:
    size = {"sha256": f"{row.size} bytes", "fec": f"{row.size} roots"}.get(row.what, "")
    words = [
        {"sha256": "SHA-256", "fec": "FEC", "command": "verity"}.get(row.what, row.what),
        row.name,
        size,
        f"from {'memory' if row.source == 'memory' else 'a file'}",
        f"{row.threads} thread{'s' * (row.threads > 1)}",
    ]
    return ", ".join(word for word in words if word)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    import os
    import platform

    from dmsign_fast.benchmark.machine import cpuinfo
    from dmsign_fast.benchmark.plot import check_plot, plot
    from dmsign_fast.benchmark.speeds import measure

    directory = args.directory or (_SHM if os.access(_SHM, os.W_OK) else Path())
    machine = cpuinfo().get("model name") or platform.machine()
    machine += f", {os.cpu_count()} cores"
    if args.plot:
        check_plot(args.plot)
    if args.output == "text":
        print_line(f"{machine}, load {os.getloadavg()[0]:.1f}; GB/s of data")
    rows = []
    for row in measure(quick=args.quick, directory=directory):
        rows.append(row)
        if args.output == "text":
            ratio = f"  {row.ratio:.1f} times veritysetup" if row.ratio else ""
            print(f"{_label(row):58}{row.speed / 1e9:8.2f}{ratio}", flush=True)
    if args.output == "json":
        about = {"processor": machine, "load": os.getloadavg()[0], "quick": args.quick}
        print_json({**about, "rows": [row.json for row in rows]})
    if args.plot:
        plot([(_label(row), row) for row in rows], machine, args.plot)
    return 0
