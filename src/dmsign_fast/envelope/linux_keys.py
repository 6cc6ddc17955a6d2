"""Certificates, keys and raw signatures as Linux takes them, with its errors.

Its files are ``x509_cert_parser.c``, ``x509_public_key.c`` and ``public_key.c`` in
``crypto/asymmetric_keys/``, ``crypto/rsassa-pkcs1.c`` and ``crypto/ecdsa.c``. It pairs keys and
digests more freely than the table in ``signing.scheme``, and takes SHA-1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from asn1crypto import algos, core
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from dmsign_fast.signing.certificates import extension, name_of

__all__ = [
    "RawSignature",
    "RefusedError",
    "authority_of",
    "check_certificate",
    "id_of",
    "is_self_signed",
    "key_identifier_of",
    "signature_of",
    "verify",
]

_CURVES = ("secp256r1", "secp384r1", "secp521r1")

# x509_note_sig_algo(); the digests are cryptography's and hashlib's names
_ALGORITHMS = {
    oid: (family, digest)
    for family, digest, oid in (
        ("rsa", "sha1", x509.SignatureAlgorithmOID.RSA_WITH_SHA1),
        ("rsa", "sha224", x509.SignatureAlgorithmOID.RSA_WITH_SHA224),
        ("rsa", "sha256", x509.SignatureAlgorithmOID.RSA_WITH_SHA256),
        ("rsa", "sha384", x509.SignatureAlgorithmOID.RSA_WITH_SHA384),
        ("rsa", "sha512", x509.SignatureAlgorithmOID.RSA_WITH_SHA512),
        ("rsa", "sha3_256", x509.SignatureAlgorithmOID.RSA_WITH_SHA3_256),
        ("rsa", "sha3_384", x509.SignatureAlgorithmOID.RSA_WITH_SHA3_384),
        ("rsa", "sha3_512", x509.SignatureAlgorithmOID.RSA_WITH_SHA3_512),
        ("ecdsa", "sha1", x509.SignatureAlgorithmOID.ECDSA_WITH_SHA1),
        ("ecdsa", "sha224", x509.SignatureAlgorithmOID.ECDSA_WITH_SHA224),
        ("ecdsa", "sha256", x509.SignatureAlgorithmOID.ECDSA_WITH_SHA256),
        ("ecdsa", "sha384", x509.SignatureAlgorithmOID.ECDSA_WITH_SHA384),
        ("ecdsa", "sha512", x509.SignatureAlgorithmOID.ECDSA_WITH_SHA512),
        ("ecdsa", "sha3_256", x509.SignatureAlgorithmOID.ECDSA_WITH_SHA3_256),
        ("ecdsa", "sha3_384", x509.SignatureAlgorithmOID.ECDSA_WITH_SHA3_384),
        ("ecdsa", "sha3_512", x509.SignatureAlgorithmOID.ECDSA_WITH_SHA3_512),
    )
}


class RefusedError(Exception):
    """Linux would stop here: the name of its error, why, and what to do."""

    def __init__(self, errno: str, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.errno, self.reason, self.advice = errno, reason, advice


@dataclass(frozen=True, slots=True)
class RawSignature:
    """A signature and the message that it is to be over; ``family`` is rsa or ecdsa."""

    message: bytes
    signature: bytes
    digest: str
    family: str


def id_of(certificate: x509.Certificate) -> tuple[x509.Name, int]:
    """Return what Linux knows a certificate by: issuer and serial number."""
    return certificate.issuer, certificate.serial_number


def key_identifier_of(certificate: x509.Certificate) -> bytes | None:
    """Return the subject key identifier, by which Linux knows it too, or None without one."""
    found = extension(certificate, x509.SubjectKeyIdentifier)
    return found.value.digest if found else None


def authority_of(
    certificate: x509.Certificate,
) -> tuple[tuple[x509.Name, int] | None, bytes | None]:
    """Return how the certificate names its issuer: the other's ``id_of``, its key identifier."""
    found = extension(certificate, x509.AuthorityKeyIdentifier)
    if found is None:
        return None, None
    serial, names = found.value.authority_cert_serial_number, found.value.authority_cert_issuer
    directory = [one.value for one in names or () if isinstance(one, x509.DirectoryName)]
    by_name = (directory[-1], serial) if directory and serial is not None else None
    return by_name, found.value.key_identifier


