"""Certificates: read from files, put in order, and held to the rules for a root-hash signer.

The kernel looks at none of validity, basicConstraints or keyUsage when it verifies a root hash;
these rules are ours, the same when signing (SigningError) and verifying (VerificationError).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import filterfalse
from pathlib import Path
from typing import TypeVar

from asn1crypto import parser as asn1_parser
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

from dmsign_fast.errors import FormatError, ParameterError, SigningError, StorageError
from dmsign_fast.signing.file_kinds import said_by_parser, why_no_certificate

__all__ = [
    "chain_of_key",
    "check_chain",
    "extension",
    "go_problem",
    "has_key",
    "issued",
    "issuer_in",
    "issuer_problem",
    "leaf_problem",
    "load_certificates",
    "moment",
    "name_in",
    "name_of",
    "names_of",
    "one_line",
    "order_chain",
    "parse_certificate",
    "read_file",
    "usage_name",
    "usage_problem",
    "validity_problem",
]

# A distribution's whole CA bundle is about 250 KiB.
MAX_FILE_SIZE = 16 << 20
_MOST_NAMES = 3  # in a message

_PARSE_ERRORS = (
    ValueError,
    TypeError,  # for a name of an odd ASN.1 type
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)

# Usages by the attributes of x509.KeyUsage and by OID: as openssl takes them in a configuration and
# as it prints them.
_USAGES = {
    "digital_signature": ("digitalSignature", "Digital Signature"),
    "content_commitment": ("nonRepudiation", "Non Repudiation"),
    "key_encipherment": ("keyEncipherment", "Key Encipherment"),
    "data_encipherment": ("dataEncipherment", "Data Encipherment"),
    "key_agreement": ("keyAgreement", "Key Agreement"),
    "key_cert_sign": ("keyCertSign", "Certificate Sign"),
    "crl_sign": ("cRLSign", "CRL Sign"),
    Usage.CODE_SIGNING: ("codeSigning", "Code Signing"),
    Usage.SERVER_AUTH: ("serverAuth", "TLS Web Server Authentication"),
    Usage.CLIENT_AUTH: ("clientAuth", "TLS Web Client Authentication"),
    Usage.EMAIL_PROTECTION: ("emailProtection", "E-mail Protection"),
    Usage.TIME_STAMPING: ("timeStamping", "Time Stamping"),
    Usage.OCSP_SIGNING: ("OCSPSigning", "OCSP Signing"),
    Usage.ANY_EXTENDED_KEY_USAGE: ("anyExtendedKeyUsage", "Any Extended Key Usage"),
}

# RFC 3986: all of a URI, and the host with its port
_URI = re.compile(
    r"[a-z][a-z0-9+.-]*:(?:[!#$&-;=?-Z_a-z~\[\]]|%[0-9a-f]{2})*", re.ASCII | re.IGNORECASE
)
_HOST = re.compile(r"(?:[\w.~-]*|\[[0-9a-f:.]+\])(?::[0-9]*)?", re.ASCII | re.IGNORECASE)

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def read_file(path: Path) -> bytes:
    """Return the bytes of a key or certificate file; StorageError if it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_FILE_SIZE:
        raise FormatError(
            f"{path} is too large for a key or certificate file: give one of at most "
            f"{MAX_FILE_SIZE >> 20} MiB"
        )
    return data


def load_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """Return all certificates of a PEM bundle in its order, or the certificate of a DER file.

    PEM blocks of other kinds, such as a private key, are passed over; those of OpenSSL's trusted
    certificates are read. Raises StorageError, or
    FormatError when there is no certificate or a certificate cannot be parsed.
    """
    data = read_file(path)
    try:
        if b"-----BEGIN " in data:
            certificates = x509.load_pem_x509_certificates(_without_trust(data))
        else:
            certificates = [x509.load_der_x509_certificate(data)]
        for certificate in certificates:
            _parse_fully(certificate)
    except _PARSE_ERRORS as error:
        raise FormatError(
            f"{path} is not a certificate ({why_no_certificate(data, error)}); give a PEM bundle "
            "or one DER certificate"
        ) from None
    return tuple(certificates)


