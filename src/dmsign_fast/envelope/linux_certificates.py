"""Certificates as Linux takes them: ``x509_cert_parser.c`` and ``x509_public_key.c``.

Both are in ``crypto/asymmetric_keys/``. A list of revoked certificates, in the firmware's dbx or
built into the kernel, is not known here.
"""

from __future__ import annotations

import calendar
import functools
from dataclasses import dataclass, replace

from asn1crypto import core
from cryptography import x509

from dmsign_fast.envelope.linux_asn1 import (
    ANY,
    BIT_STRING,
    BOOLEAN,
    GENERALIZED_TIME,
    INTEGER,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    UTC_TIME,
    Asn1Error,
    Match,
    Value,
    choice,
    context,
    decode,
    name_grammar,
)
from dmsign_fast.envelope.linux_keys import (
    CURVES,
    NO_DIGEST,
    LinuxKey,
    RawSignature,
    RefusedError,
    UnknownError,
    key_errno,
    verify,
)
from dmsign_fast.signing.certificates import name_in
from dmsign_fast.signing.scheme import ML_DSA

__all__ = ["LinuxCertificate", "check_key", "decode_time", "oid_of", "parse"]

# x509_note_sig_algo(); the digests are cryptography's and hashlib's names
_ALGORITHMS: dict[str, tuple[str, str]] = {
    oid.dotted_string: (family, digest)
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
} | {oid: (family, NO_DIGEST) for oid, family in ML_DSA.items()}
_GOST_SIGNATURES = ("1.2.643.7.1.1.3.2", "1.2.643.7.1.1.3.3")
_GOST_KEYS = ("1.2.643.7.1.1.1.1", "1.2.643.7.1.1.1.2")

_TIMES = {UTC_TIME: 12, GENERALIZED_TIME: 14}  # how many digits
_EC_KEY = "1.2.840.10045.2.1"
_FAMILIES: dict[str, str] = {"1.2.840.113549.1.1.1": "rsa", _EC_KEY: "ecdsa", **ML_DSA}
_SUBJECT_KEY_IDENTIFIER, _KEY_USAGE = "2.5.29.14", "2.5.29.15"
_BASIC_CONSTRAINTS, _AUTHORITY_KEY_IDENTIFIER = "2.5.29.19", "2.5.29.35"

_OTHER_KEY = "use RSA, ECDSA on P-256, P-384 or P-521, or ML-DSA, as openssl writes it by default"
_ISSUE_ANEW = "have the certificate issued anew as RFC 5280 wants it"


@dataclass(frozen=True, slots=True)
class LinuxCertificate:
    """What Linux keeps of a certificate; names and serial numbers are the bytes in it.

    Attributes:
        encoding: the whole of it.
        key: of the subject.
        signature: of the issuer.
        identifier: serial number and issuer, by which Linux knows it.
        key_identifier: of the subject, by which Linux knows it too.
        authority: the issuer's ``identifier``.
        authority_key: the issuer's ``key_identifier``.
        valid_from: seconds since 1970, as is ``valid_to``.
        is_self_signed: issued by itself, which has been verified.
    """

    encoding: bytes
    key: LinuxKey
    signature: RawSignature
    identifier: bytes
    key_identifier: bytes | None
    authority: bytes | None
    authority_key: bytes | None
    valid_from: int
    valid_to: int
    is_self_signed: bool

    @property
    def name(self) -> str:
        """The subject on one line."""
        return name_in(self.encoding)


