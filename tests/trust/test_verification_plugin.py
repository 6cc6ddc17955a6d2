"""Signing authorities and verification plugins: the same verdict, and requests, as notation."""

import json

import pytest
from a_plugin import (
    AUTHORITY,
    ENVELOPE,
    RAW,
    REVOCATION_CHECK,
    TRUSTED_IDENTITY,
    make_plugin,
    requests,
)
from container_images import push_image
from forge import ABSENT, N, forge_cose, forge_jws
from notation import SCOPE, Layout, Notation
from pki import DAY, NOW, make_intermediate, make_leaf, make_root, pem
from signed_images import RECIPE, verify

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.oci.layout import Layout as Store
from dmsign_fast.pipeline.sign_image import SignOptions, sign_image
from dmsign_fast.signing.providers import KeyOptions, open_signer
from dmsign_fast.trust.policy import Validation
from dmsign_fast.trust.validations import Outcome
from dmsign_fast.trust.verdict import envelope_verdict, trust_by_policy, trust_files
from dmsign_fast.trust.verification_plugin import PluginOptions

JWS, COSE = "application/jose+json", "application/cose"
BOTH = (TRUSTED_IDENTITY, REVOCATION_CHECK)
ROOT = make_root()
ISSUER = make_intermediate(ROOT)
LEAF = make_leaf(ISSUER)
STRANGER = make_leaf(make_root("Strange Root"), "Stranger")
SCHEME, TIME, AUTHENTIC = (
    N + one for one in ("signingScheme", "signingTime", "authenticSigningTime")
)
EXPIRY, PLUGIN, VERSION = N + "expiry", N + "verificationPlugin", N + "verificationPluginMinVersion"
FORGE = {JWS: forge_jws, COSE: forge_cose}


def moment(time, media_type):
    import cbor2

    return (
        f"{time:%Y-%m-%dT%H:%M:%SZ}"
        if media_type == JWS
        else cbor2.CBORTag(1, int(time.timestamp()))
    )


def forge(image, entity=LEAF, media_type=JWS, *, authentic=None, expiry=None, optional=(), **more):
    """An envelope; with ``authentic`` of a signing authority; ``more`` are further headers."""
    protected = {N + name if name[0].islower() else name[1:]: value for name, value in more.items()}
    if authentic is not None:
        protected |= {
            SCHEME: "notary.x509.signingAuthority",
            AUTHENTIC: moment(authentic, media_type),
            TIME: ABSENT,
        }
    if expiry is not None:
        protected[EXPIRY] = moment(expiry, media_type)
    critical = [name for name, value in protected.items() if value is not ABSENT]
    critical = list(dict.fromkeys([SCHEME, *(one for one in critical if one not in optional)]))
    protected["crit" if media_type == JWS else 2] = critical
    return FORGE[media_type](entity, image, protected=protected)


def plugged(image, name="test", **more):
    return forge(image, verificationPlugin=name, **more)


@pytest.fixture
def both(tmp_path, monkeypatch):
    """Judges an envelope, holds the verdict against notation's; ``home`` is the plugin's."""
    layout = Layout(tmp_path / "oci")
    notation = Notation(tmp_path / "home")
    monkeypatch.setenv("NOTATION_CONFIG", str(notation.config))
    monkeypatch.delenv("NOTATION_LIBEXEC", raising=False)

    class Both:
        image, config = layout.image, notation.config

        def plugin(self, wrong="", capabilities=BOTH, name="test"):
            self.home = make_plugin(
                notation.config, LEAF, name, capabilities=capabilities, wrong=wrong
            )

        def __call__(self, envelope, media_type=JWS, *, same=True, config=(), stores=(), **policy):
            for store, root in stores or [("ca/test", ROOT)]:
                notation.trust(pem(root.certificate), store=store)
            notation.trust(policy=policy)
            layout.attach(envelope, media_type, [])
            trust = trust_by_policy(SCOPE, notation.config)
            log = getattr(self, "home", tmp_path) / "requests"
            log.unlink(missing_ok=True)
            verdict = envelope_verdict(
                envelope,
                media_type,
                trust,
                target=layout.image,
                plugin=PluginOptions(dict(config)),
            )
            self.ours = log.read_text() if log.exists() else ""
            log.unlink(missing_ok=True)
            options = [f"--plugin-config={name}={value}" for name, value in config]
            done = notation.verify(layout, *options)
            self.theirs = log.read_text() if log.exists() else ""
            self.notation_accepts = done.exit_code == 0
            assert self.notation_accepts == verdict.accepted or not same, (verdict, done.err)
            return verdict

        def commands(self):
            return [json.loads(line)["command"] for line in self.ours.splitlines()]

    return Both()


def outcome(verdict, validation):
    return next(one for one in verdict.findings if one.validation is validation)


# -- the scheme of signing authorities

