"""PKCS#7 SignedData to and from a frozen value, in the form Linux takes for a root hash or policy.

The form is narrower than what ``linux_message`` reads: DER only, version 1, and each signer by
issuer and serial number (by subject key identifier the kernel looks at its keyring alone, never at
the certificates in the message). The structure is RFC 5652, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asn1crypto import cms, core, parser
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dmsign_fast.envelope.der import check_der
from dmsign_fast.errors import FormatError
from dmsign_fast.signing.certificates import parse_certificate
from dmsign_fast.signing.scheme import ML_DSA, Scheme

__all__ = [
    "MAX_SIZE",
    "RawSigned",
    "SignedAttributes",
    "SignedData",
    "SignerInfo",
    "build_signed_data",
    "parse_signed_content",
    "parse_signed_data",
]

# veritysetup hands the signature over in a key of the type "user", and user_preparse() in the
# kernel's security/keys/user_defined.c takes no more.
MAX_SIZE = 32767

_Asn1 = Any  # asn1crypto has no type hints

_ID_DATA = "1.2.840.113549.1.7.1"
_ID_SIGNED_DATA = "1.2.840.113549.1.7.2"

_SET_OF = 17  # its tag

_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
_SIGNING_TIME = "1.2.840.113549.1.9.5"


@dataclass(frozen=True, slots=True)
class SignedAttributes:
    """Authenticated attributes: ``encoding`` is the SET OF that the signature covers."""

    encoding: bytes
    signing_time: datetime | None


@dataclass(frozen=True, slots=True)
class SignerInfo:
    """One signer and what it made.

    ``issuer``, in DER, and ``serial`` are of the signer's certificate. ``digest`` and
    ``signature_algorithm`` are asn1crypto's names, or dotted OIDs that it does not know.
    """

    issuer: bytes
    serial: int
    digest: str
    signature_algorithm: str
    attributes: SignedAttributes | None
    signature: bytes

    def names(self, certificate: x509.Certificate) -> bool:
        """Return True if that is the signer's certificate."""
        parsed = _asn1_certificate(certificate)
        return (self.issuer, self.serial) == (parsed.issuer.dump(), parsed.serial_number)

    def is_of(self, scheme: Scheme) -> bool:
        """Return True if the signature says that it is of this scheme."""
        return (self.digest, self.signature_algorithm) == (scheme.digest, scheme.pkcs7_signature)


@dataclass(frozen=True, slots=True)
class SignedData:
    """What a root-hash signature says; it has one signer or more."""

    certificates: tuple[x509.Certificate, ...]
    signers: tuple[SignerInfo, ...]


@dataclass(frozen=True, slots=True)
class RawSigned:
    """A raw signature, as ``Signer.sign`` returns it, and what made it; ``chain`` is leaf first."""

    signature: bytes
    chain: Sequence[x509.Certificate]
    scheme: Scheme


def build_signed_data(
    signed: Sequence[RawSigned], *, certificates: bool, content: bytes | None = None
) -> bytes:
    """Return DER: version 1, id-data, a signerInfo for each, no attributes.

    It is detached without ``content``.

    The chains are embedded whole with ``certificates``, in that order, each certificate once.

    All other bytes are those of ``openssl smime -sign -noattr``: NULL parameters for SHA-2 and
    rsaEncryption (RFC 3370, sections 2 and 3.2), none for ECDSA and ML-DSA. ``openssl cms`` has
    none for SHA-2, and Go's pkcs7, which notation's prototypes use, none at all; readers take
    either.
    """
    digests = dict.fromkeys(one.scheme.digest for one in signed)
    inner: dict[str, Any] = {"content_type": "data"}
    if content is not None:
        inner["content"] = content
    message: dict[str, Any] = {
        "version": "v1",
        "digest_algorithms": [{"algorithm": digest} for digest in digests],
        "encap_content_info": inner,
        "signer_infos": [_signer_info(one) for one in signed],
    }
    if certificates:
        # made by hand: asn1crypto would sort them, and some programs take the first for the leaf
        chains = dict.fromkeys(certificate for one in signed for certificate in one.chain)
        encoded = b"".join(one.public_bytes(Encoding.DER) for one in chains)
        message["certificates"] = cms.CertificateSet.load(parser.emit(0, 1, _SET_OF, encoded))
    outer = {"content_type": "signed_data", "content": cms.SignedData(message)}
    return bytes(cms.ContentInfo(outer).dump())


def _signer_info(signed: RawSigned) -> dict[str, Any]:
    leaf = _asn1_certificate(signed.chain[0])
    return {
        "version": "v1",
        "sid": cms.SignerIdentifier(
            "issuer_and_serial_number",
            {"issuer": leaf.issuer, "serial_number": leaf.serial_number},
        ),
        "digest_algorithm": {"algorithm": signed.scheme.digest},
        "signature_algorithm": {"algorithm": signed.scheme.pkcs7_signature},
        "signature": signed.signature,
    }


def parse_signed_data(data: bytes) -> SignedData:
    """Parse a detached root-hash signature to the last byte.

    Raises FormatError for what is not one.
    """
    parsed, content = _parse_bounded(data, MAX_SIZE)
    if content is not None:
        raise FormatError("the signature holds its content; make it detached, without -nodetach")
    return parsed


def parse_signed_content(data: bytes, max_size: int) -> tuple[SignedData, bytes]:
    """Parse a message of at most ``max_size`` bytes that holds its content, and return both.

    Raises FormatError for what is not one.
    """
    parsed, content = _parse_bounded(data, max_size)
    if content is None:
        raise FormatError("the message does not hold what is signed; sign with -nodetach")
    return parsed, content


