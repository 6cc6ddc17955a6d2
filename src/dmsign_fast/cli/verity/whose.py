"""Which layer of which signed image a file or device is, on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.images import add_images_options, verified_images
from dmsign_fast.cli.verity.options import hex_bytes
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    import argparse

    from dmsign_fast.cli.verity.hash_tree_file import HashTreeFile
    from dmsign_fast.pipeline.whose import Whose

__all__ = ["add_whose", "whose"]


def add_whose(parser: argparse.ArgumentParser) -> None:
    """Images whose layers are known by their root hashes."""
    add = parser.add_argument
    add(
        "--image",
        dest="images",
        metavar="REF",
        action="append",
        default=[],
        help="signed: say which layer of it this is, by the root hash; may be repeated",
    )
    add(
        "--root-hash",
        type=hex_bytes,
        metavar="HEX",
        help="the root hash of IMAGE; default: IMAGE.roothash, or what the hash tree gives",
    )
    add_images_options(parser)


def whose(args: argparse.Namespace, tree: HashTreeFile | None) -> Whose | None:
    """The layer; None if no image that is named has it, nor a list beside IMAGE.

    Raises:
        ParameterError: images are named, and the root hash is not known.
        UnsignedError, VerificationError: an image is not signed, or not by whom to believe.
    """
    from dmsign_fast.pipeline.whose import listed_whose, signed_whose

    known = args.root_hash or _root_hash_beside(args) or (_top(args, tree) if tree else None)
    root_hash = known.hex() if known else None
    listed = listed_whose(args.image, root_hash)
    if not args.images:
        return listed
    root_hash = root_hash or (listed.root_hash if listed else None)
    if root_hash is None:
        raise ParameterError(
            "--image looks for a root hash: give --root-hash, --hash-file or --hash-offset"
        )
    for one in verified_images(args, args.images):
        if found := signed_whose(one.store, one.name, one.verdict, root_hash):
            return found
    return None


def _root_hash_beside(args: argparse.Namespace) -> bytes | None:
    from dmsign_fast.pipeline.files import SignedPaths

    path = SignedPaths.beside(args.image).root_hash
    try:
        if not path.is_file():  # whoever made the directory may have made a pipe
            return None
        with path.open("rb") as file:
            return bytes.fromhex(file.read(256).decode())
    except (OSError, ValueError):
        return None


def _top(args: argparse.Namespace, tree: HashTreeFile) -> bytes | None:
    """The digest of the top block: the root hash, unless that block is damaged."""
    from dmsign_fast.errors import StorageError
    from dmsign_fast.verity.digest_path import digest_path
    from dmsign_fast.verity.source import open_source

    try:
        with open_source(args.image) as source, open_source(tree.path) as hashes:
            steps = digest_path(source.fd, hashes.fd, tree.params, tree.area, None, 0)
    except StorageError:
        return None
    return steps[-1].computed
