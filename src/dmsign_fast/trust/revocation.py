"""Revocation of the certificates of a chain, by CRL and OCSP over HTTP, only when it is asked for.

``pyhanko_certvalidator`` judges what is fetched. As the Notary Project has it, OCSP goes first, a
CRL follows where OCSP gives no answer, and a certificate that names neither cannot be revoked. One
that names sources of which none can be asked is unknown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from dmsign_fast.bounded_http import fetch
from dmsign_fast.errors import ParameterError, StorageError
from dmsign_fast.signing.certificates import extension, name_of, one_line

__all__ = ["Checker", "Revocation", "Sources", "Status", "fetch_revocation", "sources_of"]

_Optional = Any  # what is of the optional dependency

_MAX_REQUESTS = 32  # for a chain
_SECONDS = 10.0  # for a request
_REDIRECTS = 3
_LONGEST_RESPONSE = 1 << 20
_LONGEST_CRL = 32 << 20  # as for notation
# What asn1crypto and the library raise over odd bytes, beside their own errors.
_ODD = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


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


#: Takes a chain, leaf first and root last, and how many of its first certificates to check; returns
#: what it found for each of them that has sources.
Checker = Callable[[Sequence[x509.Certificate], int], tuple[Revocation, ...]]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a certificate says that its revocation is told; all URLs are http or https.

    Any of ``responders`` will do; of each of ``points`` and ``deltas``, distribution points of CRLs
    and of delta CRLs, one URL. A point without any cannot be asked. ``others`` are the names that
    are no such URL, for a message.
    """

    responders: tuple[str, ...] = ()
    points: tuple[tuple[str, ...], ...] = ()
    deltas: tuple[tuple[str, ...], ...] = ()
    others: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is any, whether or not it can be asked."""
        return bool(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, for a message."""
        urls = (url for point in (*self.points, *self.deltas) for url in point)
        return tuple(dict.fromkeys((*self.responders, *urls, *self.others)))


def sources_of(certificate: x509.Certificate) -> Sources:
    """Return what a certificate names: OCSP responders, and distribution points of CRLs."""
    access = extension(certificate, x509.AuthorityInformationAccess)
    points = extension(certificate, x509.CRLDistributionPoints)
    deltas = extension(certificate, x509.FreshestCRL)
    others: list[str] = []
    responders = _urls(
        [
            one.access_location
            for one in (access.value if access else ())
            if one.access_method == AuthorityInformationAccessOID.OCSP
        ],
        others,
    )
    return Sources(
        responders,
        tuple(_point(one, others) for one in (points.value if points else ())),
        tuple(_point(one, others) for one in (deltas.value if deltas else ())),
        tuple(others),
    )


def fetch_revocation(
    chain: Sequence[x509.Certificate], count: int | None = None, *, timeout: float = 30
) -> tuple[Revocation, ...]:
    """Check a chain, leaf first and root last, online; ``timeout``, in seconds, is for all of it.

    The first ``count`` certificates are checked, by default all but the root, which vouches for
    itself. Give no chain of a stranger: its URLs would be fetched. Raises
    ParameterError without the optional dependency.
    """
    try:
        import pyhanko_certvalidator.context  # noqa: F401
    except ImportError as error:
        raise ParameterError(
            f"revocation cannot be checked without the module {error.name}: "
            "pip install 'dmsign-fast[revocation]'"
        ) from None
    fetcher = _Fetcher(time.monotonic() + timeout)
    return tuple(
        _check_one(chain[at:], sources, fetcher)
        for at in range(len(chain) - 1 if count is None else count)
        if (sources := sources_of(chain[at]))
    )


class _Fetcher:
    """Fetches until a time, so many times, and no more than so much."""

    def __init__(self, end: float) -> None:
        self._end, self._left = end, _MAX_REQUESTS

    def post(self, url: str, content: bytes) -> bytes:
        """Return the answer of a responder; StorageError if there is none."""
        return self._fetch(url, content, _LONGEST_RESPONSE)

    def get(self, urls: Sequence[str]) -> bytes:
        """Return what the first of the URLs that answers has; StorageError if none does."""
        problem = StorageError("it names no http or https URL of a CRL")
        for url in urls:
            try:
                return self._fetch(url, None, _LONGEST_CRL)
            except StorageError as error:
                problem = error
        raise problem

    def _fetch(self, url: str, content: bytes | None, limit: int) -> bytes:
        seconds = min(_SECONDS, self._end - time.monotonic())
        if seconds <= 0 or not self._left:
            raise StorageError(f"{url} was not asked: there were too many, or it took too long")
        self._left -= 1
        headers = {} if content is None else {"Content-Type": "application/ocsp-request"}
        answer = fetch(
            url,
            content=content,
            headers=headers,
            seconds=seconds,
            limit=limit,
            redirects=_REDIRECTS,
        )
        if answer.status != 200:
            raise StorageError(f"{url} answers with the status {answer.status}")
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise StorageError(f"{url} answers with something compressed")
        return answer.body