CA = ("ca/test", ROOT)
AS_AUTHORITY = ("signingAuthority/a", ROOT)
BY_AUTHORITY = {"stores": [AS_AUTHORITY], "trustStores": ["signingAuthority:a"]}


@pytest.mark.parametrize("media_type", FORGE)
@pytest.mark.parametrize(
    ("stores", "authentic", "accepted"),
    [
        (["ca:test"], None, True),
        (["ca:test"], NOW, False),
        (["signingAuthority:a"], None, False),
        (["signingAuthority:a"], NOW, True),
        (["ca:test", "signingAuthority:a"], None, True),
        (["ca:test", "signingAuthority:a"], NOW, True),
    ],
)
def test_each_scheme_has_stores_of_its_own(media_type, stores, authentic, accepted, both):
    envelope = forge(both.image, media_type=media_type, authentic=authentic)
    verdict = both(envelope, media_type, stores=[CA, AS_AUTHORITY], trustStores=stores)
    assert verdict.accepted == accepted
    assert verdict.signing_time is not None


OLD = make_leaf(ISSUER, "old", start=NOW - 9 * DAY, end=NOW - 2 * DAY)
LONG = make_root("Long", start=NOW - 99 * DAY)
OLD_OF_LONG = make_leaf(LONG, "old too", start=NOW - 9 * DAY, end=NOW - 2 * DAY)


@pytest.mark.parametrize(
    ("days", "accepted"),
    [(-10, False), (-9, True), (-5, True), (-2, True), (-1, False), (1, False)],
)
def test_the_authentic_time_is_when_certificates_must_be_valid(days, accepted, both):
    envelope = forge(both.image, OLD_OF_LONG, authentic=NOW + days * DAY)
    stores = {"stores": [("signingAuthority/a", LONG)], "trustStores": ["signingAuthority:a"]}
    verdict = both(envelope, **stores)
    assert verdict.accepted == accepted
    assert outcome(verdict, Validation.AUTHENTIC_TIMESTAMP).outcome is (
        Outcome.PASSED if accepted else Outcome.FAILED
    )


@pytest.mark.parametrize("expiry", [NOW - DAY / 2, NOW + DAY])
def test_an_authority_may_let_it_expire(expiry, both):
    envelope = forge(both.image, authentic=NOW - DAY, expiry=expiry)
    assert both(envelope, **BY_AUTHORITY).accepted == (expiry > NOW)


def test_given_files_are_no_authority():
    """The signer would vouch for his own time."""
    image = {"mediaType": "a/b", "digest": f"sha256:{0:064}", "size": 1}
    trust = trust_files(TrustAnchors((ROOT.certificate,)))
    verdict = envelope_verdict(forge(image, authentic=NOW), JWS, trust, target=image)
    assert "you trust no certificate for notary.x509.signingAuthority" in verdict.refusal()


# -- plugins

LOGGED = {"signatureVerification": {"level": "audit"}}
SKIPPED = {"signatureVerification": {"level": "strict", "override": {"revocation": "skip"}}}
JOB = {"Xcom.example.job": "arn:1"}
NEEDS_2 = {"verificationPluginMinVersion": "2.0.0"}
NEEDS_1 = {"verificationPluginMinVersion": "1.0.0"}
NEEDS_BEFORE_1 = {"verificationPluginMinVersion": "1.0.0-rc.1+x"}
NEEDS_AFTER_1 = {"verificationPluginMinVersion": "1.0.1-rc.1"}
ANY_KIND = {"trustedIdentities": ["arn:aws:signer:x"]}
NOBODY = {"trustedIdentities": ["x509.subject: C=US, ST=WA, O=nobody"]}
# headers, what is wrong with the plugin, its capabilities, the policy, and whether it is accepted
PLUGINS = {
    "good": ({}, "", BOTH, {}, True),
    "without reasons": ({}, "leaves the reason out", BOTH, {}, True),
    "header": (JOB, "", BOTH, {}, True),
    "header left out": (JOB, "leaves a header out", BOTH, {}, False),
    "header not critical": ({**JOB, "optional": ("com.example.job",)}, "", BOTH, {}, True),
    "header not critical left out": (
        {**JOB, "optional": ("com.example.job",)},
        "leaves a header out",
        BOTH,
        {},
        False,
    ),
    "no identity": ({}, "knows no identity", BOTH, {}, False),
    "no identity, logged": ({}, "knows no identity", BOTH, LOGGED, True),
    "no identity, and does not look": ({}, "knows no identity", BOTH[1:], {}, True),
    "revoked": ({}, "says revoked", BOTH, {}, False),
    "revoked, logged": ({}, "says revoked", BOTH, LOGGED, True),
    "revoked, skipped": ({}, "says revoked", BOTH, SKIPPED, True),
    "revoked, and does not look": ({}, "says revoked", BOTH[:1], {}, True),
    "result left out": ({}, "leaves a result out", BOTH, {}, False),
    "result left out, logged": ({}, "leaves a result out", BOTH, LOGGED, False),
    "results in text": ({}, "says yes", BOTH, {}, False),
    "success in text": ({}, "says success in text", BOTH, {}, False),
    "identity of another kind": ({}, "", BOTH, ANY_KIND, True),
    "identity of another kind, nobody looks": ({}, "", BOTH[1:], ANY_KIND, False),
    "an identity that only the plugin takes": ({}, "", BOTH, NOBODY, True),
    "an identity that nobody takes": ({}, "", BOTH[1:], NOBODY, False),
    "verifies nothing": ({}, "", (RAW, ENVELOPE), {}, False),
    "verifies nothing, logged": ({}, "", (RAW, ENVELOPE), LOGGED, False),
    "old enough": (NEEDS_1, "", BOTH, {}, True),
    "later than a release candidate": (NEEDS_BEFORE_1, "", BOTH, {}, True),
    "too old": (NEEDS_2, "", BOTH, {}, False),
    "too old, logged": (NEEDS_2, "", BOTH, LOGGED, False),
    "older than a release candidate": (NEEDS_AFTER_1, "", BOTH, {}, False),
    "fails": ({}, "verify-signature: fails in JSON", BOTH, {}, False),
    "fails, logged": ({}, "verify-signature: fails in text", BOTH, LOGGED, False),
    "says nothing": ({}, "verify-signature: says nothing", BOTH, {}, False),
    "has no metadata": ({}, "get-plugin-metadata: fails in text", BOTH, {}, False),
    "is another plugin": ({}, "is another plugin", BOTH, {}, False),
    "speaks another version": ({}, "speaks contract 2.0", BOTH, {}, False),
}


