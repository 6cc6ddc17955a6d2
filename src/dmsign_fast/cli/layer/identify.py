"""``dmsign-fast layer identify``: which recipe gives a root hash."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from dmsign_fast.cli.layer.every_recipe import (
    by_root_hash,
    every_root_hash,
    result_json,
    result_text,
)
from dmsign_fast.cli.layer.options import add_layer_options, total_size
from dmsign_fast.cli.layer.places import LayerPlaces
from dmsign_fast.cli.output import print_json, print_line, print_summary, work
from dmsign_fast.cli.stores import add_store_options
from dmsign_fast.cli.verity.options import hex_bytes
from dmsign_fast.errors import VerificationError

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "say which recipe, version of mkfs.erofs and UUID give a root hash of a layer"
EXAMPLES = """\
examples:
  dmsign-fast layer identify layer.tar.gz 5366dcd1...
  dmsign-fast layer identify registry.example/app@sha256:2d35... 5366dcd1... f8794ccf...
  dmsign-fast layer roothash layer.tar.gz --recipe all      every root hash that there may be
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add(
        "layer",
        metavar="LAYER",
        help="a file, - for standard input, or a layer in a registry or layout, as of roothash",
    )
    add("root_hashes", metavar="ROOT_HASH", type=hex_bytes, nargs="+", help="a root hash, as hex")
    add("--digest", metavar="DIGEST", help="refuse LAYER unless it has this digest, sha256:...")
    add("--diff-id", metavar="DIGEST", help="refuse LAYER unless its tar has this digest")
    add("--media-type", help="media type of LAYER; default: what it looks like")
    add_layer_options(parser)
    add_store_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.jobs import run_all
    from dmsign_fast.pipeline.layers import Expected

    args.jobs = 1
    with work(args, "hashing", total_size([Path(args.layer)])) as done, ExitStack() as opened:
        places = LayerPlaces(args, opened)
        expected = Expected(
            digest=places.digest(args.layer) or args.digest,
            diff_id=args.diff_id,
            media_type=args.media_type,
        )
        (results,) = run_all([every_root_hash(args, args.layer, places, expected, done)], 1)
    known = by_root_hash(results)
    wanted = list(dict.fromkeys(root_hash.hex() for root_hash in args.root_hashes))
    missing = [root_hash for root_hash in wanted if root_hash not in known]
    if args.output == "json":
        args.printed = True
        found = [
            {"root_hash": one, "recipes": [result_json(by) for by in known.get(one, ())]}
            for one in wanted
        ]
        print_json({"layer": args.layer, "root_hashes": found} | done.json)
    else:
        for one in wanted:
            print_line(f"{one}  {result_text(known[one]) if one in known else 'not of this layer'}")
    print_summary(args, done, "hashed")
    if missing:
        raise VerificationError(
            f"{args.layer} does not give {', '.join(missing)} with any recipe that is known: it "
            "is of another layer, another converter, or another --salt or block size"
        )
    return 0
