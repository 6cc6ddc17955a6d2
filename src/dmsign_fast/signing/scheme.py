"""The one table that relates a key, a signature family, a hash and their names in PKCS#7.

The pairs are those that Linux accepts for a dm-verity root hash (``dm-verity-verify-sig.c``,
``crypto/asymmetric_keys/pkcs7_parser.c``), less the weak ones: RSA of any size with SHA-256, 384
or 512, and each NIST curve with the hash of its own strength.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from dmsign_fast.errors import ParameterError, SigningError

__all__ = [
    "SCHEMES",
    "Family",
    "KeySpec",
    "Scheme",
    "certificate_key_spec",
    "key_spec_of",
    "pkcs7_scheme",
    "signature_matches",
]

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


class KeySpec(StrEnum):
    """The kind and size of a key, by the names of the Notary Project."""

    RSA_2048 = "RSA-2048"
    RSA_3072 = "RSA-3072"
    RSA_4096 = "RSA-4096"
    EC_256 = "EC-256"
    EC_384 = "EC-384"
    EC_521 = "EC-521"


class Family(StrEnum):
    """How the digest becomes a signature."""

    RSA_PKCS1 = "rsassa-pkcs1-v1_5"
    ECDSA = "ecdsa"


@dataclass(frozen=True, slots=True)
class Scheme:
    """One row of the table: all that ``Signer.sign`` must be told besides the message.

    ``digest`` is hashlib's name, which is also asn1crypto's name of the PKCS#7 digestAlgorithm;
    ``pkcs7_signature`` is asn1crypto's name of the digestEncryptionAlgorithm.
    """

    family: Family
    digest: str
    key_specs: tuple[KeySpec, ...]
    pkcs7_signature: str

    @property
    def name(self) -> str:
        """The family and the digest, as in ``rsassa-pkcs1-v1_5-sha256``."""
        return f"{self.family}-{self.digest}"

    @property
    def hash_algorithm(self) -> hashes.HashAlgorithm:
        """The digest as ``cryptography`` takes it."""
        return _HASHES[self.digest]

    def __str__(self) -> str:
        return self.name


_RSA = (KeySpec.RSA_2048, KeySpec.RSA_3072, KeySpec.RSA_4096)

SCHEMES = (
    # The first row that takes a key is its default. PKCS#7 names RSA PKCS#1 v1.5 rsaEncryption
    # whatever the hash: pkcs7_sig_note_pkey_algo() refuses sha256WithRSAEncryption.
    Scheme(Family.RSA_PKCS1, "sha256", _RSA, "rsassa_pkcs1v15"),
    Scheme(Family.RSA_PKCS1, "sha384", _RSA, "rsassa_pkcs1v15"),
    Scheme(Family.RSA_PKCS1, "sha512", _RSA, "rsassa_pkcs1v15"),
    Scheme(Family.ECDSA, "sha256", (KeySpec.EC_256,), "sha256_ecdsa"),
    Scheme(Family.ECDSA, "sha384", (KeySpec.EC_384,), "sha384_ecdsa"),
    Scheme(Family.ECDSA, "sha512", (KeySpec.EC_521,), "sha512_ecdsa"),
)


def key_spec_of(public_key: object) -> KeySpec:
    """Return the key spec of a public key of ``cryptography``, or raise SigningError."""
    if isinstance(public_key, rsa.RSAPublicKey):
        found = f"RSA-{public_key.key_size}"
    elif isinstance(public_key, ec.EllipticCurvePublicKey):
        found = {"secp256r1": "EC-256", "secp384r1": "EC-384", "secp521r1": "EC-521"}.get(
            public_key.curve.name, f"the curve {public_key.curve.name}"
        )
    else:
        found = type(public_key).__name__.removesuffix("PublicKey")
    try:
        return KeySpec(found)
    except ValueError:
        raise SigningError(
            f"no support for a key of the kind {found}; use one of {', '.join(KeySpec)}"
        ) from None


def certificate_key_spec(certificate: x509.Certificate) -> KeySpec:
    """Return the key spec of the certificate's public key, or raise SigningError."""
    try:
        return key_spec_of(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SigningError(f"the public key of the certificate cannot be read: {error}") from None


def pkcs7_scheme(key_spec: KeySpec, digest: str | None = None) -> Scheme:
    """Return the scheme that signs a root hash with such a key, its default without ``digest``.

    Raises ParameterError, which lists the possible digests, when the pair is not in the table.
    """
    possible = [scheme for scheme in SCHEMES if key_spec in scheme.key_specs]
    for scheme in possible:
        if digest in (None, scheme.digest):
            return scheme
    digests = " or ".join(scheme.digest for scheme in possible)
    raise ParameterError(f"a key {key_spec} signs a root hash with {digests}, not with {digest}")


def signature_matches(
    certificate: x509.Certificate, message: bytes, signature: bytes, scheme: Scheme
) -> bool:
    """Tell whether the certificate's key made ``signature`` over ``message`` as ``scheme``.

    The whole message is given, not its digest; an ECDSA signature is DER (r, s). False also for a
    key that is not of the scheme. Raises SigningError for a key of an unknown kind.
    """
    if certificate_key_spec(certificate) not in scheme.key_specs:
        return False
    key = certificate.public_key()
    digest = scheme.hash_algorithm
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(digest))
    except InvalidSignature:
        return False
    return True