class _Parser:
    """What is noted of a certificate while it is decoded."""

    def __init__(self, encoding: bytes) -> None:
        self._encoding = encoding
        self._key: LinuxKey | None = None
        self._signature: RawSignature | None = None
        self._key_identifier: bytes | None = None
        self._authority: bytes | None = None
        self._authority_key: bytes | None = None
        self._authority_extension: bytes | None = None
        self._authority_name: bytes | None = None
        self._valid_from: int | None = None
        self._valid_to: int | None = None
        self._subject: bytes | None = None
        self._serial = self._issuer = self._body = self._parameters = b""
        self._algorithm = self._last_oid = ""

    def _refuse(self, errno: str, reason: str, advice: str = _ISSUE_ANEW) -> RefusedError:
        name = name_in(self._encoding)
        return RefusedError(errno, f"the certificate {name} {reason}", advice)

    def note_oid(self, value: Value) -> None:
        self._last_oid = oid_of(value.content)

    def note_body(self, value: Value) -> None:
        self._body = value.encoding

    def note_serial(self, value: Value) -> None:
        self._serial = value.content

    def note_algorithm(self, _: Value) -> None:
        if self._last_oid in _GOST_SIGNATURES:
            raise UnknownError(
                f"whether Linux knows the signature {self._last_oid} of the certificate "
                f"{name_in(self._encoding)} depends on its configuration"
            )
        if self._last_oid not in _ALGORITHMS:
            raise self._refuse(
                "ENOPKG",
                "has a signature of a kind that Linux does not know",
                "leave it out, or use RSA PKCS#1 v1.5 or ECDSA with SHA-256, 384 or 512",
            )
        self._algorithm = self._last_oid

    def note_issuer(self, value: Value) -> None:
        self._issuer = value.content

    def note_subject(self, value: Value) -> None:
        if self._valid_from is None:
            raise Asn1Error("no validity")
        self._subject = value.content

    def note_not_before(self, value: Value) -> None:
        # where the second time is missing Linux takes the first once more
        self._valid_from = self._valid_to = self._time(value)

    def note_not_after(self, value: Value) -> None:
        self._valid_to = self._time(value)

    def _time(self, value: Value) -> int:
        time = decode_time(value)
        if time is None:
            raise self._refuse(
                "EBADMSG",
                "has a time that Linux refuses: it is before 1970, or its form is not UTCTime up "
                "to 2049 and GeneralizedTime from 2050 on",
            )
        return time

    def note_parameters(self, value: Value) -> None:
        # A certificate has three algorithms: keep the parameters of the key's.
        if self._subject is not None and self._key is None:
            self._parameters = value.encoding

    def note_key(self, value: Value) -> None:
        curve = None
        if self._last_oid in _GOST_KEYS:
            raise UnknownError(
                f"whether Linux knows the key {self._last_oid} of {name_in(self._encoding)} "
                "depends on its configuration"
            )
        if self._last_oid == _EC_KEY:
            named = self._parameters
            if len(named) < 3 or named[0] != OBJECT_IDENTIFIER or named[1] != len(named) - 2:
                raise self._refuse("EBADMSG", "has explicit curve parameters", _OTHER_KEY)
            curve = CURVES.get(oid_of(named[2:]))
        family = _FAMILIES.get(self._last_oid)
        if family is None or (self._last_oid == _EC_KEY and not curve):
            raise self._refuse("ENOPKG", "has a key of a kind that Linux does not know", _OTHER_KEY)
        if value.content[:1] != b"\0":
            raise self._refuse("EBADMSG", "has a key that is not of whole bytes")
        self._key = LinuxKey(value.content[1:], family, curve)

    def note_signature(self, value: Value) -> None:
        if self._last_oid != self._algorithm:
            raise self._refuse("EINVAL", "names two algorithms for its one signature")
        if value.content[:1] != b"\0":
            raise self._refuse("EBADMSG", "has a signature that is not of whole bytes")
        family, digest = _ALGORITHMS[self._algorithm]
        self._signature = RawSignature(self._body, value.content[1:], digest, family)

    def note_extension(self, value: Value) -> None:
        """``x509_process_extension()``."""
        content = value.content
        whole = len(content) >= 2 and content[1] == len(content) - 2
        good = True
        if self._last_oid == _SUBJECT_KEY_IDENTIFIER:
            good = self._key_identifier is None and len(content) > 2 and whole
            good = good and content[0] == OCTET_STRING
            self._key_identifier = content[2:]
        elif self._last_oid == _KEY_USAGE:
            good = len(content) > 3 and content[0] == BIT_STRING and content[2] < 8
        elif self._last_oid == _BASIC_CONSTRAINTS:
            good = whole and content[0] == SEQUENCE
            good = good and (not content[1] or content[2:5] == b"\1\1\xff")
        elif self._last_oid == _AUTHORITY_KEY_IDENTIFIER:
            self._authority_extension = content
        if not good:
            raise self._refuse(
                "EBADMSG",
                f"has an extension {self._last_oid} in a form that Linux does not take, such as "
                "an empty key usage",
            )

    def note_authority_key(self, value: Value) -> None:
        if self._authority_key is None:
            self._authority_key = value.content

    def note_authority_name(self, value: Value) -> None:
        self._authority_name = value.content

    def note_authority_serial(self, value: Value) -> None:
        if self._authority_name is not None and self._authority is None:
            self._authority = value.content + self._authority_name

    def finish(self) -> LinuxCertificate:
        """What ``x509_cert_parse()`` does once the certificate is decoded."""
        if self._authority_extension is not None:
            decode(_AUTHORITY, self, self._authority_extension)
        if (
            self._key is None
            or self._signature is None
            or self._valid_from is None
            or self._valid_to is None
        ):
            raise Asn1Error("a part is missing")
        return LinuxCertificate(
            encoding=self._encoding,
            key=self._key,
            signature=self._signature,
            identifier=self._serial + self._issuer,
            key_identifier=self._key_identifier,
            authority=self._authority,
            authority_key=self._authority_key,
            valid_from=self._valid_from,
            valid_to=self._valid_to,
            is_self_signed=self._check_self_signed(self._key, self._signature),
        )

    def _check_self_signed(self, key: LinuxKey, signature: RawSignature) -> bool:
        """``x509_check_for_self_signed()``; RefusedError if it says so and the signature fails."""
        if self._subject != self._issuer:
            return False
        by_name, by_key = self._authority is not None, self._authority_key is not None
        named = by_name and self._authority == self._serial + self._issuer
        keyed = by_key and self._authority_key == self._key_identifier
        if (by_name or by_key) and not (named or keyed):
            return False
        half = by_name and by_key and named != keyed
        if errno := "EKEYREJECTED" if half else verify(key, signature):
            raise self._refuse(
                errno,
                "names itself as its issuer, but its own key did not sign it, or is of no use to "
                "Linux",
                "take the original if it is damaged; RSA keys have 2048, 3072 or 4096 bits, points "
                "are uncompressed",
            )
        return True


