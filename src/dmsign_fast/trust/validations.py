"""The validations of a Notary Project signature that is whole, each an outcome and its evidence.

They are those of ``specs/trust-store-trust-policy.md``, "Signature verification"; what follows of
an outcome is for ``trust.verdict``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from cryptography import x509

from dmsign_fast.envelope.chain import chain_validity_problem
from dmsign_fast.envelope.claims import SCHEME_AUTHORITY
from dmsign_fast.envelope.notary import Envelope
from dmsign_fast.envelope.timestamp import Timestamp, verify_timestamp
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import FormatError, VerificationError
from dmsign_fast.signing.certificates import name_of, names_of
from dmsign_fast.trust.revocation import Checker, Status, sources_of

__all__ = [
    "Chains",
    "Outcome",
    "Result",
    "anchored",
    "chains_to_ask",
    "iso",
    "made_while_valid",
    "not_expired",
    "not_revoked",
]


class Outcome(StrEnum):
    """How a validation went; one that was not made counts as failed where it is enforced."""

    PASSED = "passed"
    FAILED = "failed"
    UNCHECKED = "not checked"
    SKIPPED = "skipped"


Result = tuple[Outcome, str]
#: Chains, leaf first and root last, and how many of the first certificates of each are checked.
Chains = Sequence[tuple[tuple[x509.Certificate, ...], int]]


def anchored(envelope: Envelope, trusted: Sequence[x509.Certificate]) -> Result:
    """Find a certificate in the chain that is trusted."""
    chain, anchor = envelope.certificate_chain, _anchor(envelope, trusted)
    if anchor is None:
        under = f" under {name_of(chain[-1])}" if len(chain) > 1 else ""
        return (
            Outcome.FAILED,
            f"signed by {name_of(chain[0])}{under}, not trusted; you trust {names_of(trusted)} for "
            f"{envelope.signing_scheme}",
        )
    return Outcome.PASSED, f"{name_of(chain[0])} by way of {name_of(chain[anchor])}"


def not_expired(envelope: Envelope, at: datetime) -> Result:
    """Find that the signature has not expired."""
    if envelope.expiry is None:
        return Outcome.PASSED, "the signature does not expire"
    if at >= envelope.expiry:
        return Outcome.FAILED, f"the signature expired on {iso(envelope.expiry)}"
    return Outcome.PASSED, f"the signature expires on {iso(envelope.expiry)}"


def made_while_valid(
    envelope: Envelope, tsa_anchors: TrustAnchors | None, at: datetime, *, only_if_expired: bool
) -> tuple[Timestamp | None, Result]:
    """Find the certificates valid when the signature was made, as a stamp says, or else now.

    A signing authority says itself when it signed, and needs no stamp. Without ``tsa_anchors``
    stamps are not looked at, with ``only_if_expired`` not while the certificates are valid.
    """
    chain = envelope.certificate_chain
    if envelope.signing_scheme == SCHEME_AUTHORITY and envelope.signing_time is not None:
        made = f"on {iso(envelope.signing_time)}, when it was made as its signer says"
        problem = chain_validity_problem(chain, envelope.signing_time)
        return None, _result(problem and f"{made}: {problem}", f"every certificate is valid {made}")
    expired = any(at > one.not_valid_after_utc for one in chain)
    if tsa_anchors is None or (only_if_expired and not expired):
        evidence = f"every certificate is valid on {iso(at)}"
        if envelope.timestamp_token is None:
            evidence += "; there is no timestamp"
        elif tsa_anchors is None:
            evidence += "; the timestamp was not looked at, no root is trusted for it"
        return None, _result(chain_validity_problem(chain, at), evidence)
    if envelope.timestamp_token is None:
        return None, _result("the signature has no timestamp, and one is required", "")
    try:
        timestamp = verify_timestamp(envelope.timestamp_token, envelope.signature, tsa_anchors)
    except (FormatError, VerificationError) as error:
        return None, _result(str(error), "")
    problem = chain_validity_problem(chain, timestamp.earliest) or chain_validity_problem(
        chain, timestamp.latest
    )
    stamp = f"{iso(timestamp.time)} by {name_of(timestamp.chain[0])}"
    if problem is not None:
        problem = f"at the time of the stamp, {stamp}: {problem}"
    return timestamp, _result(problem, f"every certificate was valid on {stamp}")


def chains_to_ask(
    envelope: Envelope, trusted: Sequence[x509.Certificate], timestamp: Timestamp | None
) -> Chains:
    """Return the chains whose revocation is asked for: the signer's, and that of a timestamp.

    Not above what is trusted: there a stranger can have put his own, since the chain is not signed.
    """
    chain, anchor = envelope.certificate_chain, _anchor(envelope, trusted)
    count = len(chain) - 1 if anchor is None else min(anchor + 1, len(chain) - 1)
    stamps = [(timestamp.chain, len(timestamp.chain) - 1)] if timestamp else []
    return [(chain, count), *stamps]


def not_revoked(chains: Chains, check: Checker | None) -> Result:
    """Find that no certificate is revoked; nothing is asked without ``check``."""
    named = [one for chain, count in chains for one in chain[:count] if sources_of(one)]
    if not named:
        return Outcome.PASSED, "not checked, no CRL or OCSP named by the certificates"
    if check is None:
        names = ", ".join(name for one in named for name in sources_of(one).names)
        return Outcome.UNCHECKED, f"not checked, nothing was fetched from {names}"
    found = [one for chain, count in chains for one in check(chain, count)]
    evidence = "; ".join(f"{one.certificate}: {one.evidence}" for one in found)
    if any(one.status is Status.REVOKED for one in found):
        return Outcome.FAILED, evidence
    good = len(found) == len(named) and all(one.status is Status.GOOD for one in found)
    return Outcome.PASSED if good else Outcome.UNCHECKED, evidence


def iso(time: datetime | None) -> str | None:
    """Return a time as ISO 8601."""
    return time.isoformat() if time else None


def _anchor(envelope: Envelope, trusted: Sequence[x509.Certificate]) -> int | None:
    """Return the place in the chain of the first certificate that is trusted."""
    chain = envelope.certificate_chain
    return next((at for at, one in enumerate(chain) if one in trusted), None)


def _result(problem: str | None, evidence: str) -> Result:
    return (Outcome.PASSED, evidence) if problem is None else (Outcome.FAILED, problem)
