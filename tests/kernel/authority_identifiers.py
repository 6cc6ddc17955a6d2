"""Certificates that name their issuers in all ways: by key identifier, name and number, not."""

from __future__ import annotations

import pki
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID


def make_named(namer: pki.Entity) -> dict[str, pki.Entity]:
    """Make certificates that the root issued, or did not, as they have it."""
    key, serial = _identifier(namer.certificate.public_key()), namer.certificate.serial_number
    ways = {
        "none": (),
        "serial": (_authority(namer, None, serial),),
        "both": (_authority(namer, key, serial),),
        "wrong-key": (_authority(namer, bytes(20), serial),),
        "wrong-serial": (_authority(namer, key, 7),),
    }
    named = {f"names {way}": _make(f"Names {way}", namer, *more) for way, more in ways.items()}
    thief = pki.make_root("Trusted Namer", key_name="thief")
    by_key = x509.AuthorityKeyIdentifier(key, None, None)
    return named | {"stolen": _make("Stolen", thief, by_key), "halfway": _make_halfway()}


def _make_halfway() -> pki.Entity:
    """Self-signed, with its own key identifier, and a serial number of another."""
    own = x509.SubjectKeyIdentifier(_identifier(pki.make_key("EC-256", "Halfway").public_key()))
    names = [x509.DirectoryName(_name("Halfway"))]
    return _make("Halfway", None, own, x509.AuthorityKeyIdentifier(own.digest, names, 7))


def _authority(issuer: pki.Entity, key: bytes | None, serial: int) -> x509.AuthorityKeyIdentifier:
    names = [x509.DirectoryName(issuer.certificate.issuer)]
    return x509.AuthorityKeyIdentifier(key, names, serial)


def _identifier(key) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(key).digest


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _make(name: str, issuer: pki.Entity | None, *extensions: x509.ExtensionType) -> pki.Entity:
    """As pki.make_entity, but with these extensions and no others."""
    key = pki.make_key("EC-256", name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer.certificate.subject if issuer else _name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(pki.NOW - pki.DAY)
        .not_valid_after(pki.NOW + 30 * pki.DAY)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    return pki.Entity(key, certificate, issuer.chain if issuer else ())