@pytest.mark.parametrize("media_type", FORGE)
@pytest.mark.parametrize("what", PLUGINS)
def test_plugins(what, media_type, both):
    headers, wrong, capabilities, policy, accepted = PLUGINS[what]
    both.plugin(wrong, capabilities)
    envelope = plugged(both.image, media_type=media_type, **headers)
    verdict = both(envelope, media_type, **policy)
    assert verdict.accepted == accepted, verdict.findings


def test_a_plugin_that_is_not_there(both):
    verdict = both(plugged(both.image, "absent"))
    assert "is not installed" in verdict.refusal()
    verdict = both(plugged(both.image, "../x"))
    assert "'../x' is not the name of a plugin" in verdict.refusal()


# -- what it is asked


def asked(lines):
    found = [json.loads(line) for line in lines.splitlines()]
    for one in found:
        signature = one["request"].get("signature")
        if signature:
            # the order is that of a map of Go, and no list of nothing is none
            names = signature["unprocessedAttributes"] or []
            signature["unprocessedAttributes"] = sorted(names)
    return found


@pytest.mark.parametrize("media_type", FORGE)
@pytest.mark.parametrize("config", [(), (("a", "b"),)])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"authentic": NOW - DAY},
        {"expiry": NOW + DAY},
        {
            "authentic": NOW - DAY,
            "expiry": NOW + DAY,
            **NEEDS_1,
            **JOB,
            "Xy": ["a", 1, True, None],
        },
    ],
    ids=["plain", "authority", "expires", "all"],
)
def test_the_requests_are_those_of_notation(more, config, media_type, both, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    both.plugin()
    identities = {"trustedIdentities": ["x509.subject: C=US, ST=WA, O=x", "arn:x"]}
    stores = BY_AUTHORITY if "authentic" in more else {}
    envelope = plugged(both.image, media_type=media_type, **more)
    assert both(envelope, media_type, config=config, **identities, **stores).accepted
    assert asked(both.ours) == asked(both.theirs)
    assert both.commands() == ["get-plugin-metadata", "verify-signature"]


@pytest.mark.parametrize(
    ("capabilities", "policy", "wanted"),
    [
        (BOTH, {}, list(BOTH)),
        (BOTH, SKIPPED, [TRUSTED_IDENTITY]),
        (BOTH[:1], {}, [TRUSTED_IDENTITY]),
        (BOTH[1:], {}, [REVOCATION_CHECK]),
        (BOTH[1:], SKIPPED, None),
    ],
)
def test_what_it_is_asked_for(capabilities, policy, wanted, both):
    both.plugin(capabilities=capabilities)
    assert both(plugged(both.image), **policy).accepted
    assert asked(both.ours) == asked(both.theirs)
    found = requests(both.home, "verify-signature")
    assert [one["trustPolicy"]["signatureVerification"] for one in found] == (
        [] if wanted is None else [wanted]
    )


@pytest.mark.parametrize(
    ("media_type", "value"),
    [
        *((JWS, value) for value in ({"a": 1}, [{"a": 1}], 1.5, -1)),
        *((COSE, value) for value in ({"a": 1}, [{"a": 1}], b"x", -1)),
    ],
    ids=str,
)
def test_values_of_headers(value, media_type, both):
    """Whatever JSON has is told from JWS; from COSE all but maps, bytes as base64."""
    both.plugin()
    both(plugged(both.image, media_type=media_type, Xy=value), media_type)
    assert asked(both.ours)[1:] == asked(both.theirs)[1:]


def test_a_header_that_nobody_is_asked_about_is_not_processed(both):
    """notation starts no plugin here, and accepts: docs/notation-differences.md."""
    both.plugin(capabilities=BOTH[1:])
    verdict = both(plugged(both.image, **JOB), same=False, **SKIPPED)
    assert (verdict.accepted, both.notation_accepts) == (False, True)


# -- when it is not started


@pytest.mark.parametrize("level", ["strict", "permissive", "audit"])
def test_never_for_a_chain_that_is_not_trusted(level, both):
    """notation asks for its metadata first, and at the level audit for more."""
    both.plugin()
    envelope = plugged(both.image, entity=STRANGER)
    verdict = both(envelope, same=False, signatureVerification={"level": level})
    assert not verdict.accepted
    assert both.ours == ""
    assert both.theirs != ""
    assert both.notation_accepts == (level == "audit")
    assert "was not asked" in outcome(verdict, Validation.INTEGRITY).evidence


@pytest.mark.parametrize(
    ("entity", "more"),
    [(OLD, {}), (LEAF, {"expiry": NOW - DAY / 2, "authentic": NOW - DAY})],
    ids=["old certificate", "expired"],
)
def test_never_for_what_is_refused_anyway(entity, more, both):
    both.plugin()
    stores = BY_AUTHORITY if more else {}
    assert not both(plugged(both.image, entity=entity, **more), **stores).accepted
    assert both.ours == ""


def test_never_for_what_is_not_whole(both):
    both.plugin()
    envelope = plugged(both.image)
    broken = json.loads(envelope)
    broken["signature"] = broken["signature"][:-4] + "AAAA"
    for bad in (json.dumps(broken).encode(), plugged({**both.image, "size": 1})):
        assert not both(bad).accepted
        assert both.ours == ""


# -- what AWS Signer makes, from both sides


@pytest.mark.parametrize("media_type", FORGE)
def test_made_by_a_plugin_and_verified_by_it(media_type, both, tmp_path):
    """An envelope plugin that is a signing authority and verifies what it signs."""
    both.plugin(AUTHORITY, (ENVELOPE, *BOTH))
    signer = open_signer("plugin:test?id=profile", KeyOptions())
    store = Store.create(tmp_path / "store")
    push_image(store, "v1")
    options = SignOptions(
        recipe=RECIPE, media_type=media_type, dm_verity=False, user_metadata={"a": "b"}
    )
    (made,) = sign_image(store, "v1", signer, options)
    notation = Notation(tmp_path / "home")
    notation.trust(pem(ROOT.certificate), store="signingAuthority/a")
    identities = {"trustedIdentities": ["arn:aws:signer:profile"]}
    notation.trust(policy={"trustStores": ["signingAuthority:a"], **identities})
    trust = trust_by_policy(SCOPE, both.config)
    verdict = verify(store, "v1", trust=trust, dm_verity=False, user_metadata={"a": "b"})
    assert verdict.verified, verdict
    reference = f"{store.path}@{made.manifest.digest}"
    done = notation("verify", "--oci-layout", reference, "--scope", SCOPE)
    assert done.exit_code == 0, done.err
    asked_for = [json.loads(one) for one in (both.home / "requests").read_text().splitlines()]
    verified = [one["request"] for one in asked_for if one["command"] == "verify-signature"]
    assert len(verified) == 2
    assert verified[0] == verified[1]
    assert verified[0]["signature"]["unprocessedAttributes"] == ["com.example.signingJob"]


@pytest.mark.parametrize("media_type", FORGE)
def test_made_by_notation_with_the_plugin(media_type, both, tmp_path):
    both.plugin(AUTHORITY, (ENVELOPE, *BOTH))
    notation = Notation(tmp_path / "home")
    layout = Layout(tmp_path / "signed")
    done = notation.sign(layout, media_type, "--plugin", "test", "--id", "profile")
    assert done.exit_code == 0, done.err
    envelope, _ = layout.signature(media_type)
    notation.trust(pem(ROOT.certificate), store="signingAuthority/a")
    notation.trust(policy={"trustStores": ["signingAuthority:a"]})
    trust = trust_by_policy(SCOPE, both.config)
    assert envelope_verdict(envelope, media_type, trust, target=layout.image).accepted
    assert notation.verify(layout).exit_code == 0
