"""The Notary Project's JWS envelope: flattened JSON serialisation (RFC 7515, section 7.2.2).

The headers are those of ``specs/signature-envelope-jws.md``. What notation would read in more than
one way is refused: repeated names, names in another case, base64 that is not canonical.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dmsign_fast.envelope.claims import (
    AGENT,
    CONTENT_TYPE,
    CRITICAL,
    SIGNING_SCHEME,
    TIMES,
    TIMESTAMP,
    Parts,
    Unsigned,
)
from dmsign_fast.errors import FormatError, VerificationError
from dmsign_fast.signing.scheme import SCHEMES, Scheme
from dmsign_fast.strict_json import dump_json, read_object

__all__ = ["Jws"]

_FIELDS = {"payload", "protected", "header", "signature"}
_CHAIN = "x5c"
_KNOWN = ("alg", CRITICAL, CONTENT_TYPE, SIGNING_SCHEME, *TIMES)

# RFC 3339, section 5.6; fractions are allowed and not written.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Jws:
    """See ``EnvelopeFormat``."""

    media_type: str = "application/jose+json"

    def protect(self, scheme: Scheme, headers: Mapping[str, Any]) -> bytes:
        """Return the protected header, base64url."""
        encoded = {
            name: f"{value:%Y-%m-%dT%H:%M:%SZ}" if name in TIMES else value
            for name, value in headers.items()
        }
        return _to_base64url(dump_json({"alg": scheme.jose, **encoded}))

    def message(self, protected: bytes, payload: bytes) -> bytes:
        """Return the JWS signing input (RFC 7515, section 5.1)."""
        return protected + b"." + _to_base64url(payload)

    def assemble(
        self, protected: bytes, payload: bytes, signature: bytes, unsigned: Unsigned
    ) -> bytes:
        """Return the envelope."""
        header: dict[str, Any] = {
            _CHAIN: [base64.b64encode(one).decode() for one in unsigned.certificates]
        }
        if unsigned.agent is not None:
            header[AGENT] = unsigned.agent
        if unsigned.timestamp_token is not None:
            header[TIMESTAMP] = base64.b64encode(unsigned.timestamp_token).decode()
        envelope = {
            "header": header,
            "payload": _to_base64url(payload).decode(),
            "protected": protected.decode(),
            "signature": _to_base64url(signature).decode(),
        }
        return dump_json(envelope)

    def parse(self, data: bytes) -> Parts:
        """Take an envelope apart."""
        envelope = read_object(data, "the JWS envelope")
        if set(envelope) != _FIELDS:
            wrong = ", ".join(sorted(set(envelope) ^ _FIELDS))
            raise FormatError(
                f"fields of the JWS envelope are missing or unknown: {wrong}; it needs the "
                "flattened JSON form, with payload, protected, header and signature alone"
            )
        payload = _from_base64url(envelope["payload"], "payload")
        headers = read_object(
            _from_base64url(envelope["protected"], "protected header"), "the protected header"
        )
        known = {name.casefold(): name for name in _KNOWN}
        for name in headers:
            if known.get(name.casefold(), name) != name:
                raise FormatError(f"the protected header {name!r} is in the wrong case")
        algorithm = headers.pop("alg", None)
        return Parts(
            message=f"{envelope['protected']}.{envelope['payload']}".encode(),
            payload=payload,
            scheme=_scheme(algorithm),
            headers={
                name: _time(name, value) if name in TIMES else value
                for name, value in headers.items()
            },
            signature=_from_base64url(envelope["signature"], "signature"),
            unsigned=_unsigned(envelope["header"]),
        )


def _scheme(algorithm: object) -> Scheme:
    for scheme in SCHEMES:
        if scheme.jose is not None and scheme.jose == algorithm:
            return scheme
    possible = ", ".join(one.jose for one in SCHEMES if one.jose)
    raise VerificationError(f"the algorithm {algorithm!r} is not allowed; allowed are {possible}")


def _unsigned(header: object) -> Unsigned:
    if not isinstance(header, dict) or not header.keys() <= {_CHAIN, AGENT, TIMESTAMP}:
        raise FormatError("the unprotected header has other fields than x5c, agent and timestamp")
    chain = header.get(_CHAIN)
    if not isinstance(chain, list):
        raise FormatError("the envelope holds no certificates; it needs x5c with the whole chain")
    token = header.get(TIMESTAMP)
    return Unsigned(
        certificates=tuple(_from_base64(one, "certificate") for one in chain),
        agent=header.get(AGENT),
        timestamp_token=None if token is None else _from_base64(token, "timestamp signature"),
    )


def _time(name: str, value: object) -> datetime:
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            found = datetime.fromisoformat(value)
            found.astimezone(UTC)  # within the calendar, whatever the zone
            return found
        except (ValueError, OverflowError):
            pass
    raise FormatError(f"{name} is not a time in the form of RFC 3339")


def _to_base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _from_base64url(text: object, what: str) -> bytes:
    if isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_-]*", text, re.ASCII):
        try:
            data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            data = b""
        # several texts decode to the same bytes; RFC 7515 allows the canonical text only
        if _to_base64url(data) == text.encode():
            return data
    raise FormatError(f"the {what} of the JWS envelope is not canonical base64url without padding")


def _from_base64(text: object, what: str) -> bytes:
    if isinstance(text, str) and text.isascii():
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError:
            data = b""
        if base64.b64encode(data) == text.encode():
            return data
    raise FormatError(f"a {what} in the JWS envelope is not canonical base64 with padding")