def _check_one(
    chain: Sequence[x509.Certificate], sources: Sources, fetcher: _Fetcher
) -> Revocation:
    """Check the first certificate of a chain."""
    from pyhanko_certvalidator.errors import (
        CRLValidationError,
        OCSPValidationError,
        RevokedError,
    )

    name = name_of(chain[0])
    reasons = []

    def asked(what: str, ask: Callable[[], None]) -> Status:
        try:
            ask()
        except RevokedError as error:
            reasons.append(_line(error))
            return Status.REVOKED
        except (CRLValidationError, OCSPValidationError, StorageError, *_ODD) as error:
            reasons.append(f"{what}: {_line(error)}")
            return Status.UNKNOWN
        return Status.GOOD

    for url in sources.responders:
        status = asked(url, partial(_ask_responder, chain, url, fetcher))
        if status is not Status.UNKNOWN:
            said = reasons[-1] if status is Status.REVOKED else f"not revoked, by {url}"
            return Revocation(name, status, said)
    found = [
        asked(
            " or ".join(point) or "a distribution point without an http URL",
            partial(_ask_point, chain, point, sources.deltas, fetcher),
        )
        for point in sources.points
    ]
    if Status.REVOKED in found:
        return Revocation(name, Status.REVOKED, "; ".join(reasons))
    if found and all(one is Status.GOOD for one in found):
        by = ", ".join(url for point in sources.points for url in point)
        return Revocation(name, Status.GOOD, f"not revoked, by {by}")
    if sources.others:
        reasons.append(f"these cannot be asked: {', '.join(sources.others)}")
    return Revocation(name, Status.UNKNOWN, "; ".join(reasons))


def _ask_responder(chain: Sequence[x509.Certificate], url: str, fetcher: _Fetcher) -> None:
    from pyhanko_certvalidator.revinfo.validate_ocsp import verify_ocsp_response

    # SHA-1 names the certificate and proves nothing; many responders know no other
    builder = ocsp.OCSPRequestBuilder().add_certificate(chain[0], chain[1], hashes.SHA1())  # noqa: S303
    request = builder.build().public_bytes(Encoding.DER)
    _judge(verify_ocsp_response, chain, ocsps=[fetcher.post(url, request)])


def _ask_point(
    chain: Sequence[x509.Certificate],
    point: Sequence[str],
    deltas: Iterable[Sequence[str]],
    fetcher: _Fetcher,
) -> None:
    from pyhanko_certvalidator.revinfo.validate_crl import verify_crl

    data = fetcher.get(point)
    named = x509.load_der_x509_crl(data).extensions
    try:
        newest = named.get_extension_for_class(x509.FreshestCRL).value
        deltas = [*deltas, *(_point(one, []) for one in newest)]
    except x509.ExtensionNotFound:
        pass
    _judge(verify_crl, chain, crls=[data, *(fetcher.get(one) for one in deltas)])


def _judge(
    verify: _Optional,
    chain: Sequence[x509.Certificate],
    *,
    ocsps: Sequence[bytes] = (),
    crls: Sequence[bytes] = (),
) -> None:
    """Have the library judge the first certificate by what was fetched, and fetch nothing."""
    import asyncio

    from asn1crypto import x509 as asn1_x509
    from pyhanko_certvalidator.authority import CertTrustAnchor
    from pyhanko_certvalidator.context import ValidationContext
    from pyhanko_certvalidator.path import ValidationPath

    parsed = [asn1_x509.Certificate.load(one.public_bytes(Encoding.DER)) for one in chain]
    context = ValidationContext(
        trust_roots=[parsed[-1]],
        other_certs=parsed[:-1],
        allow_fetching=False,
        ocsps=ocsps,
        crls=crls,
    )
    # up to this certificate: an issuer below it has no say
    path = ValidationPath(CertTrustAnchor(parsed[-1]), parsed[-2:0:-1], parsed[0])
    asyncio.run(verify(parsed[0], path, context))


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _point(point: x509.DistributionPoint, others: list[str]) -> tuple[str, ...]:
    if not point.full_name:
        others.append("a distribution point without a name of its own")
    return _urls(point.full_name or (), others)


def _urls(names: Iterable[x509.GeneralName], others: list[str]) -> tuple[str, ...]:
    """Return the http and https URLs; what is none joins ``others``."""
    found = []
    for one in names:
        text = one_line(one.value) if isinstance(one.value, x509.Name) else str(one.value)
        is_url = isinstance(one, x509.UniformResourceIdentifier)
        if is_url and text.casefold().startswith(("http://", "https://")):
            found.append(text)
        else:
            others.append(text)
    return tuple(found)
