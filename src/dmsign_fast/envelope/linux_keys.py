"""Public keys and raw signatures as Linux takes them, with its errors.

Its files are ``crypto/asymmetric_keys/public_key.c``, ``crypto/rsassa-pkcs1.c``, ``crypto/rsa.c``,
``crypto/ecdsa-x962.c``, ``crypto/ecdsa.c`` and ``crypto/mldsa.c``. It pairs keys and digests more
freely than the table in ``signing.scheme``, and takes SHA-1.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from asn1crypto import algos, core
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from dmsign_fast.envelope.linux_asn1 import (
    INTEGER,
    SEQUENCE,
    Asn1Error,
    Match,
    Value,
    decode,
)
from dmsign_fast.envelope.linux_ml_dsa import ML_DSA_PARAMETERS, MlDsa
from dmsign_fast.signing.scheme import KeySpec, ml_dsa_problem

__all__ = [
    "CURVES",
    "NO_DIGEST",
    "LinuxKey",
    "RawSignature",
    "RefusedError",
    "UnknownError",
    "key_errno",
    "verify",
]

_LIMB = 8  # bytes of a word of the kernel's large numbers
_MAX_EXPONENT = 256  # bits; ours, since a power takes time in proportion
NO_DIGEST = "none"
_RSA_SIZES = (64, 128, 192, 256, 384, 512)  # rsa_check_key_length(), in bytes

CURVES: dict[str, ec.EllipticCurve] = {
    "1.2.840.10045.3.1.1": ec.SECP192R1(),
    "1.2.840.10045.3.1.7": ec.SECP256R1(),
    "1.3.132.0.34": ec.SECP384R1(),
    "1.3.132.0.35": ec.SECP521R1(),
}
"""x509_extract_key_data(), by their OIDs."""


class RefusedError(Exception):
    """Linux would stop here: the name of its error, why, and what to do."""

    def __init__(self, errno: str, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.errno, self.reason, self.advice = errno, reason, advice


class UnknownError(Exception):
    """The answer of Linux depends on something unknown, such as its configuration."""


@dataclass(frozen=True, slots=True)
class LinuxKey:
    """A public key: the bits of the certificate, its family, and the curve of ECDSA.

    ``family`` is rsa, ecdsa, or a set of parameters of ML-DSA as ``KeySpec`` has it.
    """

    bits: bytes
    family: str
    curve: ec.EllipticCurve | None = None


@dataclass(frozen=True, slots=True)
class RawSignature:
    """A signature and the message that it is to be over; ``family`` is as in LinuxKey.

    ``digest`` is hashlib's name, or ``NO_DIGEST`` where ML-DSA takes the message itself.
    """

    message: bytes
    signature: bytes
    digest: str
    family: str


class _FailedError(Exception):
    """The name of the error of a check of a key or signature."""


@dataclass
class _Numbers:
    """Two numbers in a SEQUENCE, as bytes: the public key of RSA, or a signature of ECDSA.

    ``limit`` is of the bytes of each, a zero in front apart; of a key the exponent is no longer
    than the modulus.
    """

    limit: int | None
    values: list[bytes] = field(default_factory=list)

    def note(self, value: Value) -> None:
        number = value.content
        if self.limit is None:
            limit = len(self.values[0]) if self.values else len(number)
        else:
            limit = self.limit + (number[:1] == b"\0")
        if not 0 < len(number) <= limit:
            raise _FailedError("EINVAL")
        self.values.append(number)


_TWO_NUMBERS = Match(SEQUENCE, parts=(Match(INTEGER, _Numbers.note), Match(INTEGER, _Numbers.note)))


def key_errno(key: LinuxKey) -> str:
    """Return the error with which every signature of this key fails, empty if there is none."""
    load, _ = _family(key)
    return _errno(functools.partial(load, key))


def verify(key: LinuxKey, signed: RawSignature) -> str:
    """``public_key_verify_signature()``: the name of its error, empty for a good signature."""
    if key.family != signed.family:
        return "EKEYREJECTED"
    if signed.digest.startswith("sha3_"):
        raise UnknownError(
            "whether Linux has SHA-3 depends on its modules; dmsign-fast takes SHA-2"
        )
    _, check = _family(key)
    return _errno(functools.partial(check, key, signed))


_Check = Callable[[LinuxKey, RawSignature], None]


def _family(key: LinuxKey) -> tuple[Callable[[LinuxKey], object], _Check]:
    """How such a key is loaded, and how it verifies."""
    if key.family in ML_DSA_PARAMETERS:
        return _load_ml_dsa, _verify_ml_dsa
    return (_load_ecdsa, _verify_ecdsa) if key.curve else (_load_rsa, _verify_rsa)


def _errno(check: Callable[[], object]) -> str:
    try:
        check()
    except _FailedError as failed:
        return str(failed)
    except Asn1Error:
        return "EBADMSG"
    return ""


def _numbers(data: bytes, limit: int | None) -> tuple[int, int]:
    numbers = _Numbers(limit)
    decode(_TWO_NUMBERS, numbers, data)
    first, second = (int.from_bytes(one) for one in numbers.values)
    return first, second


def _load_rsa(key: LinuxKey) -> tuple[int, int, int]:
    """``rsa_set_pub_key()``: modulus, exponent, and the size of a signature in bytes."""
    modulus, exponent = _numbers(key.bits, None)
    size = _words(-(-modulus.bit_length() // 8)) * _LIMB
    if size not in _RSA_SIZES:
        raise _FailedError("EINVAL")
    if exponent.bit_length() > _MAX_EXPONENT:
        raise UnknownError(f"an RSA exponent of {exponent.bit_length()} bits is not tried")
    return modulus, exponent, size


def _verify_rsa(key: LinuxKey, signed: RawSignature) -> None:
    """``rsassa_pkcs1_verify()``, which tells a wrong padding from a wrong digest."""
    modulus, exponent, size = _load_rsa(key)
    value = int.from_bytes(signed.signature)
    if len(signed.signature) != size or not 1 < value < modulus - 1:
        raise _FailedError("EINVAL")
    block = pow(value, exponent, modulus).to_bytes(size)
    if block[0]:
        raise _FailedError("EINVAL")
    digest = hashlib.new(signed.digest, signed.message).digest()
    info = _prefix(signed.digest) + digest
    padding, zero, rest = block[2:].partition(b"\0")
    if block[1] != 1 or not zero or len(padding) < 8 or padding.strip(b"\xff"):
        raise _FailedError("EBADMSG")
    if not rest.startswith(info[: -len(digest)]):
        raise _FailedError("EBADMSG")
    if rest != info:
        raise _FailedError("EKEYREJECTED")


@functools.cache
def _prefix(digest: str) -> bytes:
    """Return what is in front of the digest in a DigestInfo (RFC 8017, section 9.2)."""
    algorithm = {"algorithm": digest, "parameters": core.Null()}
    empty = bytes(hashlib.new(digest).digest_size)
    info = algos.DigestInfo({"digest_algorithm": algorithm, "digest": empty})
    return bytes(info.dump()[: -len(empty)])


def _load_ecdsa(key: LinuxKey) -> ec.EllipticCurvePublicKey:
    """``ecdsa_set_pub_key()``: an uncompressed point, whose halves may have zeros in front."""
    half, odd = divmod(len(key.bits) - 1, 2)
    curve = key.curve
    if (
        curve is None
        or key.bits[:1] != b"\4"
        or odd
        or _words(half) != _words(-(-curve.key_size // 8))
    ):
        raise _FailedError("EINVAL")
    x, y = (int.from_bytes(one) for one in (key.bits[1 : 1 + half], key.bits[1 + half :]))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError:  # not on the curve
        raise _FailedError("EINVAL") from None


def _verify_ecdsa(key: LinuxKey, signed: RawSignature) -> None:
    """``ecdsa_x962_verify()``, for which r and s have no sign."""
    public_key = _load_ecdsa(key)
    r, s = _numbers(signed.signature, _words(-(-public_key.key_size // 8)) * _LIMB)
    order = public_key.curve.group_order
    if not (0 < r < order and 0 < s < order):
        raise _FailedError("EBADMSG")
    digest: hashes.HashAlgorithm = getattr(hashes, signed.digest.upper())()
    try:
        public_key.verify(encode_dss_signature(r, s), signed.message, ec.ECDSA(digest))
    except InvalidSignature:
        raise _FailedError("EKEYREJECTED") from None


def _load_ml_dsa(key: LinuxKey) -> tuple[MlDsa, Any]:
    """``crypto_mldsa_set_pub_key()``: any bytes of the right number are a key."""
    parameters = ML_DSA_PARAMETERS[KeySpec(key.family)]
    if len(key.bits) != parameters.key:
        raise _FailedError("EINVAL")
    if problem := ml_dsa_problem():
        raise UnknownError(problem)
    return parameters, parameters.load(key.bits)


def _verify_ml_dsa(key: LinuxKey, signed: RawSignature) -> None:
    """``mldsa_verify()``."""
    if signed.digest not in (NO_DIGEST, "sha512"):  # software_key_determine_akcipher()
        raise _FailedError("EINVAL")
    parameters, public_key = _load_ml_dsa(key)
    if not parameters.decodes(signed.signature):
        raise _FailedError("EBADMSG")
    try:
        public_key.verify(signed.signature, signed.message)
    except InvalidSignature:
        raise _FailedError("EKEYREJECTED") from None


def _words(size: int) -> int:
    """Return in how many of the kernel's words so many bytes are."""
    return -(-size // _LIMB)
