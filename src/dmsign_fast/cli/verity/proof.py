"""``dmsign-fast verity proof``: one file's blocks with their way up the hash tree."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.cli.verity.hash_tree_file import add_hash_file, hash_tree_file
from dmsign_fast.errors import ParameterError, VerificationError

__all__ = ["ABOUT", "EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "prove a file of a signed image, or a block, without the image"
ABOUT = """\
A proof holds the blocks of a file and the digests on their way up to the root hash. Who trusts the
root hash can check the file by it, and needs neither the image nor its hash tree.
"""
EXAMPLES = """\
examples:
  dmsign-fast verity proof image.erofs /usr/bin/env -o env.proof
  dmsign-fast verity proof image.erofs 1234 -o block.proof
then, where the image is not:
  dmsign-fast verity proof-check env.proof --root-hash ROOT_HASH --file /usr/bin/env
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("image", metavar="IMAGE", type=Path, help="the EROFS image: a file or device")
    add("what", metavar="PATH|BLOCK", help="a file in the image, from /, or the number of a block")
    add(
        "-o", "--out", type=Path, required=True, metavar="FILE", help="write the proof to this file"
    )
    add_hash_file(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.outputs import Outputs
    from dmsign_fast.pipeline.file_proof import blocks_of_file
    from dmsign_fast.pipeline.proof import Statement, check_proof, write_proof
    from dmsign_fast.verity.blocks import block_hash, read_exactly
    from dmsign_fast.verity.source import open_source

    tree = hash_tree_file(args)
    if tree is None:
        raise ParameterError(
            f"there is no hash tree beside {args.image}: give --hash-file or --hash-offset (make "
            "it by dmsign-fast verity format, or layer convert)"
        )
    params, block = tree.params, tree.params.data_block_size
    with open_source(args.image) as source, open_source(tree.path) as hashes:
        if source.seekable_size("a proof") < tree.data_size:
            raise ParameterError(f"{args.image} is shorter than the {tree.data_size} bytes hashed")
        path = None
        if args.what.startswith("/"):
            path = os.fsencode(args.what)
            runs = blocks_of_file(
                lambda offset, size: read_exactly(source.fd, offset, size),
                tree.data_size,
                block,
                path,
            )
        elif args.what.isdecimal() and int(args.what) < tree.data_blocks:
            runs = ((int(args.what), 1),)
        else:
            raise ParameterError(
                f"{args.what!r} is neither a path, which begins with /, nor a block below "
                f"{tree.data_blocks}"
            )
        statement = Statement(params, tree.data_blocks, runs, path)
        if tree.area.levels:
            size = params.hash_block_size
            top = read_exactly(hashes.fd, tree.area.levels[-1].offset, size)
        else:
            top = read_exactly(source.fd, 0, block)
        root_hash = bytes(block_hash(params, len(top)).hash_blocks(top))
        with Outputs() as outputs:
            outputs.protect(args.image)
            outputs.protect(tree.path)
            fd = outputs.open(args.out)
            write_proof(fd, source.fd, hashes.fd, tree.area, statement)
            try:
                check_proof(fd, root_hash)
            except VerificationError as error:
                raise VerificationError(
                    f"{args.image} is not what its hash tree stands for, and cannot be proven: "
                    "dmsign-fast verity verify names what is bad"
                ) from error
            written = os.fstat(fd).st_size
    if args.output == "json":
        print_json(
            {
                "proof": str(args.out),
                "path": args.what if path else None,
                "root_hash": root_hash.hex(),
                "data_blocks": statement.blocks,
                "size": written,
            }
        )
    else:
        print_line(
            f"{args.out}: {statement.blocks} data blocks, {written} bytes; root hash "
            f"{root_hash.hex()}"
        )
    return 0
