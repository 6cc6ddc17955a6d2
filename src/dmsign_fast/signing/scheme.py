"""Two tables: the kinds of keys, and what relates them to a family, a hash and names in envelopes.

Two verifiers decide what is in it. Linux takes for a dm-verity root hash
(``dm-verity-verify-sig.c``, ``crypto/asymmetric_keys/pkcs7_parser.c``) RSA PKCS#1 v1.5 of any size
with SHA-256, 384 or 512, never PSS, and from 7.0 on ML-DSA (FIPS 204), if it was built with it. The
Notary Project takes for an artifact (signature specification, "Algorithm selection") RSA-PSS with
the hash of the key's size, never PKCS#1 v1.5, and no ML-DSA. Both take each NIST curve with the
hash of its own strength.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import cryptography
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dmsign_fast.errors import ParameterError, SigningError

try:
    from cryptography.hazmat.primitives.asymmetric import mldsa
except ImportError:
    mldsa = None  # type: ignore[assignment]

__all__ = [
    "KEYS",
    "ML_DSA",
    "SCHEMES",
    "Digest",
    "Family",
    "KeyKind",
    "KeySpec",
    "PrivateKey",
    "Scheme",
    "certificate_key_spec",
    "from_fixed_width",
    "key_form_problem",
    "key_spec_of",
    "ml_dsa_problem",
    "notary_scheme",
    "pkcs7_scheme",
    "signature_matches",
    "to_fixed_width",
]

T = TypeVar("T")

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

Digest = hashes.SHA256 | hashes.SHA384 | hashes.SHA512

_HASHES: dict[str, Digest] = {
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
    ML_DSA_44 = "ML-DSA-44"
    ML_DSA_65 = "ML-DSA-65"
    ML_DSA_87 = "ML-DSA-87"

    @classmethod
    def parse(cls, text: str) -> KeySpec:
        """Return the kind of that name, in any case; ParameterError if there is none."""
        try:
            return cls(text.upper())
        except ValueError:
            raise ParameterError(f"no key is {text!r}: use {', '.join(cls)}") from None


ML_DSA = {
    "2.16.840.1.101.3.4.3.17": KeySpec.ML_DSA_44,
    "2.16.840.1.101.3.4.3.18": KeySpec.ML_DSA_65,
    "2.16.840.1.101.3.4.3.19": KeySpec.ML_DSA_87,
}
"""The OIDs of ML-DSA, of keys and of signatures alike (RFC 9881)."""
_FIRST_WITH_ML_DSA = 48  # cryptography: 47 has the module, and its wheels no ML-DSA


@dataclass(frozen=True, slots=True)
class KeyKind:
    """One row of the table of keys.

    Attributes:
        spec: the name.
        public: the class of ``cryptography`` of its public keys; empty where that has none.
        generate: makes a private key.
        size: in bits, of the RSA modulus or of the field of the curve; None if ``public`` has keys
            of one size alone.
        curve: of ECDSA.
    """

    spec: KeySpec
    public: type[Any] | tuple[()]
    generate: Callable[[], Any]
    size: int | None = None
    curve: ec.EllipticCurve | None = None

    @property
    def coordinate(self) -> int:
        """The bytes of r and of s where they are written at full width; 0 without a curve."""
        return (self.curve.key_size + 7) // 8 if self.curve else 0

    def has(self, public_key: Any) -> bool:
        """Return True if a public key of ``cryptography`` is of this kind."""
        if not isinstance(public_key, self.public):
            return False
        if self.curve is not None and public_key.curve.name != self.curve.name:
            return False
        return self.size is None or public_key.key_size == self.size


def _rsa(size: int) -> KeyKind:
    generate = functools.partial(rsa.generate_private_key, 65537, size)
    return KeyKind(KeySpec(f"RSA-{size}"), rsa.RSAPublicKey, generate, size)


def _ec(curve: ec.EllipticCurve) -> KeyKind:
    generate = functools.partial(ec.generate_private_key, curve)
    spec = KeySpec(f"EC-{curve.key_size}")
    return KeyKind(spec, ec.EllipticCurvePublicKey, generate, curve.key_size, curve)


def _ml_dsa(spec: KeySpec) -> KeyKind:
    def generate() -> Any:
        if problem := ml_dsa_problem():
            raise SigningError(problem)
        return getattr(mldsa, f"{name}PrivateKey").generate()

    name = f"MLDSA{spec.value[-2:]}"
    return KeyKind(spec, getattr(mldsa, f"{name}PublicKey", ()), generate)


KEYS = {
    kind.spec: kind
    for kind in (
        *map(_rsa, (2048, 3072, 4096)),
        *map(_ec, (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())),
        *map(_ml_dsa, ML_DSA.values()),
    )
}


class Family(StrEnum):
    """How the digest becomes a signature."""

    RSA_PKCS1 = "rsassa-pkcs1-v1_5"
    RSA_PSS = "rsassa-pss"
    ECDSA = "ecdsa"
    ML_DSA = "ml-dsa"


@dataclass(frozen=True, slots=True)
class Scheme:
    """One row of the table: all that ``Signer.sign`` must be told besides the message.

    ``digest`` is hashlib's name, which is also asn1crypto's name of the PKCS#7 digestAlgorithm:
    of ML-DSA it is there alone, since that takes the message itself (RFC 9882).
    ``pkcs7_signature`` is asn1crypto's name of the digestEncryptionAlgorithm, or the OID of one
    that it does not know, None where Linux does not take the scheme. ``jose`` and ``cose`` are the
    algorithm in a JWS (RFC 7518) and a COSE_Sign1 (RFC 9053, RFC 8230), None where the Notary
    Project does not take it.
    """

    family: Family
    digest: str
    key_specs: tuple[KeySpec, ...]
    pkcs7_signature: str | None
    jose: str | None = None
    cose: int | None = None

    @property
    def name(self) -> str:
        """The family and the digest, as in ``rsassa-pkcs1-v1_5-sha256``, or ``ml-dsa-65``."""
        if self.family is Family.ML_DSA:
            return self.key_specs[0].lower()
        return f"{self.family}-{self.digest}"

    @property
    def hash_algorithm(self) -> Digest:
        """The digest as ``cryptography`` takes it."""
        return _HASHES[self.digest]

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What ``sign`` and ``verify`` of a key of ``cryptography`` take behind the message."""
        return _ARGUMENTS[self.family](self.hash_algorithm)

    @property
    def bits(self) -> str:
        """The size of the digest, as in the names that others have for the scheme."""
        return self.digest.removeprefix("sha")

    def named(self, names: Mapping[Family, T], who: str) -> T:
        """What ``names`` has for the family; SigningError if ``who`` does not know it."""
        if self.family not in names:
            raise SigningError(f"{who} makes no {self} signatures: use a key of another kind")
        return names[self.family]

    def check_key(self, key_spec: KeySpec) -> None:
        """Raise SigningError unless such a key makes such signatures."""
        if key_spec not in self.key_specs:
            raise SigningError(f"a key {key_spec} cannot make a {self} signature")

    def __str__(self) -> str:
        return self.name


