"""``dmsign-fast verity dump``: print the superblock."""

from __future__ import annotations

import argparse
from pathlib import Path

from dmsign_fast.cli.output import print_json
from dmsign_fast.cli.verity.header import header, print_header
from dmsign_fast.cli.verity.options import whole_number

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "print the superblock, which describes a hash area"
EXAMPLES = """\
examples:
  dmsign-fast verity dump image.verity
  dmsign-fast verity dump image.erofs --hash-offset 1073741824 --output json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("hash", metavar="HASH", type=Path, help="the hash area: a file or device")
    parser.add_argument(
        "--hash-offset",
        type=whole_number,
        default=0,
        metavar="BYTES",
        help="where in HASH the superblock is; default: 0",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.verity.source import open_source
    from dmsign_fast.verity.verify import read_superblock

    with open_source(args.hash) as source:
        superblock = read_superblock(source, args.hash_offset)
    known = header(superblock.params, superblock.data_blocks, superblock, args.hash_offset)
    if args.output == "json":
        print_json(known)
    else:
        print_header(args.hash, known)
    return 0
