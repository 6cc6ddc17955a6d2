"""``dmsign-fast verity repair``: bring bad blocks back by their parity."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.output import print_json, print_summary, work
from dmsign_fast.cli.verity.bad_blocks import bad_json, print_bad
from dmsign_fast.cli.verity.options import (
    add_data,
    add_fec_options,
    add_tree_options,
    data_size,
    fec_device,
    hex_bytes,
    read_root_hash,
    tree_arguments,
)
from dmsign_fast.errors import ParameterError, UnrepairedError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ABOUT", "EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "bring bad blocks back by their parity (see format --fec-device)"
ABOUT = """\
Parity is what error correction (FEC, forward error correction) needs to compute lost bytes again:
verity format writes it to the --fec-device.
"""
EXAMPLES = """\
examples:
  dmsign-fast verity repair image.erofs image.verity ROOT_HASH --fec-device image.fec \\
      --output repaired.erofs
  dmsign-fast verity repair image.erofs image.verity --root-hash-file image.roothash \\
      --fec-device image.fec --in-place --output json
"""
_FORMATS = ("text", "json")


class _Output(argparse.Action):
    """``--output FILE``, and ``--output text|json`` as in every command; both may be given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if values in _FORMATS:
            namespace.output = values
        else:
            namespace.repaired = Path(str(values))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_data(parser)
    add = parser.add_argument
    add("hash", metavar="HASH", type=Path, help="the hash area: a file or device")
    add(
        "root_hash",
        metavar="ROOT_HASH",
        type=hex_bytes,
        nargs="?",
        help="the root hash, as hex; default: that of --root-hash-file",
    )
    add(
        "--output",
        action=_Output,
        default="text",
        metavar="FILE|text|json",
        help="write the repaired DATA to a new FILE; given as text or json, besides: what to print",
    )
    add("--hash-output", type=Path, metavar="FILE", help="write the repaired HASH to a new file")
    add("--in-place", action="store_true", help="repair DATA and HASH themselves")
    add_tree_options(parser)
    add_fec_options(parser)
    parser.set_defaults(repaired=None)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.verity.fec_repair import repair_file

    fec = fec_device(args)
    if fec is None:
        raise ParameterError("give the --fec-device that has the parity")
    if not args.repaired and not args.in_place:
        raise ParameterError("give --output FILE for a repaired copy, or --in-place")
    failed = None
    with work(args, "repairing", data_size(args)) as done:
        try:
            report = repair_file(
                args.data,
                args.hash,
                read_root_hash(args),
                fec,
                output=args.repaired,
                hash_output=args.hash_output,
                in_place=args.in_place,
                progress=done,
                **tree_arguments(args),
            )
        except UnrepairedError as error:
            failed, report = error, error.report
    if args.output == "json":
        args.printed = True
        value = {
            "repaired": not failed,
            "root_hash": report.root_hash.hex(),
            "data_blocks": report.data_blocks,
            "wrong_bytes": report.errors,
            "repaired_blocks": bad_json(report.repaired),
            "unrepaired_blocks": bad_json(report.unrepaired),
        }
        print_json(value | done.json)
    else:
        verdict = "repaired" if args.in_place or not failed else "could be repaired"
        print_bad(args, report.repaired, verdict)
        print_bad(args, report.unrepaired, "cannot be repaired")
        if not failed:
            print(f"Root hash:      \t{report.root_hash.hex()}")
            print(f"Repaired:       \t{sum(bad.blocks for bad in report.repaired)} blocks")
    print_summary(args, done, "checked")
    if failed:
        raise failed
    return 0
