"""Directories with what is to be signed elsewhere, on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.options import section
from dmsign_fast.cli.output import print_line, shown

if TYPE_CHECKING:
    import argparse

    from cryptography import x509

    from dmsign_fast.pipeline.signing_request import By, SigningRequest

__all__ = [
    "add_directory",
    "add_signing_request_options",
    "chain_of",
    "others_of",
    "print_messages",
    "print_signers",
]


def add_signing_request_options(parser: argparse.ArgumentParser) -> None:
    """What there is of the key here, and where to write what it is to sign."""
    add = section(parser, "key").add_argument
    add(
        "--cert",
        type=Path,
        required=True,
        metavar="FILE",
        help="the certificate of the key, which signs elsewhere, and its chain to the root (PEM)",
    )
    add(
        "-o",
        "--directory",
        type=Path,
        required=True,
        metavar="DIR",
        help="write what is to be signed into this directory, which is new or empty",
    )


def add_directory(parser: argparse.ArgumentParser) -> None:
    """The positional DIR."""
    parser.add_argument(
        "directory",
        metavar="DIR",
        type=Path,
        help="the directory that prepare wrote, now with signatures",
    )


def chain_of(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates in a file, leaf first, each followed by its issuer."""
    from dmsign_fast.errors import SigningError
    from dmsign_fast.signing.certificates import chain_of_key, load_certificates

    found = load_certificates(path)
    try:
        return chain_of_key(found[0].public_key(), found, datetime.now(UTC))
    except SigningError as error:
        raise SigningError(f"{path}: {error}") from None


def others_of(args: argparse.Namespace) -> dict[By, tuple[x509.Certificate, ...]]:
    """The certificates of the other keys that are to sign."""
    from dmsign_fast.pipeline.signing_request import By

    paths = {By.AND: args.and_cert, By.MANIFEST: getattr(args, "manifest_cert", None)}
    return {by: chain_of(path) for by, path in paths.items() if path}


def print_signers(signing_request: SigningRequest) -> None:
    """By whom the signatures are, as the directory says."""
    for name, subject in signing_request.signers.items():
        title = f"{name.replace('_', ' ').capitalize()}:"
        print(f"{title:<16}\t{shown(subject)}")


def print_messages(signing_request: SigningRequest) -> None:
    """What is to be signed, and how."""
    print_line(f"Sign in {signing_request.directory}, each to NAME.sig:")
    for by in signing_request.chains:
        if by:
            print(f"  {by}*  by the key of {by.chain}")
    for message in signing_request.messages:
        print_line(f"  {message.file}  {message.scheme}  {message.what}")
