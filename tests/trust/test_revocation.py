"""Revocation by CRL and OCSP from a server on the loopback, beside the real notation."""

import sys

import pytest
from forge import forge_jws
from notation import SCOPE, Layout, Notation
from pki import DAY, NOW, make_leaf, pem
from revocable import ISSUER, OTHER, ROOT, Pki
from tsa import serve

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import ParameterError
from dmsign_fast.trust.policy import Validation
from dmsign_fast.trust.revocation import Status, fetch_revocation
from dmsign_fast.trust.validations import Outcome
from dmsign_fast.trust.verdict import envelope_verdict, trust_by_policy, trust_files

JWS = "application/jose+json"


@pytest.fixture
def pki():
    made = Pki("")
    with serve(lambda request: made.answer(request)) as made.url:  # noqa: PLW0108
        yield made


@pytest.mark.parametrize("kind", ["crl", "responder"])
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.GOOD),
        ({"revoked": True}, Status.REVOKED),
        ({"end": NOW - DAY}, Status.UNKNOWN),
        ({"signer": OTHER}, Status.UNKNOWN),
        ({"broken": True}, Status.UNKNOWN),
    ],
    ids=["good", "revoked", "stale", "by-another", "broken"],
)
def test_what_is_found(pki, kind, changes, status, tmp_path):
    leaf = pki.leaf(**{kind: True})
    for name, value in changes.items():
        setattr(pki, name, value)
    (found,) = fetch_revocation(leaf.chain)
    assert found.status is status
    assert found.certificate.startswith("CN=leaf ")
    assert pki.url in found.evidence or status is Status.REVOKED
    layout = Layout(tmp_path / "oci")
    layout.attach(forge_jws(leaf, layout.image), JWS, [])
    notation = Notation(tmp_path / "home")
    notation.trust(pem(ROOT.certificate))
    done = notation.verify(layout)
    assert (done.exit_code == 0) == (status is Status.GOOD), done.err


def test_a_crl_where_the_responder_gives_no_answer(pki, monkeypatch):
    leaf = pki.leaf(crl=True, responder=True)
    good = pki.answer
    monkeypatch.setattr(pki, "answer", lambda request: b"broken" if request else good(request))
    (found,) = fetch_revocation(leaf.chain)
    assert found.status is Status.GOOD
    pki.revoked = True
    (found,) = fetch_revocation(leaf.chain)
    assert found.status is Status.REVOKED


def test_no_server():
    with serve(lambda _: b"") as url:
        pass
    (found,) = fetch_revocation(Pki(url).leaf(crl=True, responder=True).chain)
    assert found.status is Status.UNKNOWN
    assert found.evidence.count(f"no answer from {url}") == 2


def test_without_sources_nothing_is_found():
    assert fetch_revocation(make_leaf(ISSUER).chain) == ()


@pytest.mark.parametrize("action", ["enforce", "log", "skip"])
@pytest.mark.parametrize("online", [False, True])
def test_the_verdict(pki, action, online, tmp_path):
    leaf = pki.leaf(crl=True)
    layout = Layout(tmp_path / "oci")
    notation = Notation(tmp_path / "home")
    verification = {"level": "strict", "override": {"revocation": action}}
    notation.trust(pem(ROOT.certificate), policy={"signatureVerification": verification})
    trust = trust_by_policy(SCOPE, notation.config)

    def judged():
        check = fetch_revocation if online else None
        data = forge_jws(leaf, layout.image)
        made = envelope_verdict(data, JWS, trust, target=layout.image, revocation=check)
        (found,) = (one for one in made.findings if one.validation is Validation.REVOCATION)
        return made.accepted, found

    accepted, found = judged()
    asked = online and action != "skip"
    assert bool(pki.asked) == asked
    if action == "skip":
        assert (accepted, found.outcome) == (True, Outcome.SKIPPED)
    elif not online:
        assert (accepted, found.outcome) == (action == "log", Outcome.UNCHECKED)
        assert f"nothing was fetched from {pki.url}" in found.evidence
    else:
        assert (accepted, found.outcome) == (True, Outcome.PASSED)
        pki.revoked = True
        accepted, found = judged()
        assert (accepted, found.outcome) == (action == "log", Outcome.FAILED)
        pki.revoked, pki.broken = False, True
        accepted, found = judged()
        assert (accepted, found.outcome) == (action == "log", Outcome.UNCHECKED)


def test_a_check_that_says_nothing_is_none(pki, tmp_path):
    leaf = pki.leaf(crl=True)
    layout = Layout(tmp_path / "oci")
    trust = trust_files(TrustAnchors((ROOT.certificate,)))
    data = forge_jws(leaf, layout.image)
    verdict = envelope_verdict(data, JWS, trust, target=layout.image, revocation=lambda *_: ())
    assert verdict.findings[-1].outcome is Outcome.UNCHECKED


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyhanko_certvalidator.context", None)
    with pytest.raises(ParameterError, match=r"pip install 'dmsign-fast\[revocation\]'"):
        fetch_revocation(make_leaf(ISSUER).chain)
