"""The verdict on a signature: every validation of the trust policy, its outcome and its evidence.

The validations and their meaning are those of ``specs/trust-store-trust-policy.md``, "Signature
verification". All are made, also after one has failed, except on an envelope that is not whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography import x509

from dmsign_fast.envelope.chain import chain_validity_problem
from dmsign_fast.envelope.facts import CertificateFacts, facts_of
from dmsign_fast.envelope.notary import Envelope, check_envelope, parse_envelope
from dmsign_fast.envelope.pkcs7 import VerifiedRootHash, verify_root_hash
from dmsign_fast.envelope.signed_data import parse_signed_data
from dmsign_fast.envelope.timestamp import Timestamp, verify_timestamp
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import FormatError, VerificationError
from dmsign_fast.signing.certificates import moment, name_of
from dmsign_fast.trust.identity import Identity, identity_problem
from dmsign_fast.trust.policy import LEVELS, Action, Validation, load_policy
from dmsign_fast.trust.revocation import Checker, Status, sources_of
from dmsign_fast.trust.store import config_directory, load_store

__all__ = [
    "Finding",
    "Outcome",
    "SignatureVerdict",
    "Trust",
    "envelope_verdict",
    "trust_by_policy",
    "trust_files",
    "verify_layer_signature",
]


class Outcome(StrEnum):
    """How a validation went; one that was not made counts as failed where it is enforced."""

    PASSED = "passed"
    FAILED = "failed"
    UNCHECKED = "not checked"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe for one artifact, and how strictly; no ``identities`` stands for any.

    Without ``tsa_anchors`` timestamps are not looked at. ``level`` is for reports.
    """

    name: str
    level: str
    actions: Mapping[Validation, Action]
    anchors: TrustAnchors | None
    tsa_anchors: TrustAnchors | None = None
    identities: tuple[Identity, ...] = ()
    after_cert_expiry: bool = False

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """Every certificate that is trusted for signers."""
        return self.anchors.certificates if self.anchors else ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One validation: what came out, what follows from it, and why."""

    validation: Validation
    action: Action
    outcome: Outcome
    evidence: str

    @property
    def refuses(self) -> bool:
        """Whether the signature is refused for this."""
        bad = self.outcome in (Outcome.FAILED, Outcome.UNCHECKED)
        return bad and self.action is Action.ENFORCE


@dataclass(frozen=True, slots=True)
class SignatureVerdict:
    """What came of one signature; ``dataclasses.asdict`` gives what JSON can hold.

    Where the signature is not whole, or its verification is skipped, nothing is known of its
    content: ``signer`` and all after it are empty. Times are ISO 8601.
    """

    accepted: bool
    policy: str
    level: str
    findings: tuple[Finding, ...]
    media_type: str
    signer: CertificateFacts | None = None
    chain: tuple[CertificateFacts, ...] = ()
    algorithm: str | None = None
    target: Mapping[str, Any] | None = None
    signing_time: str | None = None
    expiry: str | None = None
    agent: str | None = None
    timestamp: str | None = None

    def refusal(self) -> str | None:
        """The enforced validations that failed, on one line, or None."""
        wrong = [f"{one.validation}: {one.evidence}" for one in self.findings if one.refuses]
        return "; ".join(wrong) or None


def trust_files(
    anchors: TrustAnchors, tsa_anchors: TrustAnchors | None = None, *, revocation: bool = False
) -> Trust:
    """Trust these certificates, without a policy: strict, ``revocation`` only if it is asked for.

    Otherwise it is logged.
    """
    enforced = Action.ENFORCE if revocation else Action.LOG
    actions = {**LEVELS["strict"], Validation.REVOCATION: enforced}
    return Trust("given certificates", "strict", actions, anchors, tsa_anchors)


def trust_by_policy(scope: str, config: Path | None = None) -> Trust:
    """Trust as notation's configuration says for a repository such as ``registry.example/app``.

    ``config`` is by default where notation has it. Raises what ``policy.load_policy``,
    ``Policy.statement_for`` and ``store.load_store`` raise.
    """
    config = config or config_directory()
    statement = load_policy(config).statement_for(scope)

    def anchors(kind: str) -> TrustAnchors | None:
        stores = [load_store(config, kind, name) for of, name in statement.stores if of == kind]
        certificates = [certificate for store in stores for certificate in store.certificates]
        return TrustAnchors(tuple(dict.fromkeys(certificates))) if certificates else None

    return Trust(
        name=statement.name,
        level=statement.level,
        actions=statement.actions,
        anchors=anchors("ca"),
        tsa_anchors=anchors("tsa"),
        identities=statement.identities,
        after_cert_expiry=statement.after_cert_expiry,
    )


def envelope_verdict(
    data: bytes,
    media_type: str,
    trust: Trust,
    *,
    target: Mapping[str, Any],
    user_metadata: Mapping[str, str] | None = None,
    at: datetime | None = None,
    revocation: Checker | None = None,
) -> SignatureVerdict:
    """Verify a signature and return the verdict, whatever it is.

    ``target`` is the descriptor of the artifact as the registry gives it; ``user_metadata`` must be
    among what was signed; ``at`` is by default now. Nothing is fetched without ``revocation``, such
    as ``revocation.fetch_revocation``, and the verdict says so. Raises ParameterError only, for
    arguments out of range.
    """
    at = moment(at)
    if trust.actions[Validation.INTEGRITY] is Action.SKIP:
        why = "the trust policy skips verification"
        skipped = tuple(_finding(trust, one, Outcome.SKIPPED, why) for one in Validation)
        return SignatureVerdict(True, trust.name, trust.level, skipped, media_type)
    try:
        envelope = parse_envelope(data, media_type)
        check_envelope(envelope, target=target)
        _check_metadata(envelope, user_metadata or {})
    except (FormatError, VerificationError) as error:
        broken = _finding(trust, Validation.INTEGRITY, Outcome.FAILED, str(error))
        return SignatureVerdict(False, trust.name, trust.level, (broken,), media_type)
    timestamp, timestamp_finding = _authentic_timestamp(envelope, trust, at)
    authenticity = _authenticity(envelope, trust)
    chains = _to_ask(envelope, trust, timestamp)
    findings = (
        _finding(
            trust,
            Validation.INTEGRITY,
            Outcome.PASSED,
            f"{envelope.scheme.jose} by {name_of(envelope.certificate_chain[0])} over "
            f"{envelope.target['digest']}",
        ),
        authenticity,
        _expiry(envelope, trust, at),
        timestamp_finding,
        # URLs that a stranger chose are not fetched
        _revocation(chains, trust, revocation if authenticity.outcome is Outcome.PASSED else None),
    )
    return SignatureVerdict(
        accepted=not any(one.refuses for one in findings),
        policy=trust.name,
        level=trust.level,
        findings=findings,
        media_type=media_type,
        signer=facts_of(envelope.certificate_chain[0]),
        chain=tuple(facts_of(one) for one in envelope.certificate_chain),
        algorithm=envelope.scheme.jose,
        target=envelope.target,
        signing_time=_text(envelope.signing_time),
        expiry=_text(envelope.expiry),
        agent=envelope.agent,
        timestamp=_text(timestamp.time if timestamp else None),
    )


def verify_layer_signature(
    signature: bytes, root_hash: bytes, trust: Trust, *, revocation: Checker | None = None
) -> VerifiedRootHash:
    """Verify the signature of a root hash, by a signer whom the policy trusts.

    The identities count as for an artifact, and revocation where the policy enforces it; the rest
    is enforced at every level, since a kernel knows no levels.

    Raises:
        FormatError: no signature of the kernel's form.
        VerificationError: it does not hold, or its signer is not trusted.
    """
    if trust.anchors is None:
        raise VerificationError(
            f"{trust.name!r}, level {trust.level}, trusts no certificate for layers"
        )
    verdict = verify_root_hash(signature, root_hash, trust.anchors)
    known = (*trust.anchors.certificates, *parse_signed_data(signature).certificates)
    path = tuple(next(one for one in known if facts_of(one) == facts) for facts in verdict.path)
    problem = identity_problem(path[0], trust.identities) if trust.identities else None
    finding = _revocation([(path, len(path) - 1)], trust, revocation)
    if problem is not None or finding.refuses:
        raise VerificationError(problem or f"{finding.validation}: {finding.evidence}")
    return verdict


def _finding(trust: Trust, validation: Validation, outcome: Outcome, evidence: str) -> Finding:
    return Finding(validation, trust.actions[validation], outcome, evidence)


def _check_metadata(envelope: Envelope, wanted: Mapping[str, str]) -> None:
    for name, value in wanted.items():
        found = envelope.user_metadata.get(name)
        if found != value:
            raise VerificationError(f"the user metadata {name!r} is {found!r}, not {value!r}")


def _authenticity(envelope: Envelope, trust: Trust) -> Finding:
    def finding(outcome: Outcome, evidence: str) -> Finding:
        return _finding(trust, Validation.AUTHENTICITY, outcome, evidence)

    chain, trusted = envelope.certificate_chain, trust.certificates
    anchor = _anchor(envelope, trust)
    if anchor is None:
        names = ", ".join(dict.fromkeys(name_of(one) for one in trusted)) or "no certificate"
        return finding(
            Outcome.FAILED,
            f"the chain of {name_of(chain[0])} ends in {name_of(chain[-1])} and holds no "
            f"certificate that is trusted: {names}",
        )
    problem = identity_problem(chain[0], trust.identities) if trust.identities else None
    if problem is not None:
        return finding(Outcome.FAILED, problem)
    return finding(Outcome.PASSED, f"{name_of(chain[0])} by way of {name_of(chain[anchor])}")


def _anchor(envelope: Envelope, trust: Trust) -> int | None:
    """Return the place in the chain of the first certificate that is trusted."""
    chain = envelope.certificate_chain
    return next((at for at, one in enumerate(chain) if one in trust.certificates), None)


def _expiry(envelope: Envelope, trust: Trust, at: datetime) -> Finding:
    if envelope.expiry is None:
        outcome, evidence = Outcome.PASSED, "the signature does not expire"
    elif at >= envelope.expiry:
        outcome, evidence = Outcome.FAILED, f"the signature expired on {_text(envelope.expiry)}"
    else:
        outcome, evidence = Outcome.PASSED, f"the signature expires on {_text(envelope.expiry)}"
    return _finding(trust, Validation.EXPIRY, outcome, evidence)


def _authentic_timestamp(
    envelope: Envelope, trust: Trust, at: datetime
) -> tuple[Timestamp | None, Finding]:
    """Find the certificates valid at the time of a stamp, or else now."""

    def finding(problem: str | None, evidence: str) -> Finding:
        outcome = Outcome.FAILED if problem else Outcome.PASSED
        return _finding(trust, Validation.AUTHENTIC_TIMESTAMP, outcome, problem or evidence)

    chain = envelope.certificate_chain
    expired = any(at > one.not_valid_after_utc for one in chain)
    if trust.tsa_anchors is None or (trust.after_cert_expiry and not expired):
        evidence = f"every certificate is valid on {_text(at)}"
        if envelope.timestamp_token is None:
            evidence += "; there is no timestamp"
        elif trust.tsa_anchors is None:
            evidence += "; the timestamp was not looked at, no root is trusted for it"
        return None, finding(chain_validity_problem(chain, at), evidence)
    if envelope.timestamp_token is None:
        return None, finding("the signature has no timestamp, and one is required", "")
    try:
        timestamp = verify_timestamp(
            envelope.timestamp_token, envelope.signature, trust.tsa_anchors
        )
    except (FormatError, VerificationError) as error:
        return None, finding(str(error), "")
    problem = chain_validity_problem(chain, timestamp.earliest) or chain_validity_problem(
        chain, timestamp.latest
    )
    stamp = f"{_text(timestamp.time)} by {name_of(timestamp.chain[0])}"
    if problem is not None:
        problem = f"at the time of the stamp, {stamp}: {problem}"
    return timestamp, finding(problem, f"every certificate was valid on {stamp}")


def _to_ask(
    envelope: Envelope, trust: Trust, timestamp: Timestamp | None
) -> list[tuple[tuple[x509.Certificate, ...], int]]:
    """Return the chains whose revocation is asked for, and of how many certificates.

    Not above what is trusted: there a stranger can have put his own, since the chain is not signed.
    """
    chain, anchor = envelope.certificate_chain, _anchor(envelope, trust)
    count = len(chain) - 1 if anchor is None else min(anchor + 1, len(chain) - 1)
    stamps = [(timestamp.chain, len(timestamp.chain) - 1)] if timestamp else []
    return [(chain, count), *stamps]


def _revocation(
    chains: Sequence[tuple[tuple[x509.Certificate, ...], int]],
    trust: Trust,
    check: Checker | None,
) -> Finding:
    def finding(outcome: Outcome, evidence: str) -> Finding:
        return _finding(trust, Validation.REVOCATION, outcome, evidence)

    if trust.actions[Validation.REVOCATION] is Action.SKIP:
        return finding(Outcome.SKIPPED, "the trust policy skips revocation")
    named = [one for chain, count in chains for one in chain[:count] if sources_of(one)]
    if not named:
        return finding(Outcome.PASSED, "not checked, no CRL or OCSP named by the certificates")
    if check is None:
        names = ", ".join(name for one in named for name in sources_of(one).names)
        return finding(Outcome.UNCHECKED, f"not checked, nothing was fetched from {names}")
    found = [one for chain, count in chains for one in check(chain, count)]
    evidence = "; ".join(f"{one.certificate}: {one.evidence}" for one in found)
    if any(one.status is Status.REVOKED for one in found):
        return finding(Outcome.FAILED, evidence)
    good = len(found) == len(named) and all(one.status is Status.GOOD for one in found)
    return finding(Outcome.PASSED if good else Outcome.UNCHECKED, evidence)


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
