"""``dmsign-fast layer convert``: the image that a node makes of a layer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.layer.options import (
    add_layer_options,
    conversion,
    layer_json,
    recipe,
    total_size,
)
from dmsign_fast.cli.output import print_json, print_summary, work

if TYPE_CHECKING:
    from dmsign_fast.erofs.recipe import Recipe

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "write the EROFS image that a node makes of a layer, with its hash area"
EXAMPLES = """\
examples:
  dmsign-fast layer convert layer.tar.gz -o layer.erofs
  dmsign-fast layer convert layer.tar.gz -o layer.erofs --verity separate --recipe osguard
then:
  mount -t erofs -o loop layer.erofs /mnt
  veritysetup open layer.erofs NAME layer.erofs --hash-offset OFFSET ROOT_HASH
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    from dmsign_fast.pipeline.convert import VERITY_MODES

    add = parser.add_argument
    add("layer", metavar="LAYER", type=Path, help="the layer: a file; - for standard input")
    add("-o", "--out", type=Path, required=True, metavar="OUT", help="write the image to OUT")
    add(
        "--verity",
        choices=VERITY_MODES,
        default=VERITY_MODES[0],
        help="where the hash area goes: append (default) behind the image, with OUT.dmverity; "
        "separate to OUT.verity, with OUT.roothash; none",
    )
    add("--digest", metavar="DIGEST", help="refuse LAYER unless it has this digest, sha256:...")
    add("--diff-id", metavar="DIGEST", help="refuse LAYER unless its tar has this digest")
    add("--media-type", help="media type of LAYER; default: what it looks like")
    add_layer_options(parser)


def _tree_options(made_by: Recipe) -> str:
    """What ``verity sign`` needs for the same root hash: its own salt is random."""
    from dmsign_fast.erofs.recipe import Recipe

    params = made_by.params
    if params == Recipe.parse(made_by.name).params:
        return f"--recipe {made_by.name}"
    return (
        f"--data-block-size {params.data_block_size} --hash-block-size {params.hash_block_size} "
        f"--salt {params.salt.hex() or '-'}"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.convert import convert_layer
    from dmsign_fast.pipeline.layers import Expected, read_pieces

    expected = Expected(digest=args.digest, diff_id=args.diff_id, media_type=args.media_type)
    with work(args, "converting", total_size([args.layer])) as done:
        converted = convert_layer(
            read_pieces(args.layer),
            args.out,
            recipe(args),
            expected,
            conversion(args),
            verity=args.verity,
            protect=[args.layer],
            progress=done,
        )
    known = layer_json(args.layer, converted.layer)
    if args.output == "json":
        files = {
            "image": str(converted.image),
            "hash_file": str(converted.hash_file) if converted.hash_file else None,
            "hash_offset": converted.hash_offset,
            "sidecar": str(converted.sidecar) if converted.sidecar else None,
        }
        print_json(known | files | done.json)
    else:
        print(f"Root hash:      \t{known['root_hash']}")
        print(f"Image:          \t{converted.image}")
        print(f"UUID:           \t{known['uuid'] or ''}")
        print(f"Data blocks:    \t{known['data_blocks']}")
        print(f"Data block size:\t{known['data_block_size']}")
        if converted.hash_file:
            print(f"Hash file:      \t{converted.hash_file}")
            print(f"Hash offset:    \t{converted.hash_offset}")
        else:
            options = _tree_options(converted.layer.image.recipe)
            print(f"To sign it:     \tdmsign-fast verity sign {converted.image} {options} ...")
    print_summary(args, done, "converted")
    return 0
