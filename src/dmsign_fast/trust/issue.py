"""Keys and certificates made here: by ``cert generate-test``, and for the tests of this project."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import cast

from cryptography import x509

from dmsign_fast.signing.scheme import KEYS, Digest, Family, KeySpec, PrivateKey, pkcs7_scheme

__all__ = ["PrivateKey", "certificate", "generate_key", "signature_digest"]

_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def generate_key(key_spec: KeySpec) -> PrivateKey:
    """Make a private key of this kind; RSA has the exponent 65537.

    Raises SigningError for ML-DSA where ``cryptography`` has none.
    """
    return cast("PrivateKey", KEYS[key_spec].generate())


def signature_digest(key_spec: KeySpec) -> Digest | None:
    """Return the hash with which a key of this kind signs certificates; ML-DSA has none."""
    scheme = pkcs7_scheme(key_spec)
    return None if scheme.family is Family.ML_DSA else scheme.hash_algorithm


def certificate(
    subject: x509.Name,
    key: PrivateKey,
    issuer: x509.Name,
    issuer_key: PrivateKey,
    *,
    validity: tuple[datetime, datetime],
    ca: bool | None = None,
    path_length: int | None = None,
    usages: Collection[str] | None = None,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    """Return a certificate (RFC 5280) that its issuer has to sign, with both key identifiers.

    ``ca`` None leaves basicConstraints out, ``usages`` None leaves keyUsage out; usages are named
    as in ``x509.KeyUsage``. Both extensions are critical. ``serial`` None is a random number.
    """
    public, above = key.public_key(), issuer_key.public_key()
    builder = (
        x509.CertificateBuilder(issuer, subject, public)
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    if usages is not None:
        flags = {usage: usage in usages for usage in _USAGES}
        builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
    return builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(public), critical=False
    ).add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False)