def _parse_bounded(data: bytes, max_size: int) -> tuple[SignedData, bytes | None]:
    if not data:
        raise FormatError("the signature is empty")
    if len(data) > max_size:
        raise FormatError(
            f"the signature has {len(data)} bytes; the kernel takes no more than {max_size}"
        )
    if data.lstrip().startswith((b"-----BEGIN ", b"MIME-Version:")):
        raise FormatError(
            "the signature is text, and the kernel takes DER; convert PEM with 'openssl pkcs7 "
            "-in FILE -outform DER -out FILE.der', or sign with -outform DER"
        )
    check_der(data)
    try:
        return _parse(data)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        if isinstance(error, FormatError):
            raise
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FormatError(f"the signature is not a PKCS#7 SignedData: {text}") from None


def _parse(data: bytes) -> tuple[SignedData, bytes | None]:
    outer = cms.ContentInfo.load(data, strict=True)
    if outer["content_type"].dotted != _ID_SIGNED_DATA:
        raise FormatError("the PKCS#7 message is not a SignedData")
    content = outer["content"]
    if not isinstance(content, cms.SignedData) or int(content["version"]) not in (1, 3):
        raise FormatError("the SignedData is not of version 1")
    inner = content["encap_content_info"]
    if inner["content_type"].dotted != _ID_DATA:
        raise FormatError("the signed content is not of the type id-data")
    if int(content["version"]) != 1:
        raise FormatError("the SignedData is not of version 1; sign without -keyid")
    if not _absent(content["crls"]):
        raise FormatError("the signature holds revocation lists, which the kernel cannot parse")
    signers = tuple(_signer(one) for one in content["signer_infos"])
    if not signers:
        raise FormatError("the signature has no signer")
    if len({(one.issuer, one.serial) for one in signers}) < len(signers):
        raise FormatError("the signature names one signer twice")
    digests = sorted(_algorithm(one) for one in content["digest_algorithms"])
    if digests != sorted({one.digest for one in signers}):
        raise FormatError("the digest algorithms of the message and of its signers differ")
    parsed = SignedData(_certificates(content["certificates"]), signers)
    # what is no OCTET STRING raises
    return parsed, None if _absent(inner["content"]) else bytes(inner["content"])


def _signer(signer: _Asn1) -> SignerInfo:
    if int(signer["version"]) != 1 or signer["sid"].name != "issuer_and_serial_number":
        raise FormatError("the signer is not named by issuer and serial number; use no -keyid")
    return SignerInfo(
        issuer=bytes(signer["sid"].chosen["issuer"].dump()),
        serial=int(signer["sid"].chosen["serial_number"]),
        digest=_algorithm(signer["digest_algorithm"]),
        signature_algorithm=_algorithm(signer["signature_algorithm"]),
        attributes=_attributes(signer["signed_attrs"]),
        signature=bytes(signer["signature"]),
    )


def _certificates(choices: _Asn1) -> tuple[x509.Certificate, ...]:
    if _absent(choices):
        return ()
    if any(choice.name != "certificate" for choice in choices):
        raise FormatError("the signature holds certificates other than X.509")
    return tuple(parse_certificate(bytes(choice.chosen.dump())) for choice in choices)


def _attributes(attributes: _Asn1) -> SignedAttributes | None:
    if _absent(attributes):
        return None
    values: dict[str, Any] = {}
    for attribute in attributes:
        kind = attribute["type"].dotted
        if kind in (_CONTENT_TYPE, _MESSAGE_DIGEST, _SIGNING_TIME):
            if kind in values or len(attribute["values"]) != 1:
                raise FormatError("an authenticated attribute has more than one value, or none")
            values[kind] = attribute["values"][0]
    if _CONTENT_TYPE not in values or _MESSAGE_DIGEST not in values:
        raise FormatError("the authenticated attributes lack contentType or messageDigest")
    if values[_CONTENT_TYPE].dotted != _ID_DATA:
        raise FormatError("the authenticated contentType is not id-data")
    _ = bytes(values[_MESSAGE_DIGEST])  # what is no OCTET STRING raises
    # The signature covers the SET OF; in the message its tag is [0] (RFC 5652, section 5.4).
    return SignedAttributes(
        encoding=b"\x31" + attributes.dump()[1:],
        signing_time=_time(values[_SIGNING_TIME]) if _SIGNING_TIME in values else None,
    )


def _time(value: _Asn1) -> datetime:
    time = value.native
    # Without Z it is naive, and for the year 0 not a datetime; x509_decode_time() takes neither.
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise FormatError("the signing time is not in UTC")
    return time


def _algorithm(identifier: _Asn1) -> str:
    """Return the name of an AlgorithmIdentifier whose parameters are NULL or absent."""
    dotted = str(identifier["algorithm"].dotted)
    # other packages teach asn1crypto names of their own for these
    name = dotted if dotted in ML_DSA else str(identifier["algorithm"].native)
    # PSS always has some; it is refused by name, further on.
    if name != "rsassa_pss" and identifier["parameters"].dump() not in (b"", core.Null().dump()):
        raise FormatError(f"the algorithm {name} has parameters")
    return name


def _absent(value: _Asn1) -> bool:
    return isinstance(value, core.Void)


def _asn1_certificate(certificate: x509.Certificate) -> _Asn1:
    return asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
