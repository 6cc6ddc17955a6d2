"""``dmsign-fast policy import``: a trust policy from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.policy.options import add_force, save

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "replace the trust policy by that in a file, once it is checked"
EXAMPLES = """\
examples:
  dmsign-fast policy import policy.json
  dmsign-fast policy import --force policy.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the trust policy, in JSON")
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.signing.certificates import read_file

    return save(args, read_file(args.file), str(args.file))
