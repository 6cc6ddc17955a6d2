"""A key and a chain of certificates for tests, which kernels and notation accept alike."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dmsign_fast.errors import ParameterError
from dmsign_fast.signing.certificates import moment
from dmsign_fast.signing.scheme import KeySpec
from dmsign_fast.trust.config_edit import changing
from dmsign_fast.trust.keys import LocalKey, load_signing_keys
from dmsign_fast.trust.store import TrustedFile, is_name, put_certificates

__all__ = ["Generated", "generate_chain", "generate_test"]

_PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

# With the hash of each one's strength, as kernels want it; RSA goes with SHA-256 at any size.
_CURVES: dict[KeySpec, tuple[ec.EllipticCurve, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    KeySpec.EC_256: (ec.SECP256R1(), hashes.SHA256()),
    KeySpec.EC_384: (ec.SECP384R1(), hashes.SHA384()),
    KeySpec.EC_521: (ec.SECP521R1(), hashes.SHA512()),
}
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
_LONGEST_NAME = 59  # a common name has 64 characters, and the root's is longer by " root"
_MOST_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Generated:
    """What ``generate_test`` made, and where; ``chain`` is the leaf and the root."""

    key: LocalKey
    chain: tuple[x509.Certificate, x509.Certificate]
    root: Path


def generate_chain(
    name: str, key_spec: KeySpec, valid_for: timedelta, *, at: datetime | None = None
) -> tuple[_PrivateKey, tuple[x509.Certificate, x509.Certificate]]:
    """Make a private key, its certificate and a root above it, valid from ``at``, by default now.

    The names are those of notation's test certificates, so that the identity ``x509.subject: C=US,
    ST=WA, O=Notary`` fits. The root's key is of the same kind and forgotten: it issues no other.
    """
    start = moment(at).replace(microsecond=0)
    leaf_key, root_key = _generate_key(key_spec), _generate_key(key_spec)
    root_name = _subject(f"{name} root")

    def certificate(
        subject: x509.Name, key: _PrivateKey, usage: str, *, ca: bool
    ) -> x509.CertificateBuilder:
        flags = {one: one == usage for one in _USAGES}
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
        return (
            x509.CertificateBuilder(root_name, subject, key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + valid_for)
            .add_extension(x509.BasicConstraints(ca, 0 if ca else None), critical=True)
            .add_extension(x509.KeyUsage(**flags), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(identifier, critical=False)
        )

    root = certificate(root_name, root_key, "key_cert_sign", ca=True)
    code_signing = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    leaf = certificate(_subject(name), leaf_key, "digital_signature", ca=False).add_extension(
        code_signing, critical=False
    )
    digest = _CURVES[key_spec][1] if key_spec in _CURVES else hashes.SHA256()
    return leaf_key, (leaf.sign(root_key, digest), root.sign(root_key, digest))


def generate_test(
    config: Path,
    name: str,
    key_spec: KeySpec = KeySpec.RSA_2048,
    *,
    store: str | None = None,
    default: bool = False,
    days: int = 1,
) -> Generated:
    """Make a key that signs and is trusted, as ``notation cert generate-test`` does, or nothing.

    The key and its chain go to ``localkeys``, the root to the trust store of type ``ca`` named
    ``store``, by default ``name``, and the key to ``signingkeys.json``. Raises ParameterError for a
    name that is none or is taken in any of them, StorageError where it cannot be written.
    """
    if not is_name(name) or len(name) > _LONGEST_NAME:
        raise ParameterError(
            f"{name!r} is not a name for a key and its certificate: use up to {_LONGEST_NAME} "
            "letters, digits, '_', '.', '-'"
        )
    if not 1 <= days <= _MOST_DAYS:
        raise ParameterError(f"a test certificate is valid for 1 to {_MOST_DAYS} days, not {days}")
    private_key, chain = generate_chain(name, key_spec, timedelta(days=days))
    files = config.absolute() / "localkeys"
    key = LocalKey(name, files / f"{name}.key", files / f"{name}.crt")
    trusted = TrustedFile("ca", store if store is not None else name, f"{name}.crt", chain[1:])
    pkcs8 = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with changing(config) as change:
        keys = load_signing_keys(config).with_key(key, default=default)
        for path in (key.key, key.certificates):
            if os.path.lexists(path):
                raise ParameterError(f"{path} exists already; choose another name")
        change.write(key.key, pkcs8)
        certificates = [one.public_bytes(Encoding.PEM) for one in chain]
        change.write(key.certificates, b"".join(certificates), mode=0o644)
        path = put_certificates(change, config, trusted)
        keys.write(change)
    return Generated(key, chain, path)


def _generate_key(key_spec: KeySpec) -> _PrivateKey:
    if key_spec in _CURVES:
        return ec.generate_private_key(_CURVES[key_spec][0])
    return rsa.generate_private_key(65537, int(key_spec.removeprefix("RSA-")))


def _subject(name: str) -> x509.Name:
    values = {
        NameOID.COUNTRY_NAME: "US",
        NameOID.STATE_OR_PROVINCE_NAME: "WA",
        NameOID.LOCALITY_NAME: "Seattle",
        NameOID.ORGANIZATION_NAME: "Notary",
        NameOID.COMMON_NAME: name,
    }
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in values.items()])