_ALGORITHM = Match(
    SEQUENCE,
    parts=(
        Match(OBJECT_IDENTIFIER, _Parser.note_oid),
        Match(ANY, _Parser.note_parameters, optional=True),
    ),
)
_VALIDITY = Match(
    SEQUENCE,
    parts=(
        *choice(*(Match(tag, _Parser.note_not_before) for tag in _TIMES)),
        *choice(*(Match(tag, _Parser.note_not_after) for tag in _TIMES)),
    ),
)
_KEY = Match(SEQUENCE, parts=(_ALGORITHM, Match(BIT_STRING, _Parser.note_key)))
_EXTENSION = Match(
    SEQUENCE,
    parts=(
        Match(OBJECT_IDENTIFIER, _Parser.note_oid),
        Match(BOOLEAN, optional=True),
        Match(OCTET_STRING, _Parser.note_extension),
    ),
)
_EXTENSIONS = Match(SEQUENCE, parts=(_EXTENSION,), many=True)
_BODY = Match(
    SEQUENCE,
    _Parser.note_body,
    parts=(
        Match(context(0, parts=True), parts=(Match(INTEGER),), optional=True),
        Match(INTEGER, _Parser.note_serial),
        replace(_ALGORITHM, action=_Parser.note_algorithm),
        name_grammar(_Parser.note_oid, _Parser.note_issuer),
        _VALIDITY,
        name_grammar(_Parser.note_oid, _Parser.note_subject),
        _KEY,
        Match(context(1, parts=False), optional=True),
        Match(context(2, parts=False), optional=True),
        Match(context(3, parts=True), parts=(_EXTENSIONS,), optional=True),
    ),
)
_CERTIFICATE = Match(SEQUENCE, parts=(_BODY, _ALGORITHM, Match(BIT_STRING, _Parser.note_signature)))

# x509_akid.asn1
_GENERAL_NAME = choice(
    Match(
        context(0, parts=True),
        parts=(Match(OBJECT_IDENTIFIER), Match(context(0, parts=True), parts=(Match(ANY),))),
    ),
    Match(context(1, parts=False)),
    Match(context(2, parts=False)),
    Match(context(3, parts=True), parts=(Match(ANY),)),
    Match(
        context(4, parts=True),
        parts=(name_grammar(_Parser.note_oid, _Parser.note_authority_name),),
    ),
    Match(
        context(5, parts=True),
        parts=(
            Match(context(0, parts=True), parts=(Match(ANY),), optional=True),
            Match(context(1, parts=True), parts=(Match(ANY),)),
        ),
    ),
    Match(context(6, parts=False)),
    Match(context(7, parts=False)),
    Match(context(8, parts=False)),
)
_AUTHORITY = Match(
    SEQUENCE,
    parts=(
        Match(context(0, parts=False), _Parser.note_authority_key, optional=True),
        Match(context(1, parts=True), parts=_GENERAL_NAME, many=True, optional=True),
        Match(context(2, parts=False), _Parser.note_authority_serial, optional=True),
    ),
)


def parse(encoding: bytes) -> LinuxCertificate:
    """``x509_cert_parse()``.

    Raises:
        Asn1Error: EBADMSG.
        RefusedError: Linux does not take it for another reason.
        UnknownError: that depends on what is not known.
    """
    parser = _Parser(encoding)
    decode(_CERTIFICATE, parser, encoding)
    return parser.finish()


def check_key(certificate: LinuxCertificate) -> None:
    """Raise RefusedError if no signature of this key would be taken: ``set_pub_key()``."""
    if errno := key_errno(certificate.key):
        raise RefusedError(
            errno,
            f"the key of the certificate {certificate.name} is of no use to Linux",
            _OTHER_KEY,
        )


@functools.lru_cache(256)
def oid_of(content: bytes) -> str:
    """Return an OID in dotted numbers, or other content in hex."""
    try:
        return str(core.ObjectIdentifier(contents=content).dotted)
    except (ValueError, IndexError):
        return content.hex()


def decode_time(value: Value) -> int | None:
    """``x509_decode_time()``: seconds since 1970, or None for a time that Linux does not take."""
    digits, zone = value.content[:-1], value.content[-1:]
    size = _TIMES.get(value.tag)
    if len(digits) != size or zone != b"Z" or not digits.isdigit():
        return None
    pairs = [int(digits[at : at + 2]) for at in range(0, size, 2)]
    if value.tag == UTC_TIME:
        year = pairs[0] + (1900 if pairs[0] >= 50 else 2000)
    else:
        year = pairs.pop(0) * 100 + pairs[0]
        if 1950 <= year <= 2049:
            return None
    month, day, hour, minute, second = pairs[1:]
    if year < 1970 or not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    # 24 o'clock and a leap second are taken, and counted on
    if hour > 24 or minute > 59 or second > 60:
        return None
    return calendar.timegm((year, month, day, hour, minute, second))
