"""Keys on the command line, and where their passphrases come from: never from the command line."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from dmsign_fast.cli.options import by_name, name_and_value, positive_seconds, section
from dmsign_fast.errors import ParameterError, SigningError
from dmsign_fast.outputs import storage_errors
from dmsign_fast.processes import forbid_core_dumps, withhold

if TYPE_CHECKING:
    from collections.abc import Callable

    from dmsign_fast.signing.signer import Signer

__all__ = [
    "add_and_key",
    "add_key_options",
    "add_manifest_key",
    "add_plugin_options",
    "add_signature_options",
    "other_signer_of",
    "secret_of",
    "signer_of",
]


def _digest(text: str) -> str:
    from dmsign_fast.signing.scheme import SCHEMES

    known = dict.fromkeys(scheme.digest for scheme in SCHEMES if scheme.pkcs7_signature)
    if text not in known:
        message = f"{text!r} is not one of {', '.join(known)}"
        raise argparse.ArgumentTypeError(message)
    return text


def add_signature_options(parser: argparse.ArgumentParser) -> None:
    """What a signature for the kernel is like."""
    add = section(parser, "signatures of root hashes, for the kernel").add_argument
    add(
        "--digest",
        type=_digest,
        metavar="NAME",
        help="hash of the signatures for the kernel, such as sha512; default: what the key wants, "
        "sha256 for RSA",
    )
    add(
        "--no-certs",
        action="store_true",
        help="leave the certificates out of the signatures for the kernel",
    )


def add_key_options(parser: argparse.ArgumentParser) -> None:
    """Which key signs: a file, the URI of a key elsewhere, or a name in signingkeys.json."""
    add = section(parser, "key").add_argument
    add(
        "--key",
        metavar="FILE|URI|NAME",
        help="sign with this key: a file (PEM or DER with --cert, or PKCS#12), the URI of a key "
        "elsewhere (docs/providers.md), or a name of dmsign-fast key; default: the default key "
        "there",
    )
    add(
        "--cert",
        type=Path,
        metavar="FILE",
        help="the certificate of --key, and its chain to the root (PEM); default: those in --key",
    )
    add_plugin_options(add)
    add(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="read the passphrase of the key, or the PIN of the token, from the first line",
    )
    add(
        "--passphrase-env",
        metavar="NAME",
        help="take the passphrase or PIN from this environment variable",
    )


def add_and_key(parser: argparse.ArgumentParser, *, here: bool = True) -> None:
    """Which key signs root hashes too, in the same message; unless it is ``here``, who has it."""
    _add_other(parser, "and", "sign root hashes with this key too, in the same PKCS#7", here)


def add_manifest_key(parser: argparse.ArgumentParser, *, here: bool = True) -> None:
    """Which key signs manifests, where not that of the root hashes; see ``add_and_key``."""
    what = "sign manifests with this key instead, as ML-DSA keys cannot"
    _add_other(parser, "manifest", what, here)


def _add_other(parser: argparse.ArgumentParser, name: str, what: str, here: bool) -> None:
    add = section(parser, "further keys").add_argument
    about = f"the certificate of --{name}-key, and its chain (PEM)"
    if here:
        add(f"--{name}-key", metavar="FILE|URI|NAME", help=what)
    else:
        about = f"{what}: its certificate and chain (PEM)"
    add(
        f"--{name}-cert",
        type=Path,
        metavar="FILE",
        help=about,
    )


def add_plugin_options(
    add: Callable[..., object],
    which: str = "the plugin that keeps the key",
    timeout: float = 300.0,
) -> None:
    """What a plugin is told, and how long it has."""
    add(
        "--plugin-config",
        type=name_and_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"tell this to {which}; may be repeated",
    )
    add(
        "--plugin-timeout",
        type=positive_seconds,
        default=timeout,
        metavar="SECONDS",
        help=f"wait so long for each answer of a plugin, with PINs and taps; default: {timeout:g}",
    )


def secret_of(args: argparse.Namespace) -> Callable[[str], bytes]:
    """What gives a passphrase or PIN: a file, the environment or a person."""
    if args.passphrase_env:
        withhold(args.passphrase_env)

    def secret(what: str) -> bytes:
        forbid_core_dumps()
        if args.passphrase_file:
            with storage_errors("read", args.passphrase_file):
                return bytes(args.passphrase_file.read_bytes().partition(b"\n")[0])
        if args.passphrase_env:
            value = os.environb.get(os.fsencode(args.passphrase_env))
            if value is None:
                raise SigningError(
                    f"the environment variable {args.passphrase_env} is not set: set it to the "
                    f"{what}"
                )
            return value
        if not sys.stdin.isatty():
            raise SigningError(
                f"the {what} is needed and there is no terminal to ask on: give --passphrase-file "
                "or --passphrase-env"
            )
        import getpass

        try:
            return getpass.getpass(f"{what[0].upper()}{what[1:]}: ").encode()
        except EOFError:
            raise SigningError(f"the {what} was not given") from None

    return secret


def signer_of(args: argparse.Namespace) -> Signer:
    """The signer that ``--key`` and ``--cert`` name."""
    return _open(args, args.key, args.cert)


def other_signer_of(args: argparse.Namespace, name: str) -> Signer | None:
    """The signer that ``--NAME-key`` and ``--NAME-cert`` name, None without.

    Passphrases, PINs and what plugins are told are those of ``--key``.
    """
    key, certificates = getattr(args, f"{name}_key"), getattr(args, f"{name}_cert")
    if certificates and not key:
        raise ParameterError(f"--{name}-cert needs --{name}-key")
    return _open(args, key, certificates) if key else None


def _open(args: argparse.Namespace, key: str | None, certificates: Path | None) -> Signer:
    from dmsign_fast.signing.providers import KeyOptions, is_key_uri, open_signer

    options = KeyOptions(
        certificates=certificates,
        secret=secret_of(args),
        config=by_name(args.plugin_config, "--plugin-config"),
        timeout=args.plugin_timeout,
    )
    if key and is_key_uri(key):
        return open_signer(key, options)
    if certificates and not key:
        raise ParameterError("--cert needs --key, the private key that belongs to it")
    in_file = f"file:{quote(key or '', errors='surrogateescape')}"
    if certificates and key and Path(key).exists():
        return open_signer(in_file, options)
    from dmsign_fast.trust.keys import PluginKey, load_signing_keys
    from dmsign_fast.trust.store import config_directory

    known = load_signing_keys(config_directory())
    if certificates and key and not isinstance(known.keys.get(key), PluginKey):
        return open_signer(in_file, options)
    if key not in known.keys and key and Path(key).is_file():
        from dmsign_fast.signing.key_files import has_own_certificates

        if has_own_certificates(Path(key)):
            return open_signer(in_file, options)
        raise ParameterError(f"{key} is a file: give its certificate too, with --cert")
    named = known.get(key)
    if isinstance(named, PluginKey):
        uri = f"plugin:{quote(named.plugin, safe='')}?id={quote(named.id, safe='')}"
        return open_signer(uri, replace(options, config={**named.config, **options.config}))
    uri = f"file:{quote(str(named.key), errors='surrogateescape')}"
    return open_signer(uri, replace(options, certificates=named.certificates))
