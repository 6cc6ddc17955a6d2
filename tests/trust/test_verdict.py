"""The verdict: each validation, what follows of it, and what the real notation says of the same."""

import base64
import json
from dataclasses import asdict
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from forge import N, forge_cose, forge_jws
from helpers_pkcs7 import signer_of
from notation import SCOPE, Layout, Notation
from pki import DAY, NOW, make_intermediate, make_leaf, make_root, pem
from tsa import Authority, forge_token, make_tsa

from dmsign_fast.envelope.notary import parse_envelope, sign_manifest
from dmsign_fast.envelope.timestamp import request_timestamp
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import ParameterError, StorageError, VerificationError
from dmsign_fast.trust.policy import LEVELS, Action, Validation
from dmsign_fast.trust.validations import Outcome
from dmsign_fast.trust.verdict import envelope_verdict, trust_by_policy, trust_files

SECOND = timedelta(seconds=1)
JWS, COSE = "application/jose+json", "application/cose"
ROOT = make_root()
ISSUER = make_intermediate(ROOT)
LEAF = make_leaf(ISSUER)
FILES = trust_files(TrustAnchors((ROOT.certificate,)))
NAMED = make_leaf(
    ISSUER,
    "named",
    subject=x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "WA"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "example, inc"),
            x509.NameAttribute(NameOID.COMMON_NAME, "Signer"),
        ]
    ),
)
OLD = {"start": NOW - 99 * DAY, "end": NOW - 90 * DAY}
EXPIRED = make_leaf(ISSUER, "expired", **OLD)


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "oci")


@pytest.fixture
def both(tmp_path, layout):
    """Judge by a policy, and hold the verdict against that of notation with the same files."""
    notation = Notation(tmp_path / "home")

    def judged(envelope, media_type=JWS, stores=(), **policy):
        for store, roots in stores:
            notation.trust(*(pem(one) for one in roots), store=store)
        notation.trust(pem(ROOT.certificate), policy=policy)
        layout.attach(envelope, media_type, [])
        trust = trust_by_policy(SCOPE, notation.config)
        verdict = envelope_verdict(envelope, media_type, trust, target=layout.image)
        done = notation.verify(layout)
        assert (done.exit_code == 0) == verdict.accepted, (verdict.findings, done.err)
        assert (verdict.refusal() is None) == verdict.accepted
        json.dumps(asdict(verdict))
        return verdict

    return judged


def outcomes(verdict):
    return {one.validation.value: one.outcome.value for one in verdict.findings}


def evidence(verdict, validation):
    return next(one.evidence for one in verdict.findings if one.validation is validation)


ALL_PASSED = dict.fromkeys((one.value for one in Validation), "passed")


def level(name, **more):
    return {"level": name, **more}


@pytest.mark.parametrize(("forge", "media_type"), [(forge_jws, JWS), (forge_cose, COSE)])
def test_a_good_signature(forge, media_type, both, layout):
    verdict = both(forge(LEAF, layout.image), media_type)
    assert verdict.accepted
    assert outcomes(verdict) == ALL_PASSED
    assert (verdict.policy, verdict.level, verdict.algorithm) == ("test", "strict", "ES256")
    assert verdict.signer.subject == "CN=Test Signer"
    assert [one.subject for one in verdict.chain][1:] == ["CN=Test Intermediate", "CN=Test Root"]
    assert verdict.target == layout.image
    assert verdict.signing_time == NOW.isoformat()
    assert layout.image["digest"] in evidence(verdict, Validation.INTEGRITY)
    assert evidence(verdict, Validation.AUTHENTICITY) == "CN=Test Signer by way of CN=Test Root"
    assert (
        evidence(verdict, Validation.REVOCATION)
        == "not checked, no CRL or OCSP named by the certificates"
    )


def _last_bit(raw):
    return raw[:-1] + bytes((raw[-1] ^ 1,))


@pytest.mark.parametrize("name", ["strict", "permissive", "audit"])
def test_levels_and_what_fails(name, both, layout):
    """Each failure alone, under each level: refused where its validation is enforced."""
    expired = {
        "crit": [N + "signingScheme", N + "expiry"],
        N + "signingTime": f"{NOW - DAY:%Y-%m-%dT%H:%M:%SZ}",
        N + "expiry": f"{NOW - DAY / 2:%Y-%m-%dT%H:%M:%SZ}",
    }
    stranger = make_leaf(make_root("Stranger"), "Stranger's")
    cases = {
        Validation.INTEGRITY: forge_jws(LEAF, layout.image, signature=_last_bit),
        Validation.AUTHENTICITY: forge_jws(stranger, layout.image),
        Validation.EXPIRY: forge_jws(LEAF, layout.image, protected=expired),
        Validation.AUTHENTIC_TIMESTAMP: forge_jws(EXPIRED, layout.image),
    }
    for validation, envelope in cases.items():
        verdict = both(envelope, signatureVerification=level(name))
        assert verdict.accepted == (LEVELS[name][validation] is not Action.ENFORCE)
        failed = [one.validation for one in verdict.findings if one.outcome is Outcome.FAILED]
        assert failed == [validation]


