"""A signer whose private key and certificates are files, PEM or DER."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qs, unquote

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPrivateNumbers
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_pem_private_key,
)

from dmsign_fast.errors import FormatError, ParameterError, SigningError
from dmsign_fast.processes import forbid_core_dumps
from dmsign_fast.signing.certificates import (
    chain_of_key,
    load_certificates,
    moment,
    read_file,
)
from dmsign_fast.signing.providers import KeyOptions
from dmsign_fast.signing.scheme import (
    KeySpec,
    PrivateKey,
    Scheme,
    key_spec_of,
    ml_dsa_problem,
)
from dmsign_fast.signing.signer import Signer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

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
    chain: Path,
    passphrase: Callable[[], bytes] | None = None,
    *,
    at: datetime | None = None,
) -> Signer:
    """Load a private key and the certificates that go with it.

    ``key`` is PKCS#8, PKCS#1 or SEC1, PEM or DER, encrypted or not; ``passphrase`` is called only
    when it is encrypted. ``chain`` is a PEM bundle (it may be the same file) or a DER certificate:
    the leaf is the one with the key's public half, the rest must be its issuers, in any order.
    ``at``, by default now, is when the certificates must be valid.

    Raises StorageError for a file that cannot be read, FormatError for one that is no key or no
    certificate, SigningError for a wrong or missing passphrase, a kind of key that cannot sign,
    a key that is not the certificate's, or a chain that must not sign.
    """
    private_key = _load_private_key(key, passphrase)
    public_key = private_key.public_key()
    certificates = load_certificates(chain)
    try:
        ordered = chain_of_key(public_key, certificates, moment(at))
    except SigningError as error:
        raise SigningError(f"{chain}: {error}") from None
    return LocalSigner(key_spec_of(public_key), ordered, private_key)


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
    chain = named[0] if named else options.certificates or key
    ask = functools.partial(options.ask, f"passphrase of {key}")
    return load_local_signer(key, chain, ask, at=options.at)


def _load_private_key(path: Path, passphrase: Callable[[], bytes] | None) -> PrivateKey:
    # Every `from None` here keeps the library's exceptions, which saw the key, out of tracebacks.
    forbid_core_dumps()
    data = read_file(path)
    encrypted = False
    try:
        private_key = _parse(data, None)
    except TypeError:  # so the library says that the key is encrypted
        encrypted = True
    except UnsupportedAlgorithm as error:
        raise SigningError(f"{path}: no support for this kind of key: {error}{_ml_dsa()}") from None
    except ValueError:
        raise FormatError(
            f"{path} is not a private key; give a PEM or DER file of PKCS#8, PKCS#1 or SEC1"
            f"{_ml_dsa()}"
        ) from None
    if encrypted:
        if passphrase is None:
            raise SigningError(f"{path} is encrypted; give its passphrase")
        try:
            private_key = _parse(data, passphrase())
        except (TypeError, ValueError, UnsupportedAlgorithm):
            raise SigningError(
                f"wrong passphrase for {path}, or an encryption without support; if the passphrase "
                "is right, convert the key with 'openssl pkcs8 -topk8 -v2 aes-256-cbc'"
            ) from None
    try:
        key_spec_of(private_key.public_key())
    except SigningError as error:
        raise SigningError(f"{path}: {error}") from None
    return cast("PrivateKey", private_key)


def _parse(data: bytes, passphrase: bytes | None) -> PrivateKeyTypes:
    """As the library does; ValueError for an RSA key whose numbers do not belong together.

    The library would prove too that an RSA key's factors are prime, which takes 90 ms, and longer
    than all signatures of an image. Where they are not, no signature is one of the certificate's
    key, and who signs here checks that.
    """
    load = load_pem_private_key if b"-----BEGIN " in data else load_der_private_key
    key = load(data, passphrase, unsafe_skip_rsa_key_validation=True)
    if isinstance(key, RSAPrivateKey) and not _sound(key.private_numbers()):
        raise ValueError("the numbers of the RSA key do not belong together")
    return key


def _sound(key: RSAPrivateNumbers) -> bool:
    """RFC 8017, section 3.2."""
    p, q, d, e = key.p, key.q, key.d, key.public_numbers.e
    return (
        p * q == key.public_numbers.n
        and min(p, q, e) > 2
        and all(number % 2 for number in (p, q, e))
        and 0 < d < key.public_numbers.n
        and e * d % (p - 1) == e * d % (q - 1) == 1
        and (key.dmp1, key.dmq1) == (d % (p - 1), d % (q - 1))
        and 0 < key.iqmp < p
        and key.iqmp * q % p == 1
    )


def _ml_dsa() -> str:
    """What the end of a message adds where the key may be one of ML-DSA."""
    problem = ml_dsa_problem()
    return f"; if it is a key of ML-DSA: {problem}" if problem else ""
