"""RFC 3161 timestamps over a signature: asked for, and verified.

A token is a CMS SignedData (RFC 5652) over a TSTInfo. Beyond RFC 3161 the Notary Project asks for
SigningCertificateV2 (RFC 5816), its certificate requirements, and a path to a root that the user
trusts for timestamps, valid at the time of the stamp.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from asn1crypto import algos, core, tsp
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from dmsign_fast.bounded_http import fetch
from dmsign_fast.envelope.chain import Purpose, chain_problem, chain_validity_problem
from dmsign_fast.envelope.der import check_der
from dmsign_fast.envelope.trust import TrustAnchors, build_path
from dmsign_fast.errors import (
    DmsignError,
    FormatError,
    ParameterError,
    StorageError,
    VerificationError,
)
from dmsign_fast.signing.certificates import name_of, parse_certificate

__all__ = ["Timestamp", "Timestamper", "over_http", "request_timestamp", "verify_timestamp"]

MAX_RESPONSE = 1 << 20

_Asn1 = Any  # asn1crypto has no type hints

_DIGESTS: dict[str, hashes.HashAlgorithm] = {
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


class _Response(core.Sequence):  # type: ignore[misc]
    # asn1crypto's own wants a token in a refusal, too.
    _fields: ClassVar = [
        ("status", tsp.PKIStatusInfo),
        ("time_stamp_token", tsp.ContentInfo, {"optional": True}),
    ]


@dataclass(frozen=True, slots=True)
class Timestamp:
    """When a signature was there already, and who says so: ``chain`` is leaf first, root last."""

    time: datetime
    accuracy: timedelta
    chain: tuple[x509.Certificate, ...]

    @property
    def earliest(self) -> datetime:
        """The lower limit of the time."""
        return self.time - self.accuracy

    @property
    def latest(self) -> datetime:
        """The upper limit of the time."""
        return self.time + self.accuracy


@dataclass(frozen=True, slots=True)
class Timestamper:
    """An authority to ask, and the roots of those that count.

    ``ask`` takes the DER of a request and returns the response, see ``over_http``.
    """

    ask: Callable[[bytes], bytes]
    anchors: TrustAnchors

    def __call__(self, signature: bytes) -> bytes:
        """Return a token over the signature, see ``request_timestamp``."""
        return request_timestamp(signature, self.ask, self.anchors)

    def verify(self, token: bytes, signature: bytes) -> Timestamp:
        """Return what a token says that is there already, see ``verify_timestamp``."""
        return verify_timestamp(token, signature, self.anchors)


def over_http(url: str, *, timeout: float = 30) -> Callable[[bytes], bytes]:
    """Return a function that posts a request to a timestamp authority and returns its response.

    ``timeout``, in seconds, bounds the whole exchange. ParameterError for a URL of another scheme;
    the function raises StorageError for a missing or malformed answer.
    """
    if not url.casefold().startswith(("http://", "https://")):
        raise ParameterError(f"the timestamp authority {url!r} is not an http or https URL")

    def ask(request: bytes) -> bytes:
        headers = {"Content-Type": "application/timestamp-query"}
        try:
            answer = fetch(
                url, content=request, headers=headers, seconds=timeout, limit=MAX_RESPONSE
            )
        except StorageError as error:
            raise StorageError(f"no timestamp from {url}: {error}") from error
        if answer.status != 200:
            raise StorageError(f"no timestamp from {url}: it answers with {answer.status}")
        kind = answer.headers.get("Content-Type", "nothing").partition(";")[0].strip()
        if kind.casefold() != "application/timestamp-reply":
            raise StorageError(f"{url} answers with {kind}, so it is no timestamp authority")
        return answer.body

    return ask


def request_timestamp(
    signature: bytes, ask: Callable[[bytes], bytes], anchors: TrustAnchors
) -> bytes:
    """Have the signature stamped and return the token, verified, for ``verify_timestamp``.

    What is sent is the SHA-512 of the signature, whatever the key, and a nonce. ``ask`` takes the
    DER of a request to the authority and returns its response, see ``over_http``. Raises
    FormatError for what is no response, VerificationError for a refusal, or for a response that
    does not hold or is not by someone that is trusted.
    """
    nonce = secrets.randbits(64)
    request = tsp.TimeStampReq(
        {
            "version": "v1",
            "message_imprint": {
                "hash_algorithm": algos.DigestAlgorithm({"algorithm": "sha512"}),
                "hashed_message": hashlib.sha512(signature).digest(),
            },
            "nonce": nonce,
            "cert_req": True,
        }
    )
    token = _granted(ask(bytes(request.dump())))
    _verify(token, signature, anchors, nonce)
    return token


def verify_timestamp(token: bytes, signature: bytes, anchors: TrustAnchors) -> Timestamp:
    """Verify a countersignature over the signature as it stands in the envelope.

    ``anchors`` are roots that are trusted for timestamps; the authority's certificates need be
    valid at the time of the stamp only. Raises FormatError for what is not a token, and
    VerificationError for a token that does not hold or whose authority is not trusted.
    """
    return _verify(token, signature, anchors, None)


@dataclass(frozen=True, slots=True)
class _Signer:
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
        key, digest = self.leaf.public_key(), _DIGESTS[self.digest]
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
class _Token:
    """A token taken apart, its signers apart."""

    signed: _Asn1
    certificates: tuple[x509.Certificate, ...]
    content: bytes
    imprint: tuple[str, bytes]
    nonce: int | None
    time: datetime
    accuracy: timedelta


def _verify(data: bytes, signature: bytes, anchors: TrustAnchors, nonce: int | None) -> Timestamp:
    """Verify a token: a single good signer is enough, as for notation."""
    with _parsing():
        token = _parse(data)
        name, imprint = token.imprint
        if name not in _DIGESTS or not hmac.compare_digest(
            hashlib.new(name, signature).digest(), imprint
        ):
            raise VerificationError("the timestamp is over another signature, or by a weak digest")
        if nonce is not None and token.nonce != nonce:
            raise VerificationError("the timestamp answers another request: its nonce differs")
    problem: DmsignError = FormatError("the timestamp has no signer")
    for signer in token.signed["signer_infos"]:
        try:
            with _parsing():
                path = _signer(signer, token).path(token.certificates, anchors, token.time)
                found = Timestamp(token.time, token.accuracy, path)
                _ = (found.earliest, found.latest)  # within the calendar
                return found
        except (FormatError, VerificationError) as error:
            problem = error
    raise problem


def _granted(answer: bytes) -> bytes:
    """Return the token of a response with the status granted."""
    with _parsing():
        check_der(answer)
        response = _Response.load(answer, strict=True)
        status, said = response["status"]["status"].native, response["status"].native
        if status == "granted":
            return bytes(response["time_stamp_token"].dump())
        why = "; ".join(said["status_string"] or ()) or ", ".join(sorted(said["fail_info"] or ()))
    raise VerificationError(f"the timestamp authority refuses: {status} {why}".rstrip())


@contextlib.contextmanager
def _parsing() -> Iterator[None]:
    """Turn what parsers and keys raise over a stranger's bytes into a FormatError."""
    try:
        yield
    except _ODD as error:  # a FormatError, which says what is wrong, is a ValueError
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise FormatError(f"the timestamp is not one of RFC 3161: {text}") from None


def _parse(data: bytes) -> _Token:
    check_der(data)
    signed = tsp.ContentInfo.load(data, strict=True)["content"]
    content = signed["encap_content_info"]
    if content["content_type"].dotted != _TST_INFO:
        raise FormatError("it is over something else")
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
    return _Token(
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


def _signer(signer: _Asn1, token: _Token) -> _Signer:
    if signer["version"].native != "v1":
        raise FormatError("its signer is not of version 1")
    attributes = signer["signed_attrs"]
    times = [] if isinstance(attributes, core.Void) else attributes
    signing_time = [one for one in times if one["type"].dotted == _SIGNING_TIME]
    return _Signer(
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
    if digest not in _DIGESTS or algorithm not in possible:
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


def _leaf(signer: _Asn1, attributes: _Asn1, token: _Token) -> x509.Certificate:
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
    for certificate in token.certificates if digest in _DIGESTS else ():
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
