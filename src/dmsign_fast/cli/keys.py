"""Keys on the command line, and where their passphrases come from: never from the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.errors import ParameterError, SigningError
from dmsign_fast.outputs import storage_errors

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from dmsign_fast.signing.signer import Signer

__all__ = [
    "add_key_options",
    "add_passphrase_options",
    "add_signature_options",
    "passphrase_of",
    "signer_of",
]


def add_passphrase_options(parser: argparse.ArgumentParser) -> None:
    """Where the passphrase of an encrypted key is."""
    add = parser.add_argument
    add("--passphrase-file", type=Path, help="of an encrypted key: first line")
    add("--passphrase-env", metavar="NAME", help="the environment variable that holds it")


def add_signature_options(parser: argparse.ArgumentParser) -> None:
    """What a signature for the kernel is like."""
    add = parser.add_argument
    add(
        "--digest",
        choices=("sha256", "sha384", "sha512"),
        help="of root hash signatures; default: sha256 for RSA",
    )
    add("--no-certs", action="store_true", help="leave the certificates out")


def add_key_options(parser: argparse.ArgumentParser) -> None:
    """A key of its own, or one of notation's configuration."""
    add = parser.add_argument_group("key").add_argument
    add(
        "--key",
        metavar="FILE|NAME",
        help="private key, PEM or DER, with --cert; or a key in signingkeys.json of notation, by "
        "default the default key there",
    )
    add("--cert", type=Path, metavar="FILE", help="its certificate and the chain to the root, PEM")
    add_passphrase_options(parser)


def passphrase_of(args: argparse.Namespace, key: Path) -> Callable[[], bytes]:
    """What gives the passphrase of a key: a file, the environment or a person."""

    def passphrase() -> bytes:
        if args.passphrase_file:
            with storage_errors("read", args.passphrase_file):
                return bytes(args.passphrase_file.read_bytes().partition(b"\n")[0])
        if args.passphrase_env:
            value = os.environb.get(os.fsencode(args.passphrase_env))
            if value is None:
                raise SigningError(f"the environment variable {args.passphrase_env} is not set")
            return value
        if not sys.stdin.isatty():
            raise SigningError(
                f"{key} is encrypted and there is no terminal to ask on: give --passphrase-file "
                "or --passphrase-env"
            )
        import getpass

        try:
            return getpass.getpass(f"Passphrase of {key}: ").encode()
        except EOFError:
            raise SigningError(f"no passphrase was given for {key}") from None

    return passphrase


def signer_of(args: argparse.Namespace) -> Signer:
    """The signer that ``--key`` and ``--cert`` name."""
    from dmsign_fast.signing.local import load_local_signer

    if args.cert:
        if not args.key:
            raise ParameterError("--cert needs --key, the private key that belongs to it")
        key = Path(args.key)
        return load_local_signer(key, args.cert, passphrase_of(args, key))
    from dmsign_fast.trust.keys import LocalKey, load_signing_keys
    from dmsign_fast.trust.store import config_directory

    known = load_signing_keys(config_directory())
    if args.key not in known.keys and args.key and Path(args.key).is_file():
        raise ParameterError(f"{args.key} is a file: give its certificate too, with --cert")
    named = known.get(args.key)
    if not isinstance(named, LocalKey):
        raise ParameterError(
            f"the key {named.name} is one of the plugin {named.plugin}, and plugins are not "
            "supported yet: use a key in a file"
        )
    return load_local_signer(named.key, named.certificates, passphrase_of(args, named.key))