_ARGUMENTS: dict[Family, Callable[[Digest], tuple[Any, ...]]] = {
    Family.RSA_PKCS1: lambda digest: (padding.PKCS1v15(), digest),
    # the salt is as long as the digest
    Family.RSA_PSS: lambda digest: (
        padding.PSS(padding.MGF1(digest), digest.digest_size),
        digest,
    ),
    Family.ECDSA: lambda digest: (ec.ECDSA(digest),),
    Family.ML_DSA: lambda _: (),
}

_RSA = (KeySpec.RSA_2048, KeySpec.RSA_3072, KeySpec.RSA_4096)

SCHEMES = (
    # The first row that takes a key is its default. PKCS#7 names RSA PKCS#1 v1.5 rsaEncryption
    # whatever the hash: pkcs7_sig_note_pkey_algo() refuses sha256WithRSAEncryption.
    Scheme(Family.RSA_PKCS1, "sha256", _RSA, "rsassa_pkcs1v15"),
    Scheme(Family.RSA_PKCS1, "sha384", _RSA, "rsassa_pkcs1v15"),
    Scheme(Family.RSA_PKCS1, "sha512", _RSA, "rsassa_pkcs1v15"),
    Scheme(Family.RSA_PSS, "sha256", (KeySpec.RSA_2048,), None, "PS256", -37),
    Scheme(Family.RSA_PSS, "sha384", (KeySpec.RSA_3072,), None, "PS384", -38),
    Scheme(Family.RSA_PSS, "sha512", (KeySpec.RSA_4096,), None, "PS512", -39),
    Scheme(Family.ECDSA, "sha256", (KeySpec.EC_256,), "sha256_ecdsa", "ES256", -7),
    Scheme(Family.ECDSA, "sha384", (KeySpec.EC_384,), "sha384_ecdsa", "ES384", -35),
    Scheme(Family.ECDSA, "sha512", (KeySpec.EC_521,), "sha512_ecdsa", "ES512", -36),
    *(Scheme(Family.ML_DSA, "sha512", (spec,), oid) for oid, spec in ML_DSA.items()),
)


def key_spec_of(public_key: object) -> KeySpec:
    """Return the key spec of a public key of ``cryptography``, or raise SigningError."""
    for kind in KEYS.values():
        if kind.has(public_key):
            return kind.spec
    found = type(public_key).__name__.removesuffix("PublicKey")
    if isinstance(public_key, rsa.RSAPublicKey):
        found = f"RSA-{public_key.key_size}"
    elif isinstance(public_key, ec.EllipticCurvePublicKey):
        found = f"the curve {public_key.curve.name}"
    raise SigningError(f"no support for a key of the kind {found}; use one of {', '.join(KeySpec)}")


