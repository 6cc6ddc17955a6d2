"""``dmsign-fast verity explain``: what stands in blocks of an image."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.cli.verity.explained import (
    explained_json,
    merged,
    places_json,
    print_layer,
    print_places,
    write_page,
)
from dmsign_fast.cli.verity.hash_tree_file import HashTreeFile, add_hash_file, hash_tree_file
from dmsign_fast.cli.verity.options import whole_number
from dmsign_fast.cli.verity.whose import add_whose, whose
from dmsign_fast.errors import FormatError, ParameterError, VerificationError

if TYPE_CHECKING:
    from dmsign_fast.pipeline.explain import Explained
    from dmsign_fast.pipeline.whose import Whose

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "say what stands in blocks of an EROFS image: which file, or which metadata"
EXAMPLES = """\
examples:
  dmsign-fast verity explain image.erofs 1234              block 1234 of the device
  dmsign-fast verity explain image.erofs @5054464 20-29    a byte, and ten blocks
  dmsign-fast verity explain image.erofs 1234 --html report.html
  dmsign-fast verity explain image.erofs                   all of it
  dmsign-fast verity explain image.erofs 7 --image registry.example/app:1.0    whose layer it is
what verity verify finds to be bad: dmsign-fast verity verify ... --explain
"""
_TARGET = re.compile(r"(@?)(\d{1,18})(?:-(\d{1,18}))?")


class _Target(NamedTuple):
    """Blocks, or bytes, from ``first`` to ``last``."""

    text: str
    bytes: bool
    first: int
    last: int


def _target(text: str) -> _Target:
    match = _TARGET.fullmatch(text)
    if not match or int(match[3] or match[2]) < int(match[2]):
        message = f"{text!r} is neither a block, such as 7 or 7-9, nor bytes, such as @4096"
        raise argparse.ArgumentTypeError(message)
    return _Target(text, bool(match[1]), int(match[2]), int(match[3] or match[2]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("image", metavar="IMAGE", type=Path, help="the EROFS image: a file or device")
    add(
        "targets",
        metavar="BLOCK|@OFFSET",
        type=_target,
        nargs="*",
        help="a block of the image, or a byte behind @; A-B for several; default: the whole image",
    )
    add(
        "--data-block-size",
        type=whole_number,
        metavar="BYTES",
        help="size of a block; default: that of the hash tree",
    )
    add("--html", type=Path, metavar="FILE", help="write a page with a map of the image too")
    add_hash_file(parser)
    add_whose(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.explain import explain
    from dmsign_fast.verity.source import open_source

    tree = hash_tree_file(args)
    layer = whose(args, tree)
    with open_source(args.image) as source:
        size = source.seekable_size("explaining")
        if tree:
            size = min(size, tree.data_size)
        block = _block_size(args, tree) or explain(source, size, []).block_size or 4096
        asked = [_range(one, block, size) for one in args.targets] or [(0, size)]
        ranges = merged(asked, size)
        explained = explain(source, size, ranges)
        if args.html:
            write_page(args.html, args.image, source, explained, ranges, tree=tree, layer=layer)
    names = [one.text for one in args.targets] or ["all"]
    if args.output == "json":
        found: list[dict[str, Any]] = [
            {
                "asked": name,
                "offset": offset,
                "size": length,
                "places": places_json(explained.cut(offset, length)),
            }
            for name, (offset, length) in zip(names, asked, strict=True)
        ]
        known = {"image": str(args.image)} | explained_json(explained, layer)
        print_json(known | {"ranges": found})
        return _status(args, explained, layer)
    print_layer(layer)
    if args.images and not layer:
        print_line(f"no layer of {', '.join(args.images)} has this root hash")
    for name, (offset, length) in zip(names, asked, strict=True):
        print_line(f"{name}: bytes {offset}-{offset + length - 1} of {args.image}")
        print_places(explained, explained.cut(offset, length))
    return _status(args, explained, layer)


def _status(args: argparse.Namespace, explained: Explained, layer: Whose | None) -> int:
    """That of an error where there is no answer; what there is to say is printed already."""
    if explained.problem:
        return FormatError.exit_code
    return VerificationError.exit_code if args.images and not layer else 0


def _block_size(args: argparse.Namespace, tree: HashTreeFile | None) -> int | None:
    size = args.data_block_size
    if size is None:
        return tree.params.data_block_size if tree else None
    if not 512 <= size <= 512 << 10 or size & (size - 1):
        raise ParameterError(f"--data-block-size {size} is no power of two from 512 to 524288")
    return int(size)


def _range(target: _Target, block: int, size: int) -> tuple[int, int]:
    unit = 1 if target.bytes else block
    first, end = target.first * unit, (target.last + 1) * unit
    if first >= size:
        raise ParameterError(
            f"{target.text} is behind the end of the image, which has {size} bytes"
        )
    return first, min(end, size) - first
