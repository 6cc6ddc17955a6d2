"""RFC 3161 timestamps over a signature: asked for, and verified.

A token is a CMS SignedData (RFC 5652) over a TSTInfo. Beyond RFC 3161 the Notary Project asks for
SigningCertificateV2 (RFC 5816), its certificate requirements, and a path to a root that the user
trusts for timestamps, valid at the time of the stamp.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from asn1crypto import algos, core, tsp
from cryptography import x509

from dmsign_fast.bounded_http import fetch
from dmsign_fast.envelope.der import check_der
from dmsign_fast.envelope.timestamp_token import DIGESTS, parse_signer, parse_token, parsing
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import (
    DmsignError,
    FormatError,
    ParameterError,
    StorageError,
    VerificationError,
)

__all__ = ["Timestamp", "Timestamper", "over_http", "request_timestamp", "verify_timestamp"]

MAX_RESPONSE = 1 << 20


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


def _verify(data: bytes, signature: bytes, anchors: TrustAnchors, nonce: int | None) -> Timestamp:
    """Verify a token: a single good signer is enough, as for notation."""
    with parsing():
        token = parse_token(data)
        name, imprint = token.imprint
        if name not in DIGESTS or not hmac.compare_digest(
            hashlib.new(name, signature).digest(), imprint
        ):
            raise VerificationError("the timestamp is over another signature, or by a weak digest")
        if nonce is not None and token.nonce != nonce:
            raise VerificationError("the timestamp answers another request: its nonce differs")
    problem: DmsignError = FormatError("the timestamp has no signer")
    for signer in token.signed["signer_infos"]:
        try:
            with parsing():
                path = parse_signer(signer, token).path(token.certificates, anchors, token.time)
                found = Timestamp(token.time, token.accuracy, path)
                _ = (found.earliest, found.latest)  # within the calendar
                return found
        except (FormatError, VerificationError) as error:
            problem = error
    raise problem


def _granted(answer: bytes) -> bytes:
    """Return the token of a response with the status granted."""
    with parsing():
        check_der(answer)
        response = _Response.load(answer, strict=True)
        status, said = response["status"]["status"].native, response["status"].native
        if status == "granted":
            return bytes(response["time_stamp_token"].dump())
        why = "; ".join(said["status_string"] or ()) or ", ".join(sorted(said["fail_info"] or ()))
    raise VerificationError(f"the timestamp authority refuses: {status} {why}".rstrip())
