"""A throw-away PKI: keys of every kind, certificates good and bad, chains, and their files.

    root = make_root()
    leaf = make_leaf(make_intermediate(root), key="RSA-2048")
    files = leaf.write(tmp_path)          # files.key, files.chain, files.root, ...

Keys are made once for each (kind, name) and test process: RSA-4096 takes a second.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import asn1crypto.x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from dmsign_fast.trust.issue import certificate, generate_key

KEY_SPECS = ("RSA-2048", "RSA-3072", "RSA-4096", "EC-256", "EC-384", "EC-521")
ML_DSA_SPECS = ("ML-DSA-44", "ML-DSA-65", "ML-DSA-87")
"""Which sign root hashes alone: the Notary Project has no ML-DSA."""

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)

_OTHER_CURVES = {"EC-256K1": ec.SECP256K1(), "EC-224": ec.SECP224R1()}


@cache
def make_key(kind: str, name: str = ""):
    """Return the private key of that kind and name: of KeySpec, RSA-<bits>, a curve, or Ed25519."""
    if kind in (*KEY_SPECS, *ML_DSA_SPECS):
        return generate_key(kind)
    if kind in _OTHER_CURVES:
        return ec.generate_private_key(_OTHER_CURVES[kind])
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.removeprefix("RSA-")))


@dataclass(frozen=True)
class Files:
    """Where ``Entity.write`` put things; ``bundle`` is the chain without the leaf."""

    key: Path
    leaf: Path
    chain: Path
    bundle: Path
    root: Path


@dataclass(frozen=True)
class Entity:
    """A key, its certificate, and the certificates above it, nearest first."""

    key: object
    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return (self.certificate, *self.above)

    @property
    def root(self) -> x509.Certificate:
        return self.chain[-1]

    def key_pem(self, passphrase: bytes | None = None, *, traditional: bool = False) -> bytes:
        """Return the key as PKCS#8, or in OpenSSL's older form, encrypted with a passphrase."""
        form = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
        encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, form, encryption)

    def write(self, directory: Path, passphrase: bytes | None = None) -> Files:
        """Write PEM files into the directory, which is made if it is not there."""
        directory.mkdir(parents=True, exist_ok=True)
        contents = {
            "key": self.key_pem(passphrase),
            "leaf": pem(self.certificate),
            "chain": pem(*self.chain),
            "bundle": pem(*self.above),
            "root": pem(self.root),
        }
        for name, data in contents.items():
            (directory / f"{name}.pem").write_bytes(data)
        return Files(**{name: directory / f"{name}.pem" for name in contents})


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def make_entity(
    name: str,
    issuer: Entity | None = None,
    *,
    key: str = "EC-256",
    key_name: str | None = None,
    ca: bool | None = None,
    path_length: int | None = None,
    usage: tuple[str, ...] | None = None,
    start: datetime = NOW - DAY,
    end: datetime = NOW + 30 * DAY,
    serial: int | None = None,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    rsa_padding=None,
    subject: x509.Name | None = None,
) -> Entity:
    """Make a certificate, self-signed without ``issuer``.

    ``ca``, ``path_length`` and ``usage`` go to ``certificate`` of generate-test. The key is the
    one called ``key_name``, by default ``name``.
    """
    private = make_key(key, key_name or name)
    signing_key = issuer.key if issuer else private
    subject = subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = certificate(
        *(subject, private, issuer.certificate.subject if issuer else subject, signing_key),
        validity=(start, end),
        ca=ca,
        path_length=path_length,
        usages=usage,
        serial=serial,
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    classic = isinstance(signing_key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    digest = hashes.SHA256() if classic else None
    made = builder.sign(signing_key, digest, rsa_padding=rsa_padding)
    return Entity(private, made, issuer.chain if issuer else ())


def make_root(name: str = "Test Root", **options) -> Entity:
    return make_entity(name, **{"ca": True, "usage": ("key_cert_sign",), **options})


def make_intermediate(issuer: Entity, name: str = "Test Intermediate", **options) -> Entity:
    return make_entity(name, issuer, **{"ca": True, "usage": ("key_cert_sign",), **options})


def make_leaf(issuer: Entity | None = None, name: str = "Test Signer", **options) -> Entity:
    """Make a certificate that may sign, self-signed without ``issuer``."""
    return make_entity(name, issuer, **{"ca": False, "usage": ("digital_signature",), **options})


def make_expired_leaf(issuer: Entity | None = None, **options) -> Entity:
    return make_leaf(issuer, **{"start": NOW - 9 * DAY, "end": NOW - 2 * DAY, **options})


def make_no_signature_leaf(issuer: Entity | None = None, **options) -> Entity:
    """Make a leaf whose key usage lacks digitalSignature."""
    return make_leaf(issuer, **{"usage": ("key_encipherment",), **options})


def make_not_a_ca(issuer: Entity, name: str = "Not A CA", **options) -> Entity:
    """Make a CA:FALSE certificate to issue others with."""
    return make_entity(
        name, issuer, **{"ca": False, "usage": ("digital_signature", "key_cert_sign"), **options}
    )


def make_v1_leaf(issuer: Entity) -> Entity:
    """Make an X.509 v1 certificate."""

    def to_v1(tbs) -> None:
        tbs["version"] = "v1"
        tbs["extensions"] = None

    return _changed(make_leaf(issuer, "v1"), issuer, hashes.SHA256(), to_v1)


def make_sha1_leaf(issuer: Entity) -> Entity:
    """Make a certificate that its issuer signs with SHA-1."""
    return _changed(make_leaf(issuer, "sha1"), issuer, hashes.SHA1(), lambda tbs: None)


def _changed(made: Entity, issuer: Entity, digest, change) -> Entity:
    """What the library refuses to make: ``change`` is given the certificate before it is signed."""
    parsed = asn1crypto.x509.Certificate.load(der(made.certificate))
    tbs = parsed["tbs_certificate"]
    change(tbs)
    is_rsa = isinstance(issuer.key, rsa.RSAPrivateKey)
    how = (padding.PKCS1v15(), digest) if is_rsa else (ec.ECDSA(digest),)
    algorithm = {"algorithm": f"{digest.name}_{'rsa' if is_rsa else 'ecdsa'}"}
    tbs["signature"] = parsed["signature_algorithm"] = algorithm
    parsed["signature_value"] = issuer.key.sign(tbs.dump(force=True), *how)
    return replace(made, certificate=x509.load_der_x509_certificate(parsed.dump(force=True)))


def openssl(*arguments: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess:
    """Run the openssl program; fail the test, with the way to get it, where there is none."""
    if shutil.which("openssl") is None:
        message = "the openssl program is missing; install it, as with 'apt install openssl'"
        raise AssertionError(message)
    done = subprocess.run(
        ["openssl", *arguments], cwd=cwd, capture_output=True, timeout=60, check=False
    )
    if check and done.returncode != 0:
        raise AssertionError(f"openssl {' '.join(arguments)}: {done.stderr.decode()}")
    return done