def _without_trust(pem: bytes) -> bytes:
    """Make certificates of OpenSSL's TRUSTED CERTIFICATEs, which have its settings behind them."""
    first, *others = pem.split(b"-----BEGIN TRUSTED CERTIFICATE-----")
    plain = [first]
    for other in others:
        text, _, rest = other.partition(b"-----END TRUSTED CERTIFICATE-----")
        der = base64.b64decode(text)
        der = der[: asn1_parser.peek(der)]
        plain.append(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) + rest)
    return b"".join(plain)


def parse_certificate(der: bytes) -> x509.Certificate:
    """Return the certificate in ``der``, parsed to the last extension; FormatError otherwise."""
    try:
        certificate = _parse_fully(x509.load_der_x509_certificate(der))
    except _PARSE_ERRORS as error:
        raise FormatError(f"a certificate cannot be parsed: {said_by_parser(error)}") from None
    # The issuer does not sign the count of unused bits, and parsers ignore it.
    if not der.endswith(b"\0" + certificate.signature):
        raise FormatError("a certificate's signature is not of whole bytes")
    return certificate


def _parse_fully(certificate: x509.Certificate) -> x509.Certificate:
    # cryptography parses these fields on first use: a malformed field must raise here.
    _ = (certificate.version, certificate.subject, certificate.issuer, certificate.extensions)
    _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    return certificate


def name_of(certificate: x509.Certificate) -> str:
    """Return the subject on one printable line (RFC 4514), or the serial number without one."""
    return one_line(certificate.subject) or f"serial {certificate.serial_number:x}"


def name_in(der: bytes) -> str:
    """Return ``name_of`` a certificate in DER, or its first bytes if it cannot be read."""
    try:
        return name_of(_parse_fully(x509.load_der_x509_certificate(der)))
    except _PARSE_ERRORS:
        return f"{der[:24].hex()}..."


def issuer_in(der: bytes) -> str:
    """Return the issuer of a certificate in DER on one line, or "unknown" if it cannot be read."""
    try:
        return one_line(x509.load_der_x509_certificate(der).issuer)
    except _PARSE_ERRORS:
        return "unknown"


def names_of(certificates: Iterable[x509.Certificate]) -> str:
    """Return the subjects of some, for a message; "no certificate" if there are none."""
    names = list(dict.fromkeys(map(name_of, certificates)))
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}" if names else "no certificate"


def one_line(name: x509.Name) -> str:
    """Return the name on one printable line (RFC 4514)."""
    text = name.rfc4514_string()
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def moment(at: datetime | None) -> datetime:
    """Return ``at``, or now without it; ParameterError for a time without a time zone."""
    if at is None:
        return datetime.now(UTC)
    if at.tzinfo is None:
        raise ParameterError("a time needs a time zone, such as datetime.UTC")
    return at


def validity_problem(certificate: x509.Certificate, at: datetime) -> str | None:
    """Say why the certificate is not valid at that time, or None."""
    if at > certificate.not_valid_after_utc:
        return (
            f"the certificate {name_of(certificate)} expired on {_day(certificate, 'after')}; "
            "sign with one that is valid"
        )
    if at < certificate.not_valid_before_utc:
        return (
            f"the certificate {name_of(certificate)} is not valid before "
            f"{_day(certificate, 'before')}; check the clock"
        )
    return None


def leaf_problem(certificate: x509.Certificate, at: datetime) -> str | None:
    """Say why the certificate must not sign a root hash at that time, or None."""
    if certificate.version is not x509.Version.v3:
        return f"the certificate {name_of(certificate)} is X.509 v1; use a v3 certificate"
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        return (
            f"the certificate {name_of(certificate)} is not for signing: "
            f"its key usage lacks {usage_name('digital_signature')}; have one issued with it"
        )
    return validity_problem(certificate, at)


def usage_name(usage: str | x509.ObjectIdentifier) -> str:
    """Name a usage as ``openssl`` does: an attribute of ``x509.KeyUsage``, or an OID.

    >>> usage_name("key_cert_sign")
    'keyCertSign (Certificate Sign)'
    """
    written, printed = _USAGES[usage]
    return f"{written} ({printed})"


def usage_problem(certificate: x509.Certificate) -> str | None:
    """Say why the certificate must not sign code, by its extended key usage, or None.

    A CA that is trusted for images also issues certificates of TLS servers.
    """
    usages = _extension(certificate, x509.ExtendedKeyUsage)
    if usages is None or {Usage.CODE_SIGNING, Usage.ANY_EXTENDED_KEY_USAGE} & set(usages):
        return None
    return (
        f"the certificate {name_of(certificate)} is not for signing code: its extended key usage "
        f"lacks {usage_name(Usage.CODE_SIGNING)}; have one issued with it"
    )


