"""Where the hash tree of an image is: options that explain and proof share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dmsign_fast.cli.verity.options import whole_number

if TYPE_CHECKING:
    import argparse

    from dmsign_fast.verity.params import HashArea, VerityParams

__all__ = ["HashTreeFile", "add_hash_file", "hash_tree_file", "tree_of_options"]


class HashTreeFile(NamedTuple):
    """A file with a superblock and a hash area.

    Attributes:
        path: of the file, which may be the image.
        params: of the tree.
        data_blocks: that it covers.
        area: where its levels stand.
    """

    path: Path
    params: VerityParams
    data_blocks: int
    area: HashArea

    @property
    def data_size(self) -> int:
        """Bytes of the data that it covers."""
        return self.data_blocks * self.params.data_block_size


def add_hash_file(parser: argparse.ArgumentParser) -> None:
    """The options; a tree needs its superblock."""
    add = parser.add_argument
    add(
        "--hash-file",
        type=Path,
        metavar="FILE",
        help="the file with the hash tree; default: IMAGE.verity",
    )
    add(
        "--hash-offset",
        type=whole_number,
        metavar="BYTES",
        help="where the superblock is, in IMAGE unless --hash-file is given; default: 0",
    )


def hash_tree_file(args: argparse.Namespace) -> HashTreeFile | None:
    """The tree that the options name, or that stands beside the image; None if there is none.

    Raises:
        FormatError: no superblock there.
        StorageError: the file cannot be read.
    """
    from dmsign_fast.pipeline.files import SignedPaths
    from dmsign_fast.verity.source import open_source
    from dmsign_fast.verity.verify import read_superblock

    path, offset = args.hash_file, args.hash_offset or 0
    if path is None:
        beside = SignedPaths.beside(args.image).hash_file
        if args.hash_offset is not None:
            path = args.image
        elif beside.exists():
            path = beside
        else:
            return None
    with open_source(path) as source:
        superblock = read_superblock(source, offset)
    params, blocks = superblock.params, superblock.data_blocks
    return HashTreeFile(path, params, blocks, params.hash_area(blocks, hash_offset=offset))


def tree_of_options(args: argparse.Namespace, data_blocks: int) -> HashTreeFile:
    """The tree of a command that has HASH and the options of ``add_tree_options``."""
    from dmsign_fast.cli.verity.options import params
    from dmsign_fast.verity.source import open_source
    from dmsign_fast.verity.verify import read_superblock

    if args.no_superblock:
        used = params(args)
    else:
        with open_source(args.hash) as source:
            used = read_superblock(source, args.hash_offset).params
    area = used.hash_area(
        data_blocks, hash_offset=args.hash_offset, superblock=not args.no_superblock
    )
    return HashTreeFile(args.hash, used, data_blocks, area)
