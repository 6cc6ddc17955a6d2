"""A key and a chain of certificates for tests, which kernels and notation accept alike."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dmsign_fast.errors import ParameterError
from dmsign_fast.signing.certificates import moment
from dmsign_fast.signing.scheme import KeySpec
from dmsign_fast.trust.config_edit import changing
from dmsign_fast.trust.issue import PrivateKey, certificate, generate_key, signature_digest
from dmsign_fast.trust.keys import LocalKey, load_signing_keys
from dmsign_fast.trust.store import TrustedFile, is_name, put_certificates

__all__ = ["Generated", "generate_chain", "generate_test"]

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
) -> tuple[PrivateKey, tuple[x509.Certificate, x509.Certificate]]:
    """Make a private key, its certificate and a root above it, valid from ``at``, by default now.

    The names are those of notation's test certificates, so that the identity ``x509.subject: C=US,
    ST=WA, O=Notary`` fits. The root's key is of the same kind and forgotten: it issues no other.
    """
    start = moment(at).replace(microsecond=0)
    leaf_key, root_key = generate_key(key_spec), generate_key(key_spec)
    root_name = _subject(f"{name} root")
    issuer, validity = (root_name, root_key), (start, start + valid_for)
    root = certificate(
        *(root_name, root_key, *issuer),
        validity=validity,
        ca=True,
        path_length=0,
        usages=("key_cert_sign",),
    )
    leaf = certificate(
        *(_subject(name), leaf_key, *issuer),
        validity=validity,
        ca=False,
        usages=("digital_signature",),
    ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    digest = signature_digest(key_spec)
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


def _subject(name: str) -> x509.Name:
    values = {
        NameOID.COUNTRY_NAME: "US",
        NameOID.STATE_OR_PROVINCE_NAME: "WA",
        NameOID.LOCALITY_NAME: "Seattle",
        NameOID.ORGANIZATION_NAME: "Notary",
        NameOID.COMMON_NAME: name,
    }
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in values.items()])
