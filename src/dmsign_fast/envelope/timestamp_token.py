"""The token of an RFC 3161 timestamp taken apart: a CMS SignedData (RFC 5652) over a TSTInfo."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asn1crypto import core, tsp
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from dmsign_fast.envelope.chain import Purpose, chain_problem, chain_validity_problem
from dmsign_fast.envelope.der import check_der
from dmsign_fast.envelope.trust import TrustAnchors, build_path
from dmsign_fast.errors import FormatError, VerificationError
from dmsign_fast.signing.certificates import name_of, parse_certificate

__all__ = ["DIGESTS", "Signer", "Token", "parse_signer", "parse_token", "parsing"]

_Asn1 = Any  # asn1crypto has no type hints

DIGESTS: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_TST_INFO = "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
_SIGNING_TIME = "1.2.840.113549.1.9.5"
_SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"
# RFC 3628, section 5.2: the one policy under which an accuracy that is left out is a second.
_BASELINE_POLICY = "0.4.0.2023.1.1"

_MOST = 32  # signers, and certificates

# What asn1crypto and cryptography raise over odd bytes, beyond what they document.
_ODD = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError),
    *(UnsupportedAlgorithm, x509.UnsupportedGeneralNameType),
)


@dataclass(frozen=True, slots=True)
class Signer:
    """One signer of a token; ``attributes`` is the SET OF that the signature covers."""

    leaf: x509.Certificate
    digest: str
    attributes: bytes
    signature: bytes
    signing_time: datetime | None

    def path(
        self, others: Sequence[x509.Certificate], anchors: TrustAnchors, at: datetime
    ) -> tuple[x509.Certificate, ...]:
        """Verify the signature and return the path of its signer to an anchor, at that time."""
        key, digest = self.leaf.public_key(), DIGESTS[self.digest]
        try:
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(self.signature, self.attributes, padding.PKCS1v15(), digest)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(self.signature, self.attributes, ec.ECDSA(digest))
            else:
                raise InvalidSignature
        except InvalidSignature:
            raise VerificationError(
                f"the timestamp is not signed by the key of {name_of(self.leaf)}"
            ) from None
        path = build_path(self.leaf, [one for one in others if one != self.leaf], anchors, at)
        problem = chain_problem(path, Purpose.TIMESTAMPING)
        if problem is None and self.signing_time is not None:
            problem = chain_validity_problem(path, self.signing_time)
        if problem is not None:
            raise VerificationError(f"the timestamp's certificates: {problem}")
        return path


@dataclass(frozen=True, slots=True)
class Token:
    """A token taken apart, its signers apart."""

    signed: _Asn1
    certificates: tuple[x509.Certificate, ...]
    content: bytes
    imprint: tuple[str, bytes]
    nonce: int | None
    time: datetime
    accuracy: timedelta


@contextlib.contextmanager
def parsing() -> Iterator[None]:
    """Turn what parsers and keys raise over a stranger's bytes into a FormatError."""
    try:
        yield
    except _ODD as error:  # a FormatError, which says what is wrong, is a ValueError
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise FormatError(f"the timestamp is no token of RFC 3161: {text}") from None


def parse_token(data: bytes) -> Token:
    """Take a token apart, within ``parsing``; FormatError if it is not a token."""
    check_der(data)
    signed = tsp.ContentInfo.load(data, strict=True)["content"]
    content = signed["encap_content_info"]
    if content["content_type"].dotted != _TST_INFO:
        raise FormatError("its content is no TSTInfo")
    if signed["version"].native != "v3":
        raise FormatError("its SignedData is not of version 3")
    info = content["content"].parsed
    if info["version"].native != "v1" or info["gen_time"].native.tzinfo is None:
        raise FormatError("its TSTInfo is not of version 1, or not in UTC")
    choices = signed["certificates"]
    if isinstance(choices, core.Void) or any(one.name != "certificate" for one in choices):
        raise FormatError("it does not hold X.509 certificates")
    if len(choices) > _MOST or not 0 < len(signed["signer_infos"]) <= _MOST:
        raise FormatError(f"it has no signer, or more than {_MOST} signers or certificates")
    if any(one["sid"].name != "issuer_and_serial_number" for one in signed["signer_infos"]):
        raise FormatError("a signer is not named by issuer and serial number")
    imprint = info["message_imprint"]
    return Token(
        signed=signed,
        certificates=tuple(parse_certificate(bytes(one.chosen.dump())) for one in choices),
        content=bytes(content["content"]),
        imprint=(
            imprint["hash_algorithm"]["algorithm"].native,
            bytes(imprint["hashed_message"]),
        ),
        nonce=info["nonce"].native,
        time=info["gen_time"].native,
        accuracy=_accuracy(info),
    )


