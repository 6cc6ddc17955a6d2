"""The verdict on a signature: every validation of the trust policy, its outcome and its evidence.

The validations and their meaning are those of ``specs/trust-store-trust-policy.md``, "Signature
verification". All are made, also after one has failed, except on an envelope that is not whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from dmsign_fast.arguments import PATH, TEXT, instance, takes
from dmsign_fast.envelope.claims import SCHEME_AUTHORITY, SCHEME_X509
from dmsign_fast.envelope.facts import CertificateFacts, facts_of
from dmsign_fast.envelope.headers import PluginDemand, plugin_demand
from dmsign_fast.envelope.notary import Envelope, check_envelope, parse_envelope
from dmsign_fast.envelope.pkcs7 import VerifiedRootHash, verify_root_hash
from dmsign_fast.envelope.signed_data import parse_signed_data
from dmsign_fast.envelope.timestamp import Timestamp
from dmsign_fast.envelope.trust import ANCHORS, TrustAnchors
from dmsign_fast.errors import FormatError, VerificationError
from dmsign_fast.signing.certificates import moment, name_of
from dmsign_fast.signing.plugin_contract import REVOCATION_CHECK, TRUSTED_IDENTITY
from dmsign_fast.trust.identity import ANY, Identity, identity_problem
from dmsign_fast.trust.policy import LEVELS, Action, Validation, load_policy
from dmsign_fast.trust.revocation import Checker
from dmsign_fast.trust.store import config_directory, load_store
from dmsign_fast.trust.validations import (
    Outcome,
    Result,
    anchored,
    chains_to_ask,
    iso,
    made_while_valid,
    not_expired,
    not_revoked,
)
from dmsign_fast.trust.verification_plugin import PluginOptions, VerificationPlugin

__all__ = [
    "TRUST",
    "Finding",
    "SignatureVerdict",
    "Trust",
    "envelope_verdict",
    "trust_by_policy",
    "trust_files",
    "verify_layer_signature",
]

_PLUGIN_OPTIONS = PluginOptions()
_BY_PLUGIN = {
    TRUSTED_IDENTITY: Validation.AUTHENTICITY,
    REVOCATION_CHECK: Validation.REVOCATION,
}


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe for one artifact, and how strictly; no ``identities`` stands for any.

    ``anchors`` are for signers, ``authority_anchors`` for signers of the scheme
    ``notary.x509.signingAuthority``, who vouch for the time as well. Without ``tsa_anchors``
    timestamps are not looked at. ``level`` is for reports.
    """

    name: str
    level: str
    actions: Mapping[Validation, Action]
    anchors: TrustAnchors | None
    tsa_anchors: TrustAnchors | None = None
    identities: tuple[Identity, ...] = ()
    after_cert_expiry: bool = False
    authority_anchors: TrustAnchors | None = None

    def trusted(self, signing_scheme: str) -> tuple[x509.Certificate, ...]:
        """Return the certificates that are trusted for signers of a scheme."""
        authority = signing_scheme == SCHEME_AUTHORITY
        anchors = self.authority_anchors if authority else self.anchors
        return anchors.certificates if anchors else ()

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """Every certificate that is trusted for signers."""
        return (*self.trusted(SCHEME_X509), *self.trusted(SCHEME_AUTHORITY))


@dataclass(frozen=True, slots=True)
class Finding:
    """One validation: what came out, what follows from it, and why."""

    validation: Validation
    action: Action
    outcome: Outcome
    evidence: str

    @property
    def refuses(self) -> bool:
        """True if the signature is refused for this finding."""
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


TRUST = instance(Trust, "what trust_files or trust_by_policy returns")


@takes(anchors=ANCHORS, tsa_anchors=ANCHORS.or_none)
def trust_files(
    anchors: TrustAnchors, tsa_anchors: TrustAnchors | None = None, *, revocation: bool = False
) -> Trust:
    """Trust these certificates, without a policy: strict, ``revocation`` only if it is asked for.

    Otherwise it is logged.
    """
    enforced = Action.ENFORCE if revocation else Action.LOG
    actions = {**LEVELS["strict"], Validation.REVOCATION: enforced}
    return Trust("given certificates", "strict", actions, anchors, tsa_anchors)


