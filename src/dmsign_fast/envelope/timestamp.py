"""RFC 3161 timestamps over a signature: asked for, and verified.

A token is a CMS SignedData (RFC 5652) over a TSTInfo. Beyond RFC 3161 the Notary Project asks for
SigningCertificateV2 (RFC 5816), its certificate requirements, and a path to a root that the user
trusts for timestamps, valid at the time of the stamp.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from asn1crypto import algos, core, tsp
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from dmsign_fast.envelope.chain import Purpose, chain_problem
from dmsign_fast.envelope.der import check_der
from dmsign_fast.envelope.trust import TrustAnchors, build_path
from dmsign_fast.errors import FormatError, ParameterError, StorageError, VerificationError
from dmsign_fast.signing.certificates import name_of, parse_certificate

__all__ = ["Timestamp", "over_http", "request_timestamp", "verify_timestamp"]

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
_SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"
# RFC 3628, section 5.2: the one policy under which an accuracy that is left out is a second.
_BASELINE_POLICY = "0.4.0.2023.1.1"


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


def over_http(url: str, *, timeout: float = 30) -> Callable[[bytes], bytes]:
    """Return a function that posts a request to a timestamp authority and returns its response.

    ``timeout``, in seconds, bounds the whole exchange. ParameterError for a URL of another scheme;
    the function raises StorageError when there is no answer, or a strange one.
    """
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    if not url.startswith(("http://", "https://")):
        raise ParameterError(f"the timestamp authority {url!r} is not an http or https URL")

    def ask(request: bytes) -> bytes:
        headers = {"Content-Type": "application/timestamp-query"}
        end = time.monotonic() + timeout
        answer = b""
        try:
            with urlopen(Request(url, request, headers), timeout=timeout) as response:  # noqa: S310
                kind = response.headers.get_content_type()
                while piece := response.read1(1 << 16):
                    answer += piece
                    if time.monotonic() > end:
                        raise TimeoutError("timed out")
                    if len(answer) > MAX_RESPONSE:
                        raise StorageError(f"{url} answers with more than {MAX_RESPONSE} bytes")
        except (URLError, OSError, ValueError) as error:
            raise StorageError(f"no timestamp from {url}: {error}") from error
        if kind != "application/timestamp-reply":
            raise StorageError(f"{url} answers with {kind}, so it is no timestamp authority")
        return answer

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
    _verify(_parse(token), signature, anchors, nonce)
    return token


def verify_timestamp(token: bytes, signature: bytes, anchors: TrustAnchors) -> Timestamp:
    """Verify a countersignature over the signature as it stands in the envelope.

    ``anchors`` are roots that are trusted for timestamps; the authority's certificates need be
    valid at the time of the stamp only. Raises FormatError for what is not a token, and
    VerificationError for one that does not hold, or is not by someone that is trusted.
    """
    return _verify(_parse(token), signature, anchors, None)


@dataclass(frozen=True, slots=True)
class _Token:
    """What a token says; ``attributes`` is the SET OF that its signature covers."""

    certificates: tuple[x509.Certificate, ...]
    leaf: x509.Certificate
    digest: str
    attributes: bytes
    signature: bytes
    imprint: tuple[str, bytes]
    nonce: int | None
    time: datetime
    accuracy: timedelta


def _verify(token: _Token, signature: bytes, anchors: TrustAnchors, nonce: int | None) -> Timestamp:
    key, digest = token.leaf.public_key(), _DIGESTS[token.digest]
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(token.signature, token.attributes, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(token.signature, token.attributes, ec.ECDSA(digest))
        else:
            raise InvalidSignature
    except InvalidSignature:
        raise VerificationError(
            f"the timestamp is not signed by the key of {name_of(token.leaf)}"
        ) from None
    name, imprint = token.imprint
    if name not in _DIGESTS or not hmac.compare_digest(
        hashlib.new(name, signature).digest(), imprint
    ):
        raise VerificationError("the timestamp is over another signature, or by a weak digest")
    if nonce is not None and token.nonce != nonce:
        raise VerificationError("the timestamp answers another request: its nonce differs")
    others = [one for one in token.certificates if one != token.leaf]
    path = build_path(token.leaf, others, anchors, token.time)
    problem = chain_problem(path, Purpose.TIMESTAMPING)
    if problem is not None:
        raise VerificationError(f"the timestamp's certificates: {problem}")
    return Timestamp(token.time, token.accuracy, path)


def _granted(answer: bytes) -> bytes:
    """Return the token of a response that grants one."""
    try:
        check_der(answer)
        response = _Response.load(answer, strict=True)
        status, said = response["status"]["status"].native, response["status"].native
        if status == "granted":
            return bytes(response["time_stamp_token"].dump())
    except (ValueError, TypeError, KeyError) as error:
        raise _not_rfc3161(error) from None
    why = "; ".join(said["status_string"] or ()) or ", ".join(sorted(said["fail_info"] or ()))
    raise VerificationError(f"the timestamp authority refuses: {status} {why}".rstrip())


def _parse(token: bytes) -> _Token:
    try:
        check_der(token)
        signed = tsp.ContentInfo.load(token, strict=True)["content"]
        content = signed["encap_content_info"]
        if content["content_type"].dotted != _TST_INFO:
            raise FormatError("it is over something else")
        info = content["content"].parsed
        if info["version"].native != "v1" or info["gen_time"].native.tzinfo is None:
            raise FormatError("its TSTInfo is not of version 1, or not in UTC")
        signers, choices = signed["signer_infos"], signed["certificates"]
        if len(signers) != 1 or signers[0]["sid"].name != "issuer_and_serial_number":
            raise FormatError("it has not one signer, by issuer and serial number")
        if isinstance(choices, core.Void) or any(one.name != "certificate" for one in choices):
            raise FormatError("it does not hold X.509 certificates")
        certificates = tuple(parse_certificate(bytes(one.chosen.dump())) for one in choices)
        signer, attributes = signers[0], signers[0]["signed_attrs"]
        digest = _digest(signer, bytes(content["content"]), attributes)
        imprint = info["message_imprint"]
        return _Token(
            certificates=certificates,
            leaf=_leaf(attributes, certificates),
            digest=digest,
            # its tag in the message is [0] (RFC 5652, section 5.4)
            attributes=b"\x31" + attributes.dump()[1:],
            signature=bytes(signer["signature"]),
            imprint=(
                imprint["hash_algorithm"]["algorithm"].native,
                bytes(imprint["hashed_message"]),
            ),
            nonce=info["nonce"].native,
            time=info["gen_time"].native,
            accuracy=_accuracy(info),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise _not_rfc3161(error) from None


def _not_rfc3161(error: Exception) -> FormatError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return FormatError(f"the timestamp is not one of RFC 3161: {text}")


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


def _leaf(attributes: _Asn1, certificates: tuple[x509.Certificate, ...]) -> x509.Certificate:
    """Return the certificate that SigningCertificateV2 stands for; the other name is unsigned."""
    identifier = _attribute(attributes, _SIGNING_CERTIFICATE_V2)["certs"][0]
    digest = identifier["hash_algorithm"]["algorithm"].native
    wanted = identifier["cert_hash"].native
    for certificate in certificates if digest in _DIGESTS else ():
        if hashlib.new(digest, certificate.public_bytes(Encoding.DER)).digest() == wanted:
            return certificate
    raise FormatError("it does not hold the certificate that its signer names")


def _accuracy(info: _Asn1) -> timedelta:
    accuracy = info["accuracy"].native
    if accuracy is None:
        return timedelta(seconds=info["policy"].dotted == _BASELINE_POLICY)
    return timedelta(
        seconds=accuracy["seconds"] or 0,
        milliseconds=accuracy["millis"] or 0,
        microseconds=accuracy["micros"] or 0,
    )
