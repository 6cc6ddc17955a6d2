"""What a report shows of a certificate."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from dmsign_fast.signing.certificates import one_line

__all__ = ["CertificateFacts", "facts_of"]


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """Names as RFC 4514, numbers in hex, times as ISO 8601.

    ``fingerprint`` is the SHA-256 of the DER.
    """

    subject: str
    issuer: str
    serial: str
    fingerprint: str
    not_before: str
    not_after: str


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    """Return what a report shows of the certificate."""
    return CertificateFacts(
        subject=one_line(certificate.subject),
        issuer=one_line(certificate.issuer),
        serial=f"{certificate.serial_number:x}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc.isoformat(),
        not_after=certificate.not_valid_after_utc.isoformat(),
    )
