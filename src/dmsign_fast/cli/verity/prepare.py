"""``dmsign-fast verity prepare``: hash data, and write what must be signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.keys import add_and_key, add_signature_options
from dmsign_fast.cli.options import AGENT
from dmsign_fast.cli.output import print_json, print_summary, work
from dmsign_fast.cli.signing_requests import (
    add_signing_request_options,
    chain_of,
    others_of,
    print_messages,
)
from dmsign_fast.cli.verity.header import formatted_header, print_header
from dmsign_fast.cli.verity.options import data_size, format_arguments
from dmsign_fast.cli.verity.sign import add_signed_file, signed_paths, take_recipe

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "hash data and write what must be signed, for a key that is elsewhere; then see attach"
EXAMPLES = """\
examples:
  dmsign-fast verity prepare image.erofs --cert chain.pem -o to-sign
  openssl dgst -sha256 -sign key.pem -out to-sign/root-hash-1.txt.sig to-sign/root-hash-1.txt
  dmsign-fast verity attach to-sign image.erofs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_signed_file(parser)
    add_signing_request_options(parser)
    add_and_key(parser, here=False)
    add_signature_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.files import prepare_file

    take_recipe(args)
    paths, chain, arguments = signed_paths(args), chain_of(args.cert), format_arguments(args)
    (and_chain,) = others_of(args).values() or ((),)
    with work(args, "hashing", data_size(args)) as done:
        formatted, signing_request = prepare_file(
            args.data,
            paths,
            chain,
            directory=args.directory,
            and_chain=and_chain,
            agent=AGENT,
            digest=args.digest,
            certificates=not args.no_certs,
            progress=done,
            **arguments,
        )
    known = formatted_header(formatted, args.hash_offset)
    if args.output == "json":
        files = {
            "hash_file": str(paths.hash_file),
            "root_hash_file": str(paths.root_hash),
            "directory": str(args.directory),
            "to_sign": [message.json for message in signing_request.messages],
        }
        print_json(known | files | done.json)
    else:
        print_header(paths.hash_file, known)
        print(f"Root hash file: \t{paths.root_hash}")
        print_messages(signing_request)
    print_summary(args, done, "hashed")
    return 0
