"""``dmsign-fast verity sign``: hash data and sign the root hash."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.keys import (
    add_and_key,
    add_key_options,
    add_signature_options,
    other_signer_of,
    signer_of,
)
from dmsign_fast.cli.output import print_json, print_summary, shown, work
from dmsign_fast.cli.verity.header import formatted_header, print_header
from dmsign_fast.cli.verity.options import add_data, add_format_options, data_size, format_arguments
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    from dmsign_fast.pipeline.files import SignedPaths

__all__ = [
    "EXAMPLES",
    "HELP",
    "add_arguments",
    "add_names",
    "add_signed_file",
    "add_verity_sig",
    "run",
    "signed_paths",
    "take_recipe",
]

HELP = "hash data, write the hash area, and sign the root hash for the kernel"
EXAMPLES = """\
examples:
  dmsign-fast verity sign image.erofs --key key.pem --cert chain.pem
  dmsign-fast verity sign image.erofs --key key.pem --cert chain.pem --passphrase-file secret
  dmsign-fast verity sign layer.erofs --recipe containerd --key key.pem --cert chain.pem
then:
  veritysetup open image.erofs NAME image.erofs.verity \\
      --root-hash-file image.erofs.roothash --root-hash-signature image.erofs.roothash.p7s
"""


def add_signed_file(parser: argparse.ArgumentParser) -> None:
    """The data, its hash tree, and where all goes."""
    add_data(parser)
    parser.add_argument(
        "hash",
        metavar="HASH",
        type=Path,
        nargs="?",
        help="write the hash area here; default: DATA.verity (without .raw)",
    )
    add_names(parser)
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="take the salt and block sizes of this recipe of layers, as the node does",
    )
    add_format_options(parser)
    parser.set_defaults(data_block_size=None, hash_block_size=None)


def add_names(parser: argparse.ArgumentParser) -> None:
    """The names of the signature's files."""
    from dmsign_fast.pipeline.files import PARTITIONS

    add = parser.add_argument
    add(
        "--signature",
        type=Path,
        metavar="FILE",
        help="the signature; default: DATA.roothash.p7s (without .raw)",
    )
    add(
        "--partition",
        choices=PARTITIONS,
        default=PARTITIONS[0],
        help="name the files as systemd looks for them: root for /, usr for /usr (DATA.usrhash); "
        "default: root",
    )
    parser.set_defaults(verity_sig_json=False)


def add_verity_sig(parser: argparse.ArgumentParser) -> None:
    """The signature once more, as systemd has it in partitions."""
    parser.add_argument(
        "--verity-sig-json",
        action="store_true",
        help="write DATA.verity-sig.json too, what systemd reads in a verity signature partition",
    )


def take_recipe(args: argparse.Namespace) -> None:
    """Fill in what the options leave to the recipe, or to the defaults where none is named."""
    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.verity.params import VerityParams

    params = Recipe.parse(args.recipe).params if args.recipe else VerityParams()
    for name in ("data_block_size", "hash_block_size", "salt"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(params, name))


def signed_paths(args: argparse.Namespace) -> SignedPaths:
    """Where all goes."""
    from dmsign_fast.pipeline.files import SignedPaths

    if str(args.data) == "-" and not (args.hash and args.root_hash_file and args.signature):
        raise ParameterError("with DATA - give the names of HASH, --root-hash-file and --signature")
    if str(args.data) == "-" and args.verity_sig_json:
        raise ParameterError("--verity-sig-json needs the name of DATA for that of its file")
    beside = SignedPaths.beside(args.data, args.partition, verity_sig=args.verity_sig_json)
    return SignedPaths(
        args.hash or beside.hash_file,
        args.root_hash_file or beside.root_hash,
        args.signature or beside.signature,
        beside.verity_sig,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_signed_file(parser)
    add_verity_sig(parser)
    add_key_options(parser)
    add_and_key(parser)
    add_signature_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.files import sign_file

    take_recipe(args)
    paths = signed_paths(args)
    arguments = format_arguments(args)
    signer, other = signer_of(args), other_signer_of(args, "and")
    with work(args, "hashing", data_size(args)) as done:
        signed = sign_file(
            args.data,
            paths,
            signer,
            and_by=(other,) if other else (),
            digest=args.digest,
            certificates=not args.no_certs,
            progress=done,
            **arguments,
        )
    known = formatted_header(signed.formatted, args.hash_offset)
    subject = signer.certificate_chain[0].subject.rfc4514_string()
    if args.output == "json":
        files = {
            "hash_file": str(paths.hash_file),
            "root_hash_file": str(paths.root_hash),
            "signature_file": str(paths.signature),
            "verity_sig_file": str(paths.verity_sig) if paths.verity_sig else None,
            "signer": subject,
        }
        print_json(known | files | done.json)
    else:
        print_header(paths.hash_file, known)
        print(f"Root hash file: \t{paths.root_hash}")
        print(f"Signature file: \t{paths.signature}")
        if paths.verity_sig:
            print(f"Verity sig JSON:\t{paths.verity_sig}")
        print(f"Signer:         \t{shown(subject)}")
    print_summary(args, done, "hashed and signed")
    return 0
