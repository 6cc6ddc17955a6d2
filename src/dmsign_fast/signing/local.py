"""A signer whose private key and certificates are files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, unquote

from cryptography import x509

from dmsign_fast.errors import ParameterError, SigningError
from dmsign_fast.signing.certificates import chain_of_key, load_certificates, moment
from dmsign_fast.signing.key_files import read_key_file
from dmsign_fast.signing.providers import KeyOptions
from dmsign_fast.signing.scheme import (
    KeySpec,
    PrivateKey,
    Scheme,
    key_spec_of,
)
from dmsign_fast.signing.signer import Signer

__all__ = ["LocalSigner", "load_local_signer", "open_signer"]


@dataclass(frozen=True, slots=True)
class LocalSigner:
    """A Signer over a private key in memory; make one with ``load_local_signer``."""

    key_spec: KeySpec
    certificate_chain: tuple[x509.Certificate, ...]
    _key: PrivateKey = field(repr=False)

    def sign(self, message: bytes, scheme: Scheme) -> bytes:
        """Return the raw signature over ``message``; see ``Signer.sign``."""
        scheme.check_key(self.key_spec)
        return self._key.sign(message, *scheme.arguments)


def load_local_signer(
    key: Path,
    chain: Path | None,
    passphrase: Callable[[], bytes] | None = None,
    *,
    at: datetime | None = None,
) -> Signer:
    """Load a private key and the certificates that go with it.

    ``key`` is PKCS#8, PKCS#1 or SEC1, PEM or DER, or PKCS#12, encrypted or not; ``passphrase`` is
    called only when it is encrypted. ``chain`` is a PEM bundle or a DER certificate, None or the
    same path if the certificates are in the key's file: the leaf is the one with the key's public
    half, the rest must be its issuers, in any order.
    ``at``, by default now, is when the certificates must be valid.

    Raises StorageError for a file that cannot be read, FormatError for one that is no key or no
    certificate, SigningError for a wrong or missing passphrase, a kind of key that cannot sign,
    a key that is not the certificate's, or a chain that must not sign.
    """
    found = read_key_file(key, passphrase)
    public_key = found.key.public_key()
    chain = chain or key
    certificates = found.certificates if chain == key else None
    if certificates is None:
        certificates = load_certificates(chain)
    if not certificates:
        raise SigningError(f"{key} holds no certificate: give its certificate with --cert")
    try:
        ordered = chain_of_key(public_key, certificates, moment(at))
    except SigningError as error:
        raise SigningError(f"{chain}: {error}") from None
    return LocalSigner(key_spec_of(public_key), ordered, found.key)


def open_signer(uri: str, options: KeyOptions) -> Signer:
    """Return the signer of ``file:KEY?cert=CHAIN``; both are paths, percent-encoded if need be.

    Without ``cert`` the certificates are those of the options, or stand in the key's own file.
    """
    path, _, query = uri.removeprefix("file:").partition("?")
    try:
        members = parse_qs(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        members = {"": []}
    if not path or set(members) - {"cert"} or len(members.get("cert", [])) > 1:
        raise ParameterError(f"{uri} is not file:KEY?cert=CHAIN")
    key = Path(unquote(path, errors="surrogateescape"))
    named = [Path(one) for one in members.get("cert", [])]
    if named and options.certificates:
        raise ParameterError(f"{uri} names its certificates: leave --cert out")
    chain = named[0] if named else options.certificates
    ask = functools.partial(options.ask, f"passphrase of {key}")
    return load_local_signer(key, chain, ask, at=options.at)
