"""Revocation of the certificates of a chain, by CRL and OCSP over HTTP, only when it is asked for.

``pyhanko_certvalidator`` fetches and judges them. As the Notary Project has it, OCSP goes first, a
CRL follows where OCSP gives no answer, and a certificate that names neither cannot be revoked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from dmsign_fast.errors import ParameterError
from dmsign_fast.signing.certificates import extension, name_of

__all__ = ["Checker", "Revocation", "Status", "fetch_revocation", "sources_of"]

_Optional = Any  # what is of the optional dependency

_MAX_REQUESTS = 32


class Status(StrEnum):
    """What is known of one certificate."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Revocation:
    """What was found for a certificate that names a CRL or an OCSP responder."""

    certificate: str
    status: Status
    evidence: str


#: Takes a chain, leaf first and root last, and returns what it found for each that has sources.
Checker = Callable[[Sequence[x509.Certificate]], tuple[Revocation, ...]]


def sources_of(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the URLs of OCSP responders and of CRLs that a certificate names, HTTP alone."""
    access = extension(certificate, x509.AuthorityInformationAccess)
    points = extension(certificate, x509.CRLDistributionPoints)
    ocsp = [
        one.access_location
        for one in (access.value if access else ())
        if one.access_method == AuthorityInformationAccessOID.OCSP
    ]
    crls = [name for one in (points.value if points else ()) for name in one.full_name or ()]
    return _http(ocsp), _http(crls)


def fetch_revocation(
    chain: Sequence[x509.Certificate], *, timeout: float = 5
) -> tuple[Revocation, ...]:
    """Check a chain, leaf first and root last, online; ``timeout``, in seconds, is per request.

    The root vouches for itself. Raises ParameterError without the optional dependency.
    """
    try:
        from pyhanko_certvalidator.authority import CertTrustAnchor
        from pyhanko_certvalidator.context import ValidationContext
        from pyhanko_certvalidator.fetchers.api import FetchLimits
        from pyhanko_certvalidator.fetchers.requests_fetchers import RequestsFetcherBackend
        from pyhanko_certvalidator.path import ValidationPath
    except ImportError as error:
        raise ParameterError(
            f"revocation cannot be checked without the module {error.name}: "
            "pip install 'dmsign-fast[revocation]'"
        ) from None
    from asn1crypto import x509 as asn1_x509

    parsed = [asn1_x509.Certificate.load(one.public_bytes(Encoding.DER)) for one in chain]

    async def check() -> tuple[Revocation, ...]:
        limits = FetchLimits(max_requests=_MAX_REQUESTS)
        context = ValidationContext(
            trust_roots=[parsed[-1]],
            other_certs=parsed[:-1],
            allow_fetching=True,
            fetcher_backend=RequestsFetcherBackend(timeout, limits=limits),
        )
        found = []
        for at, certificate in enumerate(chain[:-1]):
            # up to this certificate: an issuer below it has no say
            path = ValidationPath(CertTrustAnchor(parsed[-1]), parsed[-2:at:-1], parsed[at])
            if any(sources_of(certificate)):
                found.append(await _check_one(certificate, parsed[at], path, context))
        return tuple(found)

    import asyncio

    return asyncio.run(check())


async def _check_one(
    certificate: x509.Certificate, parsed: _Optional, path: _Optional, context: _Optional
) -> Revocation:
    from pyhanko_certvalidator.errors import (
        CRLValidationError,
        OCSPValidationError,
        RevokedError,
    )
    from pyhanko_certvalidator.revinfo.validate_crl import verify_crl
    from pyhanko_certvalidator.revinfo.validate_ocsp import verify_ocsp_response

    name, (responders, lists) = name_of(certificate), sources_of(certificate)
    reasons = []
    for urls, verify in ((responders, verify_ocsp_response), (lists, verify_crl)):
        if not urls:
            continue
        try:
            await verify(parsed, path, context)
        except RevokedError as error:
            return Revocation(name, Status.REVOKED, _line(error))
        except (OCSPValidationError, CRLValidationError, ValueError) as error:
            reasons.append(f"{', '.join(urls)}: {_line(error)}")
        else:
            return Revocation(name, Status.GOOD, f"not revoked, by {', '.join(urls)}")
    return Revocation(name, Status.UNKNOWN, "; ".join(reasons))


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _http(names: Iterable[x509.GeneralName]) -> tuple[str, ...]:
    urls = (str(one.value) for one in names if isinstance(one, x509.UniformResourceIdentifier))
    return tuple(one for one in urls if one.startswith(("http://", "https://")))