@takes(scope=TEXT, config=PATH.or_none)
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
        authority_anchors=anchors("signingAuthority"),
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
    plugin: PluginOptions = _PLUGIN_OPTIONS,
) -> SignatureVerdict:
    """Verify a signature and return the verdict, whatever it is.

    ``target`` is the descriptor of the artifact as the registry gives it; ``user_metadata`` must be
    among what was signed; ``at`` is by default now. Nothing is fetched without ``revocation``, such
    as ``revocation.fetch_revocation``, and the verdict says so. A verification plugin that the
    signature names is started only if all else that is enforced has passed. Raises ParameterError
    only, for arguments out of range.
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
    judge = _Judge(envelope, trust)
    timestamp = judge.by_itself(at)
    judge.by_others(timestamp, revocation, plugin)
    findings = tuple(judge.found[one] for one in Validation)
    return SignatureVerdict(
        accepted=not judge.refused(),
        policy=trust.name,
        level=trust.level,
        findings=findings,
        media_type=media_type,
        signer=facts_of(envelope.certificate_chain[0]),
        chain=tuple(facts_of(one) for one in envelope.certificate_chain),
        algorithm=envelope.scheme.jose,
        target=envelope.target,
        signing_time=iso(envelope.signing_time),
        expiry=iso(envelope.expiry),
        agent=envelope.agent,
        timestamp=iso(timestamp.time if timestamp else None),
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
    if problem is not None:
        raise VerificationError(problem)
    if trust.actions[Validation.REVOCATION] is Action.ENFORCE:
        outcome, evidence = not_revoked([(path, len(path) - 1)], revocation)
        if outcome is not Outcome.PASSED:
            raise VerificationError(f"{Validation.REVOCATION}: {evidence}")
    return verdict


def _finding(trust: Trust, validation: Validation, outcome: Outcome, evidence: str) -> Finding:
    return Finding(validation, trust.actions[validation], outcome, evidence)


def _check_metadata(envelope: Envelope, wanted: Mapping[str, str]) -> None:
    for name, value in wanted.items():
        found = envelope.user_metadata.get(name)
        if found != value:
            raise VerificationError(f"the user metadata {name!r} is {found!r}, not {value!r}")


class _Judge:
    """The findings on an envelope that is whole, one after the other."""

    def __init__(self, envelope: Envelope, trust: Trust) -> None:
        self.found: dict[Validation, Finding] = {}
        self._envelope, self._trust = envelope, trust
        self._trusted = trust.trusted(envelope.signing_scheme)

    def put(self, validation: Validation, result: Result) -> None:
        """Note what came out of a validation, in place of what came before."""
        self.found[validation] = Finding(validation, self._trust.actions[validation], *result)

    def passed(self, validation: Validation) -> bool:
        """Tell whether a validation has passed."""
        return self.found[validation].outcome is Outcome.PASSED

    def refused(self) -> bool:
        """Tell whether what was found so far refuses the signature."""
        return any(one.refuses for one in self.found.values())

    def by_itself(self, at: datetime) -> Timestamp | None:
        """Make the validations that need nobody else; return the timestamp that counts."""
        envelope, trust = self._envelope, self._trust
        chain = envelope.certificate_chain
        what = f"{envelope.scheme.jose} by {name_of(chain[0])} over {envelope.target['digest']}"
        self.put(Validation.INTEGRITY, (Outcome.PASSED, what))
        self.put(Validation.AUTHENTICITY, anchored(envelope, self._trusted))
        self.put(Validation.EXPIRY, not_expired(envelope, at))
        timestamp, result = made_while_valid(
            envelope, trust.tsa_anchors, at, only_if_expired=trust.after_cert_expiry
        )
        self.put(Validation.AUTHENTIC_TIMESTAMP, result)
        return timestamp

    def by_others(
        self, timestamp: Timestamp | None, check: Checker | None, options: PluginOptions
    ) -> None:
        """Ask sources of revocation, and the plugin that the envelope names; none for a stranger.

        A plugin is asked last, if a trust store trusts the chain and nothing refuses the signature.
        Without its answer the signature is refused.
        """
        envelope, trust = self._envelope, self._trust
        demand, known = plugin_demand(envelope), self.passed(Validation.AUTHENTICITY)
        plugin = self._start(demand, options) if demand and known and not self.refused() else None
        capabilities = plugin.capabilities if plugin else ()
        if known and TRUSTED_IDENTITY not in capabilities and trust.identities:
            problem = identity_problem(envelope.certificate_chain[0], trust.identities)
            if problem is not None:
                self.put(Validation.AUTHENTICITY, (Outcome.FAILED, problem))
        if trust.actions[Validation.REVOCATION] is Action.SKIP:
            capabilities = tuple(one for one in capabilities if one != REVOCATION_CHECK)
            self.put(Validation.REVOCATION, (Outcome.SKIPPED, "the trust policy skips revocation"))
        else:
            chains = chains_to_ask(envelope, self._trusted, timestamp)
            if REVOCATION_CHECK in capabilities:
                chains = chains[1:]  # those of a timestamp's authority are no plugin's
            ask = check if self.passed(Validation.AUTHENTICITY) and not self.refused() else None
            self.put(Validation.REVOCATION, not_revoked(chains, ask))
        if demand is not None:
            self._finish(demand, plugin, capabilities)

    def _start(self, demand: PluginDemand, options: PluginOptions) -> VerificationPlugin | None:
        try:
            return VerificationPlugin(demand, options)
        except VerificationError as error:
            self.put(Validation.INTEGRITY, (Outcome.FAILED, str(error)))
            return None

    def _finish(
        self, demand: PluginDemand, plugin: VerificationPlugin | None, capabilities: Sequence[str]
    ) -> None:
        if plugin is None or self.refused():
            if self.passed(Validation.INTEGRITY):
                why = f"the verification plugin {demand.name} was not asked"
                self.put(Validation.INTEGRITY, (Outcome.UNCHECKED, why))
            return
        identities = [one.text for one in self._trust.identities] or [ANY]
        try:
            results = plugin.verify(self._envelope, identities, capabilities)
        except VerificationError as error:
            self.put(Validation.INTEGRITY, (Outcome.FAILED, str(error)))
            return
        for capability, result in results.items():
            outcome = Outcome.PASSED if result.success else Outcome.FAILED
            said = f"the plugin {demand.name} says: {result.reason or outcome}"
            if self.passed(_BY_PLUGIN[capability]):
                self.put(_BY_PLUGIN[capability], (outcome, said))
