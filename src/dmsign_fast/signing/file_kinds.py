"""What a file of a key or of certificates holds instead, for messages."""

from __future__ import annotations

import re

__all__ = ["is_pkcs12", "kind_of_file", "said_by_parser", "why_no_certificate"]

_OF_PARSERS = re.compile(r"ParseError|asn1|ASN\.?1|[A-Z]\w+\(|PEM file", re.IGNORECASE)
# By the first lines of PEM; a file may have several, and certificates stand beside any of them.
_PEM = {
    b"PRIVATE KEY-----": "a private key",
    b"-----BEGIN PUBLIC KEY-----": "a public key",
    b"CERTIFICATE REQUEST-----": "a request for a certificate",
    b"-----BEGIN PKCS7-----": "PKCS#7",
    b"-----BEGIN X509 CRL-----": "a list of revoked certificates",
    b"-----BEGIN CERTIFICATE-----": "a certificate",
}
_PKCS12 = re.compile(
    rb"\x30(?:[\x00-\x80]|\x81.|\x82..|\x83...|\x84....)\x02\x01\x03\x30", re.DOTALL
)


def is_pkcs12(data: bytes) -> bool:
    """Whether data begins as PKCS#12 does: a sequence, version 3, a sequence (RFC 7292)."""
    return _PKCS12.match(data) is not None


def kind_of_file(data: bytes) -> str | None:
    """What a file of a key or certificate holds, for a message; None if that is not known."""
    if not data:
        return "empty"
    if is_pkcs12(data):
        return "PKCS#12"
    return next((kind for text, kind in _PEM.items() if text in data), None)


def why_no_certificate(data: bytes, error: Exception) -> str:
    """Say why the contents of a file are no certificate, which a parser has found."""
    kind = kind_of_file(data)
    if kind == "PKCS#12":
        return "it is PKCS#12: openssl pkcs12 -nokeys -in FILE shows its certificates"
    if kind and kind != "a certificate":
        return f"it is {kind}"
    if not kind and not data.startswith(b"\x30"):
        return "it is neither PEM nor DER"
    return said_by_parser(error)


def said_by_parser(error: Exception) -> str:
    """What a parser says, unless it is about its own parts."""
    text = " ".join(str(error).split())
    return "its DER is malformed" if _OF_PARSERS.search(text) or not text else text
