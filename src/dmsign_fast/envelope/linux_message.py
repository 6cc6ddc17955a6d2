"""PKCS#7 messages as Linux takes them: ``crypto/asymmetric_keys/pkcs7_parser.c``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dmsign_fast.envelope import linux_certificates
from dmsign_fast.envelope.linux_asn1 import (
    ANY,
    INTEGER,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    Match,
    Step,
    Value,
    choice,
    context,
    decode,
    name_grammar,
)
from dmsign_fast.envelope.linux_certificates import LinuxCertificate, decode_time, oid_of
from dmsign_fast.envelope.linux_keys import NO_DIGEST, RefusedError, UnknownError
from dmsign_fast.signing.scheme import ML_DSA

__all__ = ["SIGN_ANEW", "LinuxMessage", "LinuxSigner", "parse"]

SIGN_ANEW = (
    "sign anew: dmsign-fast verity sign, or openssl smime -sign -binary -noattr -outform DER"
)

_SIGNED_DATA, _DATA = "1.2.840.113549.1.7.2", "1.2.840.113549.1.7.1"
_AUTHENTICODE = "1.3.6.1.4.1.311.2.1.4"

# pkcs7_sig_note_digest_algo(); the names are hashlib's, None where Linux may lack the module
_DIGESTS = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.8": "sha3_256",
    "2.16.840.1.101.3.4.2.9": "sha3_384",
    "2.16.840.1.101.3.4.2.10": "sha3_512",
    "1.2.156.10197.1.401": None,
    "1.2.643.7.1.1.2.2": None,
    "1.2.643.7.1.1.2.3": None,
}
# pkcs7_sig_note_pkey_algo()
_FAMILIES: dict[str, str | None] = {
    "1.2.840.113549.1.1.1": "rsa",
    "1.2.840.10045.4.1": "ecdsa",
    **{f"1.2.840.10045.4.3.{number}": "ecdsa" for number in range(1, 5)},
    **{f"2.16.840.1.101.3.4.3.{number}": "ecdsa" for number in (10, 11, 12)},
    **ML_DSA,
    **dict.fromkeys(("1.2.643.7.1.1.1.1", "1.2.643.7.1.1.1.2")),
}
_NAMES = {
    "1.2.840.113549.2.5": "MD5",
    "1.2.840.113549.1.1.10": "RSA-PSS",
    "1.3.101.112": "Ed25519",
    "1.2.840.113549.1.1.11": "sha256WithRSAEncryption, where rsaEncryption is wanted",
}

_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
_SIGNING_TIME = "1.2.840.113549.1.9.5"
_ONLY_AUTHENTICODE = {
    "1.2.840.113549.1.9.15": "S/MIME capabilities; sign with -noattr, or -nosmimecap",
    "1.3.6.1.4.1.311.2.1.11": "a Microsoft statement type",
    "1.3.6.1.4.1.311.2.1.12": "Microsoft opus information",
}


@dataclass(slots=True)
class LinuxSigner:
    """One signerInfo.

    Attributes:
        identifier: of the signer's certificate, or its key identifier.
        serial: of the signer's certificate.
        digest: hashlib's name, or ``NO_DIGEST`` for ML-DSA without attributes.
        family: as in LinuxKey.
        attributes: the SET OF that the signature covers, None without.
        message_digest: in the attributes.
        signing_time: in the attributes, in seconds since 1970.
    """

    identifier: bytes = b""
    serial: bytes = b""
    digest: str = ""
    family: str = ""
    signature: bytes = b""
    attributes: bytes | None = None
    message_digest: bytes | None = None
    signing_time: int | None = None


@dataclass(frozen=True, slots=True)
class LinuxMessage:
    """What Linux keeps of a message; ``content`` is None if it is detached."""

    certificates: tuple[LinuxCertificate, ...]
    signers: tuple[LinuxSigner, ...]
    content: bytes | None
    is_authenticode: bool


def _refuse(errno: str, reason: str) -> RefusedError:
    return RefusedError(errno, reason, SIGN_ANEW)


class _Parser:
    """What is noted of a message while it is decoded."""

    def __init__(self) -> None:
        self._last_oid = self._content_type = ""
        self._version = 0
        self._by_key_identifier = False
        self._content: bytes | None = None
        self._certificates: list[LinuxCertificate] = []
        self._signers: list[LinuxSigner] = []
        self._signer = LinuxSigner()
        self._seen: set[str] = set()
        self._unknown: UnknownError | None = None  # of the digest, which ML-DSA may not need
        self._serial = self._issuer = self._key_identifier = b""

    def note_oid(self, value: Value) -> None:
        self._last_oid = oid_of(value.content)

    def note_message_type(self, value: Value) -> None:
        self.note_oid(value)
        if self._last_oid != _SIGNED_DATA:
            raise _refuse("EINVAL", "the PKCS#7 message is not a SignedData")

    def note_version(self, value: Value) -> None:
        if value.content not in (b"\1", b"\3"):
            raise _refuse("EINVAL", "the SignedData is not of version 1")
        self._version = value.content[0]

    def note_content(self, value: Value) -> None:
        self._content = value.content

    def note_content_type(self, _: Value) -> None:
        if self._last_oid not in (_DATA, _AUTHENTICODE):
            raise _refuse("EINVAL", "the signed content is not of the type id-data")
        self._content_type = self._last_oid

    def note_certificate(self, value: Value) -> None:
        if value.tag != SEQUENCE:
            raise _refuse("EBADMSG", "the signature holds certificates other than X.509")
        self._certificates.append(linux_certificates.parse(value.encoding))

    def note_revoked(self, value: Value) -> None:
        if value.tag != SEQUENCE:
            raise _refuse(
                "EBADMSG", "the signature holds revocation lists, which the kernel cannot parse"
            )
        linux_certificates.parse(value.encoding)

    def note_signer_version(self, value: Value) -> None:
        if value.content not in (b"\1", b"\3"):
            raise _refuse("EINVAL", "the signerInfo is not of version 1")
        if (value.content == b"\1") != (self._version == 1):
            raise _refuse("EBADMSG", "the versions of SignedData and signerInfo do not go together")
        self._by_key_identifier = value.content == b"\3"

    def note_issuer(self, value: Value) -> None:
        self._issuer = value.content

    def note_serial(self, value: Value) -> None:
        self._serial = value.content

    def note_key_identifier(self, value: Value) -> None:
        self._key_identifier = value.content

    def note_digest(self, _: Value) -> None:
        try:
            self._signer.digest = self._algorithm(_DIGESTS, "digest")
        except UnknownError as error:
            self._unknown = error

    def note_family(self, _: Value) -> None:
        self._signer.family = self._algorithm(_FAMILIES, "signature algorithm")

    def _algorithm(self, known: dict[str, str | None], what: str) -> str:
        name = _NAMES.get(self._last_oid, self._last_oid)
        if self._last_oid not in known:
            raise _refuse("ENOPKG", f"Linux has no {what} {name} for signatures")
        found = known[self._last_oid]
        if found is None:
            raise UnknownError(f"whether Linux has the {what} {name} depends on its configuration")
        return found

    def note_attribute(self, value: Value) -> None:
        kind = self._last_oid
        if kind in (_CONTENT_TYPE, _MESSAGE_DIGEST, _SIGNING_TIME, *_ONLY_AUTHENTICODE):
            if kind in self._seen:
                raise _refuse(
                    "EKEYREJECTED", "an authenticated attribute has more than one value, or none"
                )
            self._seen.add(kind)
        if kind == _CONTENT_TYPE and oid_of(value.content) != self._content_type:
            raise _refuse("EBADMSG", "the authenticated contentType is not id-data")
        if kind == _SIGNING_TIME:
            self._signer.signing_time = decode_time(value)
            if self._signer.signing_time is None:
                raise _refuse(
                    "EBADMSG",
                    "the signing time is not as Linux takes it: in UTC, as UTCTime up to 2049",
                )
        if kind == _MESSAGE_DIGEST:
            if value.tag != OCTET_STRING:
                raise _refuse("EBADMSG", "the authenticated messageDigest is no OCTET STRING")
            self._signer.message_digest = value.content
        if kind in _ONLY_AUTHENTICODE and self._content_type != _AUTHENTICODE:
            raise _refuse("EKEYREJECTED", f"the kernel refuses {_ONLY_AUTHENTICODE[kind]}")

    def note_attributes(self, value: Value) -> None:
        if not {_CONTENT_TYPE, _MESSAGE_DIGEST} <= self._seen:
            raise _refuse(
                "EBADMSG", "the authenticated attributes lack contentType or messageDigest"
            )
        # The signature covers the SET OF; in the message its tag is [0] (RFC 5652, section 5.4).
        self._signer.attributes = bytes((SET,)) + value.encoding[1:]

    def note_signature(self, value: Value) -> None:
        self._signer.signature = value.content

    def note_signer(self, _: Value) -> None:
        signer = self._signer
        if signer.family in ML_DSA.values() and signer.attributes is None:
            signer.digest = NO_DIGEST
        elif self._unknown:
            raise self._unknown
        self._unknown = None
        if self._content_type == _AUTHENTICODE and signer.attributes is None:
            raise _refuse("EBADMSG", "Authenticode without authenticated attributes")
        named = self._key_identifier if self._by_key_identifier else self._serial + self._issuer
        signer.identifier, signer.serial = named, self._serial
        self._signers.append(signer)
        self._signer, self._seen = LinuxSigner(), set()

    def finish(self) -> LinuxMessage:
        """What becomes of the message up to ``pkcs7_verify()``."""
        if len({one.attributes is None for one in self._signers}) != 1:
            raise _refuse(
                "EINVAL", "there is no signer, or some have authenticated attributes and others not"
            )
        return LinuxMessage(
            tuple(self._certificates),
            tuple(self._signers),
            self._content,
            self._content_type == _AUTHENTICODE,
        )


def _of(tags: tuple[int, int], *parts: Step) -> tuple[Match, Match]:
    """Return the two ways to write several: as a SET OF, or a SEQUENCE OF."""
    first, second = (Match(tag, parts=parts, many=True) for tag in tags)
    return first, second


def _optional(first: Match, second: Match) -> tuple[Match, Match]:
    return replace(first, optional=True), replace(second, optional=True, other=True)


def _tags(first: int, second: int) -> tuple[int, int]:
    return context(first, parts=True), context(second, parts=True)


_ALGORITHM = Match(
    SEQUENCE, parts=(Match(OBJECT_IDENTIFIER, _Parser.note_oid), Match(ANY, optional=True))
)
_ATTRIBUTE = Match(
    SEQUENCE,
    parts=(
        Match(OBJECT_IDENTIFIER, _Parser.note_oid),
        Match(SET, parts=(Match(ANY, _Parser.note_attribute),), many=True),
    ),
)
_UNSIGNED_ATTRIBUTE = Match(
    SEQUENCE, parts=(Match(OBJECT_IDENTIFIER), Match(SET, parts=(Match(ANY),), many=True))
)
_SIGNED = _optional(
    Match(context(0, parts=True), _Parser.note_attributes, parts=(_ATTRIBUTE,), many=True),
    # Linux reads these attributes, and then takes no account of their digest
    Match(context(2, parts=True), parts=(Match(SEQUENCE, parts=(_ATTRIBUTE,), many=True),)),
)
_SIGNER_NAME = choice(
    Match(
        SEQUENCE,
        parts=(
            name_grammar(_Parser.note_oid, _Parser.note_issuer),
            Match(INTEGER, _Parser.note_serial),
        ),
    ),
    Match(context(0, parts=False), _Parser.note_key_identifier),
)
_SIGNER = Match(
    SEQUENCE,
    _Parser.note_signer,
    parts=(
        Match(INTEGER, _Parser.note_signer_version),
        *_SIGNER_NAME,
        replace(_ALGORITHM, action=_Parser.note_digest),
        *_SIGNED,
        replace(_ALGORITHM, action=_Parser.note_family),
        Match(OCTET_STRING, _Parser.note_signature),
        *_optional(*_of(_tags(1, 3), _UNSIGNED_ATTRIBUTE)),
    ),
)
_CONTENT = Match(
    SEQUENCE,
    _Parser.note_content_type,
    parts=(
        Match(OBJECT_IDENTIFIER, _Parser.note_oid),
        Match(context(0, parts=True), parts=(Match(ANY, _Parser.note_content),), optional=True),
    ),
)
_CERTIFICATES = _optional(
    Match(
        context(0, parts=True),
        # as X.509, or as PKCS#6, which is read alike
        parts=choice(*(Match(ANY, _Parser.note_certificate) for _ in range(2))),
        many=True,
    ),
    Match(context(2, parts=True), parts=(Match(ANY, _Parser.note_certificate),), many=True),
)
_REVOKED = Match(SEQUENCE, parts=(Match(ANY, _Parser.note_revoked),), many=True)
_SIGNED_DATA_PARTS = Match(
    SEQUENCE,
    parts=(
        Match(INTEGER, _Parser.note_version),
        *choice(*_of((SET, SEQUENCE), _ALGORITHM)),
        _CONTENT,
        *_CERTIFICATES,
        *_optional(*_of(_tags(1, 3), _REVOKED)),
        *choice(*_of((SET, SEQUENCE), _SIGNER)),
    ),
)
_MESSAGE = Match(
    SEQUENCE,
    parts=(
        Match(OBJECT_IDENTIFIER, _Parser.note_message_type),
        Match(context(0, parts=True), parts=(_SIGNED_DATA_PARTS,), optional=True),
    ),
)


def parse(data: bytes) -> LinuxMessage:
    """``pkcs7_parse_message()``.

    Raises:
        Asn1Error: EBADMSG.
        RefusedError: Linux does not take it for another reason.
        UnknownError: that depends on what is not known.
    """
    parser = _Parser()
    decode(_MESSAGE, parser, data)
    return parser.finish()
