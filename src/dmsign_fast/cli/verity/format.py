"""``dmsign-fast verity format``: hash data and write the hash area."""

from __future__ import annotations

import argparse
from pathlib import Path

from dmsign_fast.cli.output import note, print_json, print_summary, work
from dmsign_fast.cli.verity.header import formatted_header, print_header
from dmsign_fast.cli.verity.options import (
    add_data,
    add_format_options,
    data_size,
    format_arguments,
)

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "hash data, write the hash area and print the root hash"
EXAMPLES = """\
examples:
  dmsign-fast verity format image.erofs image.verity
  dmsign-fast verity format image.erofs                 only the root hash
  dmsign-fast verity format image.erofs image.erofs --hash-offset 1073741824
  dmsign-fast verity format image.erofs image.verity --fec-device image.fec --fec-roots 24
  zstd -dc image.zst | dmsign-fast verity format - image.verity --output json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_data(parser)
    parser.add_argument(
        "hash",
        metavar="HASH",
        type=Path,
        nargs="?",
        help="write the hash area to this file or device, or into DATA with --hash-offset; "
        "default: print the root hash alone",
    )
    add_format_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.outputs import Outputs
    from dmsign_fast.verity.format import format_file

    with work(args, "hashing", data_size(args)) as done, Outputs() as outputs:
        formatted = format_file(
            args.data,
            args.hash,
            progress=done,
            outputs=outputs,
            **format_arguments(args),
        )
        if args.root_hash_file:
            outputs.write(args.root_hash_file, formatted.root_hash.hex().encode())
    known = formatted_header(formatted, args.hash_offset)
    if formatted.fec and args.fec_offset % formatted.fec.block_size:
        note(
            args,
            f"Linux finds no parity at --fec-offset {args.fec_offset}: it must be a multiple "
            f"of the block size, {formatted.fec.block_size}",
        )
    if args.output == "json":
        print_json(known | done.json)
    else:
        print_header(args.hash or args.data, known)
    print_summary(args, done, "hashed")
    return 0
