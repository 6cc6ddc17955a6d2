"""What a Notary Project signature says besides its payload, whichever format it is written in.

The names, and which of them are critical, are those of the signature specification
(notaryproject/specifications, ``specs/signature-specification.md``). JWS and COSE give each of
them an encoding; here they have the names that JWS gives them, and times are datetimes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from dmsign_fast.errors import FormatError
from dmsign_fast.signing.scheme import Scheme

__all__ = [
    "AGENT",
    "AUTHENTIC_SIGNING_TIME",
    "CONTENT_TYPE",
    "CRITICAL",
    "EXPIRY",
    "MAX_SIZE",
    "PAYLOAD_TYPE",
    "SCHEME_AUTHORITY",
    "SCHEME_X509",
    "SIGNING_SCHEME",
    "SIGNING_TIME",
    "TIMES",
    "TIMESTAMP",
    "VERIFICATION_PLUGIN",
    "VERIFICATION_PLUGIN_MIN_VERSION",
    "Claims",
    "EnvelopeFormat",
    "Parts",
    "Unsigned",
]

# As much as notation reads of a signature from a registry.
MAX_SIZE = 4 << 20

PAYLOAD_TYPE = "application/vnd.cncf.notary.payload.v1+json"
SCHEME_X509 = "notary.x509"
SCHEME_AUTHORITY = "notary.x509.signingAuthority"

CRITICAL = "crit"
CONTENT_TYPE = "cty"
SIGNING_SCHEME = "io.cncf.notary.signingScheme"
SIGNING_TIME = "io.cncf.notary.signingTime"
AUTHENTIC_SIGNING_TIME = "io.cncf.notary.authenticSigningTime"
EXPIRY = "io.cncf.notary.expiry"
VERIFICATION_PLUGIN = "io.cncf.notary.verificationPlugin"
VERIFICATION_PLUGIN_MIN_VERSION = "io.cncf.notary.verificationPluginMinVersion"
TIMES = (SIGNING_TIME, AUTHENTIC_SIGNING_TIME, EXPIRY)

TIMESTAMP = "io.cncf.notary.timestampSignature"
AGENT = "io.cncf.notary.signingAgent"


@dataclass(frozen=True, slots=True)
class Claims:
    """The signed attributes that we write; times are to the second."""

    signing_time: datetime
    expiry: datetime | None = None

    def headers(self) -> dict[str, Any]:
        """Return the protected headers, all but the algorithm."""
        headers: dict[str, Any] = {
            CRITICAL: [SIGNING_SCHEME],
            CONTENT_TYPE: PAYLOAD_TYPE,
            SIGNING_SCHEME: SCHEME_X509,
            SIGNING_TIME: self.signing_time.astimezone(UTC),
        }
        if self.expiry is not None:
            headers[CRITICAL].append(EXPIRY)
            headers[EXPIRY] = self.expiry.astimezone(UTC)
        return headers


@dataclass(frozen=True, slots=True)
class Unsigned:
    """What an envelope holds outside its signature; certificates are DER, leaf first."""

    certificates: tuple[bytes, ...]
    agent: str | None = None
    timestamp_token: bytes | None = None

    def __post_init__(self) -> None:
        if not self.certificates or not all(type(one) is bytes for one in self.certificates):
            raise FormatError("the envelope holds no certificates; it needs the whole chain")
        if self.agent is not None and type(self.agent) is not str:
            raise FormatError("the signing agent of the envelope is not text")
        token = self.timestamp_token
        if token is not None and (type(token) is not bytes or not token):
            raise FormatError("the timestamp signature of the envelope is empty or no byte string")


@dataclass(frozen=True, slots=True)
class Parts:
    """An envelope taken apart and not believed yet.

    ``message`` is what the signature is over, exactly as it stands in the envelope; ``headers``
    are all protected ones but the algorithm; an ECDSA ``signature`` is r‖s.
    """

    message: bytes
    payload: bytes
    scheme: Scheme
    headers: Mapping[str, Any]
    signature: bytes
    unsigned: Unsigned


class EnvelopeFormat(Protocol):
    """One of the formats that ``envelope.media`` lists by media type."""

    @property
    def media_type(self) -> str:
        """The media type of the layer that holds such an envelope."""

    def protect(self, scheme: Scheme, headers: Mapping[str, Any]) -> bytes:
        """Return the protected header, encoded; the same bytes for the same headers."""

    def message(self, protected: bytes, payload: bytes) -> bytes:
        """Return the bytes that are signed."""

    def assemble(
        self, protected: bytes, payload: bytes, signature: bytes, unsigned: Unsigned
    ) -> bytes:
        """Return the envelope; an ECDSA ``signature`` is r‖s."""

    def parse(self, data: bytes) -> Parts:
        """Take an envelope apart.

        Raises FormatError for a malformed envelope, VerificationError for an algorithm that the
        Notary Project does not allow.
        """
