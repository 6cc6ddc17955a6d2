"""``dmsign-fast verity verify``: verify data, hash area and signature."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.output import note, print_json, print_summary, shown, work
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
from dmsign_fast.cli.verity.root_signature import add_signature_options, check_signature
from dmsign_fast.errors import (
    CorruptionError,
    UnrepairedError,
    VerificationError,
)

if TYPE_CHECKING:
    from dmsign_fast.verity.fec import FecDevice
    from dmsign_fast.verity.report import Verified

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "verify all data by its hash area and root hash, and the signature of the root hash"
EXAMPLES = """\
examples:
  dmsign-fast verity verify image.erofs image.verity ROOT_HASH
  dmsign-fast verity verify image.erofs image.verity --root-hash-file image.roothash \\
      --signature image.roothash.p7s --trust root.pem
  dmsign-fast verity verify image.erofs image.verity ROOT_HASH --fec-device image.fec
  dmsign-fast verity verify image.erofs image.verity ROOT_HASH --explain --html report.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_data(parser)
    parser.add_argument("hash", metavar="HASH", type=Path, help="the hash area: a file or device")
    parser.add_argument(
        "root_hash",
        metavar="ROOT_HASH",
        type=hex_bytes,
        nargs="?",
        help="the root hash, as hex; default: that of --root-hash-file",
    )
    add_signature_options(parser)
    parser.add_argument(
        "--explain",
        action="store_true",
        help="say which file or metadata of an EROFS image each bad block is",
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write what --explain says as a page too"
    )
    add_tree_options(parser)
    add_fec_options(parser)


def _repairs(
    args: argparse.Namespace, fec: FecDevice, root_hash: bytes, report: Verified
) -> tuple[dict[str, Any], UnrepairedError | None]:
    """What error correction could do about it: for JSON, and what it could not."""
    from dmsign_fast.verity.fec_repair import repair_file

    failed = None
    try:
        found = repair_file(args.data, args.hash, root_hash, fec, **tree_arguments(args))
    except UnrepairedError as error:
        failed, found = error, error.report
    mended = {
        (bad.level, number)
        for bad in found.repaired
        for part in bad
        for number in range(part.first, part.first + part.blocks)
        if bad.level is not None
    }
    for bad in report.bad:
        # such a block has the right digest, and still no tool should take it
        if bad.reason == "spare" and any((bad.level, part.first) not in mended for part in bad):
            failed = UnrepairedError("a spare area is not zero, as it was hashed", found)
    if failed:
        note(args, "Errors cannot be repaired with FEC device.")
        if args.output != "json":
            print_bad(args, found.unrepaired, "cannot be repaired")
    else:
        note(args, f"Found {found.errors} repairable errors with FEC device.")
    value = {
        "repairable": not failed,
        "repairable_errors": found.errors,
        "unrepairable": bad_json(found.unrepaired),
    }
    return value, failed


def _verdict(report: Verified) -> str:
    """What a page says of the blocks as a whole."""
    if not report.bad:
        good = report.computed == report.root_hash
        return "every block is as it was hashed" if good else "the root hash is another"
    data = sum(bad.blocks for bad in report.bad if bad.level is None)
    hashes = sum(bad.blocks for bad in report.bad) - data
    return f"{data} data block(s) and {hashes} hash block(s) are bad"


def _explain(args: argparse.Namespace, root_hash: bytes, report: Verified) -> dict[str, Any]:
    """Say what the bad data is: as text and page; for JSON it is returned."""
    from dmsign_fast.cli.verity.explained import (
        bad_ranges,
        explained_json,
        places_json,
        print_layer,
        print_places,
        write_page,
    )
    from dmsign_fast.cli.verity.hash_tree_file import tree_of_options
    from dmsign_fast.pipeline.explain import explain
    from dmsign_fast.pipeline.whose import listed_whose
    from dmsign_fast.verity.source import open_source

    tree = tree_of_options(args, report.data_blocks)
    layer = listed_whose(args.data, root_hash.hex())
    with open_source(args.data) as source:
        size = min(source.seekable_size("explaining"), tree.data_size)
        ranges = bad_ranges(report.bad, size)
        explained = explain(source, size, ranges)
        if args.html:
            write_page(
                args.html,
                args.data,
                source,
                explained,
                ranges,
                tree=tree,
                root_hash=root_hash,
                verdict=_verdict(report),
                layer=layer,
            )
    if args.output != "json" and report.bad:
        print_layer(layer)
        print_places(explained, explained.places)
    places = {"places": places_json(explained.places)}
    return {"explained": explained_json(explained, layer) | places}


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.verity.verify import verify_file

    root_hash = read_root_hash(args)
    tree_arguments(args)
    fec = fec_device(args)
    signature = check_signature(args, root_hash)
    refused = signature.refused if signature else None
    corruption = None
    with work(args, "verifying", data_size(args)) as done:
        try:
            report = verify_file(
                args.data,
                args.hash,
                root_hash,
                progress=done,
                **tree_arguments(args),
            )
        except CorruptionError as error:
            corruption, report = error, error.report
    if corruption and args.output != "json":
        print_bad(args, report.bad)
    explained = _explain(args, root_hash, report) if args.explain or args.html else {}
    repairs: dict[str, Any] = {}
    if corruption and fec:
        repairs, unrepaired = _repairs(args, fec, root_hash, report)
        corruption = corruption if unrepaired else None
    if args.output == "json":
        args.printed = True
        value: dict[str, Any] = {
            "verified": not report.bad and not corruption and not refused,
            "root_hash": root_hash.hex(),
            "computed_root_hash": report.computed.hex(),
            "data_blocks": report.data_blocks,
            "bad": bad_json(report.bad),
        }
        if repairs:
            value["repair"] = repairs
        if signature:
            value["signature"] = signature.json
        value |= explained
        print_json(value | done.json)
    elif not report.bad and not corruption and not refused:
        print(f"Root hash:      \t{root_hash.hex()}")
        print(f"Verified:       \t{report.data_blocks} data blocks, every one as it was hashed")
        if signature:
            print(f"Signed by:      \t{shown(str(signature.signer))}")
            if needs := signature.json.get("needs"):
                print(f"Needs:          \t{shown(needs)}")
    print_summary(args, done, "checked")
    if corruption and refused:
        raise VerificationError(f"{corruption}; the signature is refused too: {refused}")
    if wrong := corruption or refused:
        raise wrong
    return 0