def test_what_is_not_whole_is_not_looked_at_further(both, layout):
    verdict = both(b"{}", signatureVerification=level("audit"))
    assert not verdict.accepted
    assert [one.validation for one in verdict.findings] == [Validation.INTEGRITY]
    assert verdict.signer is None
    assert verdict.refusal().startswith("integrity: fields of the JWS envelope are missing")


def test_skip(both, layout):
    none = {"trustStores": [], "trustedIdentities": []}
    verdict = both(b"{}", signatureVerification=level("skip"), registryScopes=[SCOPE], **none)
    assert verdict.accepted
    assert set(outcomes(verdict).values()) == {"skipped"}


@pytest.mark.parametrize(
    ("identity", "accepted"),
    [
        (r"C=US, ST=WA, O=example\, inc", True),
        (r"CN=Signer, O=example\, inc, S=WA, C=US", True),
        (r"C=US, ST=WA, O=example\, inc, OU=x", False),
        ("C=US, ST=WA, O=example", False),
        (r"C=US, ST=wa, O=example\, inc", False),
        (r"C=US, ST=WA, O=Example\, Inc", False),
        (r"C=US,ST=WA;O=ex\61mple\2c\20inc", True),
    ],
)
def test_identities(identity, accepted, both, layout):
    identities = ["x509.subject: C=DE, ST=BE, O=other", f"x509.subject: {identity}"]
    verdict = both(forge_jws(NAMED, layout.image), trustedIdentities=identities)
    assert verdict.accepted == accepted
    assert outcomes(verdict)["authenticity"] == ("passed" if accepted else "failed")


@pytest.mark.parametrize(
    ("trusted", "accepted"),
    [([ISSUER.certificate], True), ([make_root("A").certificate, ROOT.certificate], True),
     ([make_root("A").certificate], False)],
)  # fmt: skip
def test_which_certificates_are_trusted(trusted, accepted, both, layout):
    verdict = both(forge_jws(LEAF, layout.image), stores=[("ca/b", trusted)], trustStores=["ca:b"])
    assert verdict.accepted == accepted


def test_certificates_for_something_else_are_not_trusted(both, layout):
    stores = [("tsa/t", [ROOT.certificate]), ("signingAuthority/s", [ROOT.certificate])]
    verdict = both(
        forge_jws(LEAF, layout.image),
        stores=stores[1:],
        trustStores=["signingAuthority:s"],
    )
    assert not verdict.accepted
    assert "you trust no certificate for notary.x509" in verdict.refusal()


TSA = make_tsa()
STAMP = {"trustStores": ["ca:test", "tsa:t"]}
TSA_STORE = [("tsa/t", [TSA.root])]
AFTER = {"signatureVerification": level("strict", verifyTimestamp="afterCertExpiry")}


def stamped(entity, layout, when, tsa=TSA, **options):
    data = forge_jws(entity, layout.image)
    token = forge_token(tsa, parse_envelope(data, JWS).signature, when=when, **options)
    envelope = json.loads(data)
    envelope["header"][N + "timestampSignature"] = base64.b64encode(token).decode()
    return json.dumps(envelope).encode()


def old(entity_name, **options):
    root = make_root("Old Root", start=NOW - 999 * DAY)
    return make_leaf(make_intermediate(root, start=NOW - 999 * DAY), entity_name, **options)


def test_an_expired_certificate_with_a_stamp_of_its_time(both, layout):
    tsa = make_tsa(
        make_intermediate(make_root("T", start=NOW - 999 * DAY), "U", start=NOW - 999 * DAY),
        start=NOW - 999 * DAY,
    )
    leaf = old("expired long ago", **OLD)
    common = {
        "stores": [("tsa/t", [tsa.root]), ("ca/old", [leaf.root])],
        "trustStores": ["ca:old", "tsa:t"],
    }
    for more in ({}, AFTER):
        good = both(stamped(leaf, layout, NOW - 95 * DAY, tsa), **common, **more)
        assert good.accepted
        assert good.timestamp == (NOW - 95 * DAY).isoformat()
        for when in (NOW - 100 * DAY, NOW - 89 * DAY):
            bad = both(stamped(leaf, layout, when, tsa), **common, **more)
            assert outcomes(bad)["authenticTimestamp"] == "failed"
            assert "at the time of the stamp" in bad.refusal()
        assert not both(forge_jws(leaf, layout.image), **common, **more).accepted


