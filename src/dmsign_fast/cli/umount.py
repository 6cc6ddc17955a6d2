"""``dmsign-fast umount``: undo ``dmsign-fast mount``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_json

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "unmount an image that mount has mounted, and close its layers"
EXAMPLES = """\
examples:
  sudo dmsign-fast umount /mnt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("directory", metavar="DIR", type=Path, help="the mount point")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.node.mount import MountPoint, unmount

    where = MountPoint.of(args.directory)
    unmount(where)
    if args.output == "json":
        print_json({"unmounted": str(where.path)})
    return 0