@functools.cache
def ml_dsa_problem() -> str | None:
    """Say that the installed ``cryptography`` has no ML-DSA, and what to do, or None."""
    with contextlib.suppress(ImportError, UnsupportedAlgorithm):
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

        MLDSA44PublicKey.from_public_bytes(bytes(1312))
        return None
    return (
        f"cryptography {cryptography.__version__} has no ML-DSA here: "
        f"pip install 'cryptography>={_FIRST_WITH_ML_DSA}'"
    )


def certificate_key_spec(certificate: x509.Certificate) -> KeySpec:
    """Return the key spec of the certificate's public key, or raise SigningError.

    Also for a key that is not written as others read it; see ``key_form_problem``.
    """
    try:
        key_spec = key_spec_of(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        known = certificate.public_key_algorithm_oid.dotted_string in ML_DSA
        why = (ml_dsa_problem() if known else None) or error
        raise SigningError(
            f"the public key of the certificate cannot be read: {why}; use a key of one of "
            f"{', '.join(KeySpec)}"
        ) from None
    if problem := key_form_problem(certificate):
        raise SigningError(problem)
    return key_spec


def key_form_problem(certificate: x509.Certificate) -> str | None:
    """Say that Linux, or Go and so notation, cannot read the certificate's public key, or None.

    They read one encoding alone (RFC 3279, RFC 5480): rsaEncryption with NULL, or a named curve and
    an uncompressed point. ``cryptography`` and OpenSSL read more.
    """
    try:
        key = certificate.public_key()
        usual = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"the public key of the certificate cannot be read: {error}"
    if usual in certificate.tbs_certificate_bytes:
        return None
    return (
        "the public key of the certificate is written in a form that Linux or notation cannot read "
        "(id-RSASSA-PSS, explicit curve parameters, a compressed point): make the key as openssl "
        "does by default, and have the certificate issued for that"
    )


def pkcs7_scheme(key_spec: KeySpec, digest: str | None = None) -> Scheme:
    """Return the scheme that signs a root hash with such a key, its default without ``digest``.

    Raises ParameterError, which lists the possible digests, when the pair is not in the table.
    """
    possible = [
        scheme for scheme in SCHEMES if key_spec in scheme.key_specs and scheme.pkcs7_signature
    ]
    for scheme in possible:
        if digest in (None, scheme.digest):
            return scheme
    digests = " or ".join(scheme.digest for scheme in possible) or "no digest"
    raise ParameterError(f"a key {key_spec} signs a root hash with {digests}, not with {digest}")


def notary_scheme(key_spec: KeySpec) -> Scheme:
    """Return the only scheme in which such a key signs for the Notary Project.

    Raises SigningError when it has none.
    """
    for scheme in SCHEMES:
        if key_spec in scheme.key_specs and scheme.jose:
            return scheme
    raise SigningError(
        f"the Notary Project has no signatures by a key {key_spec}: sign the manifest with another "
        "key (sign --manifest-key and --manifest-cert), or not, with --no-manifest-signature"
    )


def to_fixed_width(signature: bytes, scheme: Scheme) -> bytes:
    """Return the signature as JWS and COSE hold it: ECDSA as r‖s instead of DER."""
    if scheme.family is not Family.ECDSA:
        return signature
    size = KEYS[scheme.key_specs[0]].coordinate
    return b"".join(number.to_bytes(size) for number in decode_dss_signature(signature))


def from_fixed_width(signature: bytes, scheme: Scheme) -> bytes:
    """Return the signature as ``Signer.sign`` does: ECDSA as DER instead of r‖s.

    What is not twice as long as the curve's order comes back empty, and so matches nothing.
    """
    if scheme.family is not Family.ECDSA:
        return signature
    size = KEYS[scheme.key_specs[0]].coordinate
    if len(signature) != 2 * size:
        return b""
    return encode_dss_signature(int.from_bytes(signature[:size]), int.from_bytes(signature[size:]))


def signature_matches(
    certificate: x509.Certificate, message: bytes, signature: bytes, scheme: Scheme
) -> bool:
    """Return True if the certificate's key made ``signature`` over ``message`` in this scheme.

    ``message`` is the whole message, not its digest; an ECDSA signature is DER (r, s). Returns
    False for a key that the scheme does not take. Raises SigningError for an unknown kind of key.
    """
    if certificate_key_spec(certificate) not in scheme.key_specs:
        return False
    key: Any = certificate.public_key()
    try:
        key.verify(signature, message, *scheme.arguments)
    except InvalidSignature:
        return False
    return True