def test_the_whole_range_of_a_stamp_counts(both, layout):
    leaf = make_leaf(ISSUER, "short", start=NOW - 100 * SECOND, end=NOW + 100 * SECOND)
    for when, accuracy, accepted in (
        (NOW, 0, True),
        (NOW, 100, True),
        (NOW, 101, False),
        (NOW - 50 * SECOND, 50, True),
        (NOW - 50 * SECOND, 51, False),
        (NOW + 50 * SECOND, 50, True),
        (NOW + 50 * SECOND, 51, False),
    ):
        data = stamped(leaf, layout, when, accuracy=accuracy)
        assert both(data, stores=TSA_STORE, **STAMP).accepted == accepted


def test_when_a_stamp_is_asked_for(both, layout):
    good, none = stamped(LEAF, layout, NOW), forge_jws(LEAF, layout.image)
    other = stamped(LEAF, layout, NOW, make_tsa(make_root("Other"), "Other TSA"))
    table = [
        (good, {}, True),
        (good, STAMP, True),
        (none, {}, True),
        (none, STAMP, False),
        (other, {}, True),
        (other, STAMP, False),
        (none, STAMP | AFTER, True),
        (other, STAMP | AFTER, True),
    ]
    for envelope, policy, accepted in table:
        assert both(envelope, stores=TSA_STORE, **policy).accepted == accepted
    assert "no root is trusted for it" in evidence(both(good), Validation.AUTHENTIC_TIMESTAMP)


def test_a_stamp_that_was_asked_for(tmp_path, layout):
    authority = Authority(TSA, tmp_path / "tsa")
    roots = TrustAnchors((TSA.root,))
    data = sign_manifest(
        layout.image,
        signer_of(LEAF),
        media_type=COSE,
        timestamp=lambda signature: request_timestamp(signature, authority.answer, roots),
    )
    trust = trust_files(TrustAnchors((ROOT.certificate,)), roots)
    verdict = envelope_verdict(data, COSE, trust, target=layout.image)
    assert verdict.accepted
    assert "by CN=Test TSA" in evidence(verdict, Validation.AUTHENTIC_TIMESTAMP)
    # that it was there when the certificate was valid holds for good
    assert envelope_verdict(data, COSE, trust, target=layout.image, at=NOW + 400 * DAY).accepted
    assert not envelope_verdict(data, COSE, FILES, target=layout.image, at=NOW + 400 * DAY).accepted


def test_user_metadata(layout):
    data = sign_manifest(
        layout.image, signer_of(LEAF), media_type=JWS, user_metadata={"a": "b", "c": "d"}
    )

    def judged(**metadata):
        return envelope_verdict(data, JWS, FILES, target=layout.image, user_metadata=metadata)

    assert judged(a="b").accepted
    assert judged(a="b", c="d").accepted
    assert "'a' is 'b', not 'c'" in judged(a="c").refusal()
    assert "'x' is None, not 'y'" in judged(x="y").refusal()


def test_another_image(layout):
    other = {**layout.image, "digest": f"sha256:{0:064}"}
    verdict = envelope_verdict(forge_jws(LEAF, layout.image), JWS, FILES, target=other)
    assert "for another artifact: its digest" in verdict.refusal()


def test_expiry_to_the_second(layout):
    data = sign_manifest(layout.image, signer_of(LEAF), media_type=JWS, expiry=NOW + DAY)
    before = envelope_verdict(data, JWS, FILES, target=layout.image, at=NOW + DAY - SECOND)
    assert before.accepted
    at = envelope_verdict(data, JWS, FILES, target=layout.image, at=NOW + DAY)
    assert at.refusal() == f"expiry: the signature expired on {(NOW + DAY).isoformat()}"


def test_arguments_out_of_range(layout):
    with pytest.raises(ParameterError, match="media type"):
        envelope_verdict(b"", "text/plain", FILES, target=layout.image)


def test_configurations_that_do_not_serve(tmp_path):
    with pytest.raises(StorageError, match="no trust policy"):
        trust_by_policy(SCOPE, tmp_path)
    notation = Notation(tmp_path / "home")
    notation.trust(pem(ROOT.certificate), policy={"trustStores": ["ca:other"]})
    with pytest.raises(StorageError, match="cannot read the trust store"):
        trust_by_policy(SCOPE, notation.config)
    notation.trust(policy={"registryScopes": ["local/other"]})
    with pytest.raises(VerificationError, match="no statement"):
        trust_by_policy(SCOPE, notation.config)


def test_files_are_trusted_strictly_but_for_revocation():
    assert FILES.actions == {**LEVELS["strict"], Validation.REVOCATION: Action.LOG}
    assert (FILES.identities, FILES.tsa_anchors) == ((), None)