def parse_signer(signer: _Asn1, token: Token) -> Signer:
    """Take a signer of a token apart, within ``parsing``; FormatError for what is none."""
    if signer["version"].native != "v1":
        raise FormatError("its signer is not of version 1")
    attributes = signer["signed_attrs"]
    times = [] if isinstance(attributes, core.Void) else attributes
    signing_time = [one for one in times if one["type"].dotted == _SIGNING_TIME]
    return Signer(
        digest=_digest(signer, token.content, attributes),
        leaf=_leaf(signer, attributes, token),
        # its tag in the message is [0] (RFC 5652, section 5.4)
        attributes=b"\x31" + attributes.dump()[1:],
        signature=bytes(signer["signature"]),
        signing_time=_attribute(attributes, _SIGNING_TIME).native if signing_time else None,
    )


def _digest(signer: _Asn1, content: bytes, attributes: _Asn1) -> str:
    """Return the name of the signer's digest, of which the attributes hold that of the content."""
    digest = signer["digest_algorithm"]["algorithm"].native
    algorithm = signer["signature_algorithm"]["algorithm"].native
    possible = ("rsassa_pkcs1v15", f"{digest}_rsa", f"{digest}_ecdsa")
    if digest not in DIGESTS or algorithm not in possible:
        raise FormatError("its signature is in an algorithm that is weak or unknown")
    if _attribute(attributes, _CONTENT_TYPE).dotted != _TST_INFO:
        raise FormatError("its signed contentType is not TSTInfo")
    if bytes(_attribute(attributes, _MESSAGE_DIGEST)) != hashlib.new(digest, content).digest():
        raise VerificationError("the timestamp's content is not what its authority signed")
    return str(digest)


def _attribute(attributes: _Asn1, kind: str) -> _Asn1:
    """Return the one value of the one signed attribute of that kind."""
    found = [] if isinstance(attributes, core.Void) else attributes
    values = [one["values"] for one in found if one["type"].dotted == kind]
    if len(values) != 1 or len(values[0]) != 1:
        raise FormatError(f"it lacks the signed attribute {kind}")
    return values[0][0]


def _leaf(signer: _Asn1, attributes: _Asn1, token: Token) -> x509.Certificate:
    """Return the certificate that SigningCertificateV2 stands for (RFC 5035, section 4).

    The attribute, or else the signer, must name the same certificate by issuer and serial number.
    """
    identifier = _attribute(attributes, _SIGNING_CERTIFICATE_V2)["certs"][0]
    digest = identifier["hash_algorithm"]["algorithm"].native
    wanted = identifier["cert_hash"].native
    named = identifier["issuer_serial"]
    if isinstance(named, core.Void):
        named = signer["sid"].chosen
        issuer = named["issuer"]
    else:
        (name,) = named["issuer"]
        issuer = name.chosen
    for certificate in token.certificates if digest in DIGESTS else ():
        if (
            certificate.serial_number == named["serial_number"].native
            and certificate.issuer.public_bytes() == issuer.untag().dump()
            and hashlib.new(digest, certificate.public_bytes(Encoding.DER)).digest() == wanted
        ):
            return certificate
    raise FormatError("it does not hold the certificate that its signer names")


def _accuracy(info: _Asn1) -> timedelta:
    said = info["accuracy"].native or {}
    accuracy = timedelta(
        seconds=said.get("seconds") or 0,
        milliseconds=said.get("millis") or 0,
        microseconds=said.get("micros") or 0,
    )
    if accuracy < timedelta(0):
        raise FormatError("its accuracy is negative")
    if not accuracy:
        return timedelta(seconds=info["policy"].dotted == _BASELINE_POLICY)
    return accuracy
