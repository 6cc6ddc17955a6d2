"""Private keys in files: one row for each form, PEM, PKCS#12 and DER.

A PKCS#12 file (RFC 7292), such as ``.p12`` or ``.pfx``, holds the certificates of its key too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPrivateNumbers
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from dmsign_fast.errors import FormatError, SigningError
from dmsign_fast.processes import forbid_core_dumps
from dmsign_fast.signing.certificates import read_file
from dmsign_fast.signing.file_kinds import is_pkcs12, kind_of_file
from dmsign_fast.signing.key_encryption import (
    check_work,
    encryptions_of_pkcs8,
    encryptions_of_pkcs12,
)
from dmsign_fast.signing.scheme import PrivateKey, key_spec_of, ml_dsa_problem

__all__ = ["KeyFile", "has_own_certificates", "read_key_file"]

_NO_KEY_IN_PKCS12 = (
    "only keys of RSA and ECDSA are read from PKCS#12, and this is another: give it in PEM, with "
    "--cert"
)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a file holds: a private key, and in PKCS#12 the certificates beside it, else None."""

    key: PrivateKey = field(repr=False)
    certificates: tuple[x509.Certificate, ...] | None = None


class _LockedError(Exception):
    """The contents are encrypted, and this is not their passphrase."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How a key is written.

    Attributes:
        matches: whether data has this form.
        load: the contents of data, with a passphrase or None; _LockedError, ValueError or
            UnsupportedAlgorithm.
        certificates: whether data of this form has certificates too.
        remedy: what to do where the passphrase is right, for data and the path.
    """

    matches: Callable[[bytes], bool]
    load: Callable[[bytes, bytes | None], KeyFile]
    certificates: Callable[[bytes], bool]
    remedy: Callable[[bytes, Path], str]


def has_own_certificates(path: Path) -> bool:
    """Whether the file of a key may hold its certificates as well; StorageError as read_file."""
    data = read_file(path)
    return _form_of(data).certificates(data)


def read_key_file(path: Path, passphrase: Callable[[], bytes] | None) -> KeyFile:
    """Read a private key; ``passphrase`` is called only when it is encrypted.

    Raises StorageError for a file that cannot be read, FormatError for one that is no key,
    SigningError for a wrong or missing passphrase or a kind of key that cannot sign.
    """
    # Every `from None` here keeps the library's exceptions, which saw the key, out of tracebacks.
    forbid_core_dumps()
    data = read_file(path)
    form = _form_of(data)
    try:
        found = form.load(data, None)
    except _LockedError:
        found = _unlocked(form, data, path, passphrase)
    except (FormatError, SigningError) as error:
        raise type(error)(f"{path}: {error}") from None
    except UnsupportedAlgorithm as error:
        raise SigningError(f"{path}: no support for this kind of key: {error}{_ml_dsa()}") from None
    except (ValueError, TypeError):
        kind = kind_of_file(data)
        raise FormatError(
            f"{path} is not a private key; give a PEM or DER file of PKCS#8, PKCS#1 or SEC1, or "
            f"PKCS#12{f'; it is {kind}' if kind else ''}{_ml_dsa()}"
        ) from None
    if found.key is None:
        raise FormatError(
            f"{path} is PKCS#12 without a private key: export it with its key, as with 'openssl "
            "pkcs12 -export -inkey KEY -in CERTIFICATES'"
        )
    try:
        key_spec_of(found.key.public_key())
    except SigningError as error:
        raise SigningError(f"{path}: {error}") from None
    return found


def _unlocked(
    form: _Form, data: bytes, path: Path, passphrase: Callable[[], bytes] | None
) -> KeyFile:
    if passphrase is None:
        raise SigningError(f"{path} is encrypted; give its passphrase")
    secret = passphrase()
    try:
        return form.load(data, secret)
    except (FormatError, SigningError) as error:
        raise type(error)(f"{path}: {error}") from None
    except (_LockedError, TypeError, ValueError, UnsupportedAlgorithm):
        raise SigningError(f"wrong passphrase for {path}{form.remedy(data, path)}") from None


def _ml_dsa() -> str:
    """What the end of a message adds where the key may be one of ML-DSA."""
    problem = ml_dsa_problem()
    return f"; if it is a key of ML-DSA: {problem}" if problem else ""


def _by(load: Callable[..., Any]) -> Callable[[bytes, bytes | None], KeyFile]:
    """A loader of ``cryptography``, whose TypeError says that the key is encrypted.

    ValueError for an RSA key whose numbers do not belong together. The library would prove too that
    an RSA key's factors are prime, which takes 90 ms, and longer than all signatures of an image.
    Where they are not, no signature is one of the certificate's key: who signs here checks that.
    """

    def loaded(data: bytes, passphrase: bytes | None) -> KeyFile:
        if passphrase is not None:
            check_work(encryptions_of_pkcs8(data))
        try:
            key = load(data, passphrase, unsafe_skip_rsa_key_validation=True)
        except TypeError:
            raise _LockedError from None
        if isinstance(key, RSAPrivateKey) and not _sound(key.private_numbers()):
            raise ValueError("the numbers of the RSA key do not belong together")
        return KeyFile(key)

    return loaded


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


def _load_pkcs12(data: bytes, passphrase: bytes | None) -> KeyFile:
    check_work(encryptions_of_pkcs12(data))
    try:
        found = pkcs12.load_pkcs12(data, passphrase)
    except ValueError as error:
        if "password" in str(error):  # or the data is damaged, which is not told apart
            raise _LockedError from None
        raise SigningError(_NO_KEY_IN_PKCS12) from None
    first = [found.cert.certificate] if found.cert else []
    certificates = (*first, *(one.certificate for one in found.additional_certs))
    return KeyFile(cast("PrivateKey", found.key), certificates)


def _pkcs12_remedy(data: bytes, path: Path) -> str:
    """What to do, if it has the encryption of old programs, which OpenSSL 3 may not have."""
    if not any(name.startswith(("pkcs12_", "pbes1_")) for name, _ in encryptions_of_pkcs12(data)):
        return ": give the right one"
    return (
        ", or its old encryption (RC2 or 3DES) is not supported; if the passphrase is right, write "
        "it as PEM, encrypted, with its certificates: "
        f"openssl pkcs12 -legacy -in {path} -out NEW.pem"
    )


def _pkcs8_remedy(_data: bytes, _path: Path) -> str:
    return (
        ", or an encryption without support; if the passphrase is right, convert the key with "
        "'openssl pkcs8 -topk8 -v2 aes-256-cbc'"
    )


def _form_of(data: bytes) -> _Form:
    return next(form for form in _FORMS if form.matches(data))


_CERTIFICATE = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----")
_FORMS = (
    _Form(
        lambda data: b"-----BEGIN " in data,
        _by(load_pem_private_key),
        lambda data: _CERTIFICATE.search(data) is not None,
        _pkcs8_remedy,
    ),
    _Form(is_pkcs12, _load_pkcs12, lambda _: True, _pkcs12_remedy),
    _Form(lambda _: True, _by(load_der_private_key), lambda _: False, _pkcs8_remedy),
)