def signature_of(certificate: x509.Certificate) -> RawSignature:
    """Return the signature of its issuer; RefusedError if Linux does not know that kind."""
    kind = _ALGORITHMS.get(certificate.signature_algorithm_oid)
    if kind is None:
        raise RefusedError(
            "ENOPKG",
            f"the signature of the certificate {name_of(certificate)} is of a kind that Linux "
            "does not know",
            "leave it out, or use RSA PKCS#1 v1.5 or ECDSA with SHA-256, 384 or 512",
        )
    family, digest = kind
    body = certificate.tbs_certificate_bytes
    return RawSignature(body, certificate.signature, digest, family)


def check_certificate(certificate: x509.Certificate) -> None:
    """Raise RefusedError if Linux cannot load it: ``x509_cert_parse()``."""
    signature_of(certificate)
    if _key_of(certificate) is None:
        raise RefusedError(
            _errno_of_key(certificate),
            f"the key of the certificate {name_of(certificate)} is damaged, or of a kind that "
            "Linux does not know",
            "use RSA, or ECDSA on P-256, P-384 or P-521",
        )
    is_self_signed(certificate)


def is_self_signed(certificate: x509.Certificate) -> bool:
    """``x509_check_for_self_signed()``; RefusedError if it says so and is not."""
    if certificate.subject != certificate.issuer:
        return False
    by_name, by_key = authority_of(certificate)
    named = by_name is not None and by_name == id_of(certificate)
    keyed = by_key is not None and by_key == key_identifier_of(certificate)
    if (by_name or by_key) and not (named or keyed):
        return False
    errno = verify(certificate, signature_of(certificate))
    if by_name and by_key and named != keyed:
        errno = "EKEYREJECTED"
    if errno:
        raise RefusedError(
            errno,
            f"the certificate {name_of(certificate)} names itself as its issuer and is not",
            "it is damaged, or not what was issued: take the original",
        )
    return True


def verify(signer: x509.Certificate, signed: RawSignature) -> str:
    """``public_key_verify_signature()``: the name of its error, empty for a good signature."""
    key = _key_of(signer)
    if isinstance(key, rsa.RSAPublicKey) and signed.family == "rsa":
        return _verify_rsa(key, signed)
    if isinstance(key, ec.EllipticCurvePublicKey) and signed.family == "ecdsa":
        return _verify_ecdsa(key, signed)
    return "EKEYREJECTED"


def _key_of(
    certificate: x509.Certificate,
) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key if key.curve.name in _CURVES else None
    return key if isinstance(key, rsa.RSAPublicKey) else None


def _errno_of_key(certificate: x509.Certificate) -> str:
    try:
        certificate.public_key()
    except ValueError:  # damaged: of an elliptic curve it is read later
        elliptic = x509.PublicKeyAlgorithmOID.EC_PUBLIC_KEY
        return "EINVAL" if certificate.public_key_algorithm_oid == elliptic else "EBADMSG"
    except UnsupportedAlgorithm:
        pass
    return "ENOPKG"


def _verify_rsa(key: rsa.RSAPublicKey, signed: RawSignature) -> str:
    """``rsassa_pkcs1_verify()``, which tells a wrong padding from a wrong digest."""
    numbers, size = key.public_numbers(), (key.key_size + 7) // 8
    value = int.from_bytes(signed.signature)
    if len(signed.signature) != size or not 1 < value < numbers.n - 1:
        return "EINVAL"
    block = pow(value, numbers.e, numbers.n).to_bytes(size)
    if block[0] or not block[1]:
        return "EINVAL"
    digest = hashlib.new(signed.digest, signed.message).digest()
    algorithm = {"algorithm": signed.digest, "parameters": core.Null()}
    info = algos.DigestInfo({"digest_algorithm": algorithm, "digest": digest}).dump()
    wanted = b"\0\1" + b"\xff" * (size - 3 - len(info)) + b"\0" + info
    if block[: -len(digest)] != wanted[: -len(digest)]:
        return "EBADMSG"
    return "" if block == wanted else "EKEYREJECTED"


def _verify_ecdsa(key: ec.EllipticCurvePublicKey, signed: RawSignature) -> str:
    try:
        decode_dss_signature(signed.signature)
    except ValueError:
        return "EBADMSG"
    digest: hashes.HashAlgorithm = getattr(hashes, signed.digest.upper())()
    try:
        key.verify(signed.signature, signed.message, ec.ECDSA(digest))
    except InvalidSignature:
        return "EKEYREJECTED"
    return ""