def issuer_problem(certificate: x509.Certificate) -> str | None:
    """Say why the certificate must not issue others, its validity apart, or None."""
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        return (
            f"the certificate {name_of(certificate)} issued another and is not a CA: "
            "its basicConstraints lack CA:TRUE; have the chain issued by a CA"
        )
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        return (
            f"the certificate {name_of(certificate)} issued another and its key usage "
            f"lacks {usage_name('key_cert_sign')}; have the chain issued by a CA with it"
        )
    return None


def go_problem(certificate: x509.Certificate) -> str | None:
    """Say why Go's crypto/x509, and so notation, cannot read the certificate, or None.

    Of what ``cryptography`` reads; for keys see ``scheme.key_form_problem``.
    """
    problem = None
    names = _extension(certificate, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    if certificate.serial_number < 0:
        problem = "a negative serial number"
    elif (odd := next(filterfalse(_is_uri, uris), None)) is not None:
        problem = f"the subject alternative name {odd!r}, which is no URI"
    elif names and not all(one.isascii() for one in names.get_values_for_type(x509.RFC822Name)):
        problem = "an address in its subject alternative name that is not ASCII"
    if problem is None:
        return None
    return f"the certificate {name_of(certificate)} has {problem}: notation cannot read it"


def _is_uri(text: str) -> bool:
    if not _URI.fullmatch(text):
        return False
    authority = re.match(r"[^:]*://([^/?#]*)", text)
    return authority is None or bool(_HOST.fullmatch(authority[1].rpartition("@")[2]))


def issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Return True if the issuer signed the certificate, and the certificate has its name."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def has_key(certificate: x509.Certificate, public_key: object) -> bool:
    """Return True if the certificate is for that public key."""
    try:
        return certificate.public_key() == public_key
    except (ValueError, UnsupportedAlgorithm):
        return False


def order_chain(
    leaf: x509.Certificate, others: Iterable[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """Return the chain: the leaf, then each certificate's issuer.

    Repeated certificates count once. Raises SigningError for a certificate outside the chain.
    """
    chain = [leaf]
    rest = [other for other in dict.fromkeys(others) if other != leaf]
    while rest:
        issuer = next((other for other in rest if issued(other, chain[-1])), None)
        if issuer is None and issued(leaf, rest[0]):
            raise SigningError(
                f"the key is of {name_of(leaf)}, which issued {name_of(rest[0])}: give the key of "
                f"{name_of(rest[0])}"
            )
        if issuer is None:
            raise SigningError(
                f"the certificate {name_of(rest[0])} is not in the chain of {name_of(leaf)}: it "
                f"did not issue {name_of(chain[-1])}; give the leaf and its issuers only"
            )
        chain.append(issuer)
        rest.remove(issuer)
    return tuple(chain)


def chain_of_key(
    public_key: object, certificates: Iterable[x509.Certificate], at: datetime
) -> tuple[x509.Certificate, ...]:
    """Return the certificate of that public key and its issuers, in order and fit to sign.

    Raises SigningError when none has the key, or the chain must not sign at that time.
    """
    found = tuple(certificates)
    leaf = next((one for one in found if has_key(one, public_key)), None)
    if leaf is None:
        raise SigningError("wrong key for the certificate: none of them is of this key")
    chain = order_chain(leaf, found)
    check_chain(chain, at)
    return chain


def check_chain(chain: Sequence[x509.Certificate], at: datetime) -> None:
    """Raise SigningError unless this ordered chain may sign a root hash at that time."""
    if not chain:
        raise SigningError("the signer has no certificate; give it one for its key")
    problems = [leaf_problem(chain[0], at)]
    for issuer in chain[1:]:
        problems += [issuer_problem(issuer), validity_problem(issuer, at)]
    for problem in problems:
        if problem is not None:
            raise SigningError(problem)


def extension(
    certificate: x509.Certificate, kind: type[_Extension]
) -> x509.Extension[_Extension] | None:
    """Return the certificate's extension of that kind, or None."""
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    found = extension(certificate, kind)
    return None if found is None else found.value


def _day(certificate: x509.Certificate, end: str) -> str:
    when = certificate.not_valid_after_utc if end == "after" else certificate.not_valid_before_utc
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"
