"""``dmsign-fast verity attach``: the signature of a root hash that was made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_json
from dmsign_fast.cli.signing_requests import add_directory, print_signers
from dmsign_fast.cli.verity.options import add_data
from dmsign_fast.cli.verity.sign import add_names, add_verity_sig, signed_paths

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "verify the signature of what prepare wrote, and write it as the kernel takes it"
EXAMPLES = """\
examples:
  dmsign-fast verity attach to-sign image.erofs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_directory(parser)
    add_data(parser)
    add = parser.add_argument
    add(
        "--root-hash-file",
        type=Path,
        metavar="FILE",
        help="the file with the root hash; default: DATA.roothash",
    )
    add_names(parser)
    add_verity_sig(parser)
    parser.set_defaults(hash=None)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.files import attach_file
    from dmsign_fast.pipeline.signing_request import SigningRequest

    signing_request = SigningRequest.read(args.directory, "file")
    paths = signed_paths(args)
    attach_file(signing_request, paths)
    if args.output == "json":
        print_json({"signature_file": str(paths.signature)} | signing_request.signers)
    else:
        print(f"Signature file: \t{paths.signature}")
        print_signers(signing_request)
    return 0
