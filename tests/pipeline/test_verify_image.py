"""Which signatures count, whatever else is there, and the ways around them that are closed."""

import json
import shutil
from dataclasses import replace

import pytest
from container_images import push_image, tars
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from notation import SCOPE, Notation
from pki import make_intermediate, make_leaf, pem
from signed_images import (
    BAD,
    COSE,
    JWS,
    LEAF,
    RECIPE,
    ROOT,
    STRANGER,
    accepted,
    attach_layers,
    attach_notary,
    refused,
    remove,
    sign,
    signatures_of,
    verify,
)

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import (
    NotFoundError,
    RegistryError,
    StorageError,
    VerificationError,
)
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.manifest import make_index
from dmsign_fast.pipeline.binding import ROOT_HASHES, digest_of_roots
from dmsign_fast.pipeline.forms import FORMS
from dmsign_fast.trust.revocation import Revocation, Status
from dmsign_fast.trust.verdict import trust_by_policy, trust_files

BOTH = ("notary", "dm-verity")


@pytest.fixture
def layout(tmp_path):
    return Layout.create(tmp_path / "layout")


# -- what is right


@pytest.mark.parametrize("media_type", [JWS, COSE])
@pytest.mark.parametrize("form", [form.name for form in FORMS if not form.parts])
@pytest.mark.parametrize("legacy", [True, False])
def test_what_sign_made_is_verified(media_type, form, legacy, layout):
    push_image(layout, "v1")
    (made,) = sign(layout, "v1", media_type=media_type, forms=(form,), legacy=legacy)
    verdict = verify(layout, "v1")
    assert verdict.verified
    assert verdict.passed
    assert (verdict.wanted, verdict.missing, refused(verdict)) == (BOTH, (), [])
    assert {one.digest for one in verdict.referrers} == {one.digest for one in made.added}
    assert accepted(verify(layout, made.manifest.digest)) == accepted(verdict)
    layers = next(one for one in verdict.referrers if one.kind == "dm-verity")
    assert [one.layer for one in layers.layers] == [one.digest for one in made.layers]
    assert [one.root_hash for one in layers.layers] == [one.root_hash.hex() for one in made.layers]
    assert {one.recomputed for one in layers.layers} == {None}
    assert layers.recipe == RECIPE.fields()


@pytest.mark.parametrize("kind", ["api", "tag schema"])
def test_in_a_registry(kind, make_home):
    home = make_home(kind)
    push_image(home.store, "v1")
    (made,) = sign(home.store, "v1")
    assert verify(home.store, "v1", deep=True).verified
    home.damage(home.store.fetch_manifest(made.notary).layers[0], lambda data: data[::-1])
    verdict = verify(home.store, "v1")
    assert verdict.missing == ("notary",)
    assert "digest" in refused(verdict)[0].problem


@pytest.mark.parametrize("what", ["blobs", "referrers", "manifests"])
def test_a_registry_that_fails_is_no_verdict(what, make_home):
    """Also where another signature is good: nobody knows what the missing one says."""
    home = make_home("api", tries=1)
    push_image(home.store, "v1")
    sign(home.store, "v1")
    home.server.fail("GET", f"/{what}/", lambda one: one.answer(500), times=99)
    with pytest.raises(RegistryError):
        verify(home.store, "v1")


def test_what_another_image_has_is_reported_where_the_registry_lists_it(make_home):
    home = make_home("tag schema")
    image = push_image(home.store, "v1")
    other = push_image(home.store, "v2", seed=2)
    (made,) = sign(home.store, "v2")
    listed = make_index([home.store.fetch_manifest(one).referrer for one in made.added])
    home.store.tag(listed, image.descriptor.digest.referrers_tag)
    verdict = verify(home.store, "v1")
    assert verdict.missing == BOTH
    assert len(refused(verdict)) == 2
    assert all(f"refers to {other.descriptor}" in one.problem for one in refused(verdict))


def test_real_notation_signs_and_we_verify(layout, tmp_path):
    image = push_image(layout, "v1")
    notation = Notation(tmp_path / "home")
    notation.use_key(LEAF)
    reference = f"{layout.path}@{image.descriptor.digest}"
    for form in ("jws", "cose"):
        done = notation("sign", "--oci-layout", reference, "--signature-format", form)
        assert done.exit_code == 0, done.err
    verdict = verify(layout, "v1", dm_verity=False)
    assert verdict.verified
    assert {one.signature.media_type for one in verdict.referrers} == {JWS, COSE}
    assert verify(layout, "v1").missing == ("dm-verity",)
    assert not verify(layout, "v1", dm_verity=False, trust=_strangers()).verified


def _strangers():
    return trust_files(TrustAnchors((STRANGER.root,)))


def test_a_signer_may_be_trusted_by_the_certificate_itself(layout):
    """Then the signatures of layers need not bring it along."""
    push_image(layout, "v1")
    sign(layout, "v1", certificates=False)
    assert verify(layout, "v1", trust=trust_files(TrustAnchors((LEAF.certificate,)))).verified
    verdict = verify(layout, "v1")
    assert verdict.missing == ("dm-verity",)
    assert "does not hold the signer's certificate" in refused(verdict)[0].problem


def test_without_signatures(layout):
    push_image(layout, "v1")
    verdict = verify(layout, "v1")
    assert (verdict.verified, verdict.missing, verdict.referrers) == (False, BOTH, ())


def test_an_image_that_is_not_there(layout):
    with pytest.raises(NotFoundError):
        verify(layout, "v1")


@pytest.mark.parametrize("part", BOTH)
def test_either_signature_may_be_enough(part, signed):
    store, made = signed
    remove(store, made.notary if part == "dm-verity" else made.dm_verity)
    assert not verify(store, "v1").verified
    verdict = verify(
        store, "v1", dm_verity=part == "dm-verity", manifest_signature=part == "notary"
    )
    assert (verdict.verified, verdict.wanted) == (True, (part,))


def test_user_metadata_must_be_what_was_asked_for(layout):
    image = push_image(layout, "v1")
    attach_notary(layout, image.descriptor, user_metadata={"build": "7", "more": "yes"})
    wanted = {"dm_verity": False, "user_metadata": {"build": "7"}}
    assert verify(layout, "v1", **wanted).verified
    verdict = verify(layout, "v1", dm_verity=False, user_metadata={"build": "8"})
    assert not verdict.verified
    assert "'build' is '7', not '8'" in refused(verdict)[0].problem
    attach_notary(layout, image.descriptor, user_metadata={"build": "8"})
    assert verify(layout, "v1", dm_verity=False, user_metadata={"build": "8"}).verified


# -- trust as notation's configuration has it


LEVELS = ("strict", "permissive", "audit", "skip")


def policy(level, **more):
    none = {"trustStores": [], "trustedIdentities": []} if level == "skip" else {}
    return {"signatureVerification": {"level": level}} | none | more


@pytest.fixture(scope="module")
def variously_signed(tmp_path_factory):
    """Layouts whose image has one Notary signature of a kind, or none."""
    found = {}
    for kind in ("good", "expired", "stranger", "old certificate", "damaged", "none"):
        store = found[kind] = Layout.create(tmp_path_factory.mktemp("kinds") / "layout")
        image = push_image(store, "v1")
        make = {
            "expired": BAD["an expired envelope"][2],
            "stranger": BAD["a stranger"][2],
            "old certificate": BAD["an expired certificate"][2],
            "damaged": BAD["an envelope over another manifest"][2],
        }.get(kind)
        if make:
            make(store, image.descriptor, None)
        elif kind == "good":
            attach_notary(store, image.descriptor)
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_levels_are_those_of_notation(level, variously_signed, tmp_path):
    notation = Notation(tmp_path)
    notation.trust(pem(ROOT.certificate), policy=policy(level))
    trust = trust_by_policy(SCOPE, notation.config)
    passed = {}
    for kind, store in variously_signed.items():
        digest = store.resolve("v1").descriptor.digest
        done = notation("verify", "--oci-layout", f"{store.path}@{digest}", "--scope", SCOPE)
        verdict = verify(store, "v1", trust=trust, dm_verity=False)
        assert verdict.passed == (done.exit_code == 0), (kind, verdict, done.err)
        assert verdict.verified == (verdict.passed and level != "skip")
        passed[kind] = verdict.passed
    assert passed == {
        "good": True,
        "expired": level in ("permissive", "audit", "skip"),
        "stranger": level in ("audit", "skip"),
        "old certificate": level in ("permissive", "audit", "skip"),
        "damaged": level == "skip",
        "none": level == "skip",
    }


@pytest.mark.parametrize("level", LEVELS)
def test_no_level_lets_layers_pass_by_themselves(level, signed, tmp_path):
    store, made = signed
    notation = Notation(tmp_path / "home")
    notation.trust(pem(ROOT.certificate), policy=policy(level))
    verdict = verify(store, "v1", trust=trust_by_policy(SCOPE, notation.config))
    assert verdict.passed == verdict.verified == (level != "skip")
    remove(store, made.dm_verity)
    attach_layers(store, made.manifest, signatures_of(made, STRANGER))
    verdict = verify(store, "v1", trust=trust_by_policy(SCOPE, notation.config))
    assert not verdict.passed
    assert verdict.missing == ("dm-verity",)


def test_scopes_choose_the_statement(signed, tmp_path):
    store, _ = signed
    notation = Notation(tmp_path / "home")
    ours, theirs = ({"registryScopes": [scope]} for scope in (SCOPE, "local/other"))
    notation.trust(pem(STRANGER.root), store="ca/strange")
    notation.trust(pem(ROOT.certificate), policy=ours)
    path = notation.config / "trustpolicy.json"
    document = json.loads(path.read_text())
    (one,) = document["trustPolicies"]
    other = one | theirs | {"name": "other", "trustStores": ["ca:strange"]}
    document["trustPolicies"] = [other, one]
    path.write_text(json.dumps(document))
    assert verify(store, "v1", trust=trust_by_policy(SCOPE, notation.config)).verified
    trust = trust_by_policy("local/other", notation.config)
    assert verify(store, "v1", trust=trust).missing == BOTH
    with pytest.raises(VerificationError, match="no statement"):
        trust_by_policy("local/third", notation.config)


def test_a_trust_store_that_is_missing(tmp_path):
    notation = Notation(tmp_path / "home")
    notation.trust(pem(ROOT.certificate), policy={"trustStores": ["ca:absent"]})
    with pytest.raises(StorageError, match=r"trust store .*ca/absent"):
        trust_by_policy(SCOPE, notation.config)


def named(organization):
    names = ("US", "WA", organization)
    oids = (NameOID.COUNTRY_NAME, NameOID.STATE_OR_PROVINCE_NAME, NameOID.ORGANIZATION_NAME)
    return x509.Name([x509.NameAttribute(*pair) for pair in zip(oids, names, strict=True)])


def test_identities_count_for_layers_too(layout, tmp_path):
    """Of the same CA, another team's signature of layers does not stand in for ours."""
    ours, theirs = (
        make_leaf(make_intermediate(ROOT), name, subject=named(name)) for name in ("ours", "theirs")
    )
    notation = Notation(tmp_path / "home")
    identities = {"trustedIdentities": ["x509.subject: C=US, ST=WA, O=ours"]}
    notation.trust(pem(ROOT.certificate), policy=identities)
    trust = trust_by_policy(SCOPE, notation.config)
    image = push_image(layout, "v1")
    (made,) = sign(layout, "v1", theirs)
    assert verify(layout, "v1").verified
    assert verify(layout, "v1", trust=trust).missing == BOTH
    attach_notary(layout, image.descriptor, entity=ours)
    verdict = verify(layout, "v1", trust=trust)
    assert verdict.missing == ("dm-verity",)
    layers = next(one for one in refused(verdict) if one.kind == "dm-verity")
    assert "O=theirs" in layers.problem
    attach_layers(layout, image.descriptor, signatures_of(made, ours))
    assert verify(layout, "v1", trust=trust).verified


@pytest.mark.parametrize("status", Status)
def test_revocation_counts_for_layers_too_and_is_asked_for_once(status, layout):
    point = x509.DistributionPoint(
        [x509.UniformResourceIdentifier("http://127.0.0.1/crl")], None, None, None
    )
    extensions = ((x509.CRLDistributionPoints([point]), False),)
    leaf = make_leaf(ROOT, "revocable", extensions=extensions)
    push_image(layout, "v1", tars(4))
    sign(layout, "v1", leaf)
    asked = []

    def check(chain, _):
        asked.append(chain)
        return (Revocation("CN=revocable", status, "as the list says"),)

    trust = trust_files(TrustAnchors((ROOT.certificate,)), revocation=True)
    verdict = verify(layout, "v1", trust=trust, revocation=check)
    assert verdict.missing == (() if status is Status.GOOD else BOTH)
    assert all("as the list says" in one.problem for one in refused(verdict))
    assert len(asked) == 1
    # without it nothing is known, and that is enough for a policy that does not insist
    assert verify(layout, "v1").verified
    assert verify(layout, "v1", trust=trust).missing == BOTH


# -- signatures that do not count, and harm nobody


@pytest.mark.parametrize("what", BAD)
def test_a_bad_signature_is_reported_with_its_reason(what, signed):
    kind, reason, make = BAD[what]
    store, made = signed
    make(store, made.manifest, made)
    verdict = verify(store, "v1")
    assert verdict.verified
    (bad,) = refused(verdict)
    assert bad.kind == kind
    assert reason in bad.problem
    assert accepted(verdict) == {made.notary.digest, made.dm_verity.digest}
    remove(store, made.notary, made.dm_verity)
    verdict = verify(store, "v1")
    assert verdict.missing == BOTH
    assert [one.digest for one in refused(verdict)] == [bad.digest]


@pytest.fixture(scope="module")
def crowded(signed_layout, tmp_path_factory):
    """One with every bad signature."""
    path, made = signed_layout
    store = Layout(shutil.copytree(path, tmp_path_factory.mktemp("crowded") / "layout"))
    for _, _, make in BAD.values():
        make(store, made.manifest, made)
    return store, made, json.loads((store.path / "index.json").read_text())


@settings(max_examples=10)
@given(data=st.data())
def test_no_order_and_no_company_changes_the_verdict(crowded, data):
    store, made, index = crowded
    good = [made.notary.digest, made.dm_verity.digest]
    kept = data.draw(st.sets(st.sampled_from(good)))
    entries = [
        one for one in index["manifests"] if one["digest"] in kept or one["digest"] not in good
    ]
    entries = data.draw(st.permutations(entries))
    (store.path / "index.json").write_text(json.dumps(index | {"manifests": entries}))
    verdict = verify(store, "v1")
    assert accepted(verdict) == kept
    assert verdict.verified == (len(kept) == 2)
    assert len(refused(verdict)) == len(index["manifests"]) - 3
    assert all(one.problem for one in refused(verdict))


def test_a_deep_look_is_not_taken_for_strangers(signed):
    store, made = signed
    remove(store, made.dm_verity)
    odd = Recipe.parse("osguard@1.8.6")
    attach_layers(store, made.manifest, signatures_of(made, STRANGER), recipe=odd)
    read = []
    verdict = verify(store, "v1", deep=True, progress=read.append)
    assert not verdict.verified
    assert read == []


# -- root hashes that the signature of the manifest binds


def _bound(verdict):
    return [(one.kind, one.accepted, one.bound) for one in verdict.referrers]


def exchanged(made, entity=LEAF):
    first, second, third = signatures_of(made, entity)
    return [replace(first, layer=second.layer), replace(second, layer=first.layer), third]


def test_bound_root_hashes_are_reported(signed):
    store, made = signed
    verdict = verify(store, "v1")
    assert _bound(verdict) == [("dm-verity", True, True), ("notary", True, None)]
    assert len({one.root_hashes for one in verdict.referrers}) == 1
    attach_layers(store, made.manifest, exchanged(made))
    attach_layers(store, made.manifest, signatures_of(made), recipe=Recipe.parse("osguard"))
    attach_layers(store, made.manifest, signatures_of(made), form="osguard")
    verdict = verify(store, "v1")
    assert verdict.verified
    assert _bound(verdict)[2:] == [
        ("dm-verity", False, False),
        ("dm-verity", False, False),
        ("dm-verity", True, True),
    ]
    verdict = verify(store, "v1", manifest_signature=False)
    assert _bound(verdict) == [("dm-verity", True, None)] * 4


def test_every_accepted_signature_may_bind(signed):
    store, made = signed
    sign(store, "v1", recipe=Recipe.parse("osguard"))
    assert all(one.accepted for one in verify(store, "v1").referrers)
    remove(store, made.notary)
    accepted_now = [one.digest for one in verify(store, "v1").referrers if not one.accepted]
    assert accepted_now == [made.dm_verity.digest]


@pytest.mark.parametrize("level", ["strict", "audit"])
def test_a_signer_who_is_not_trusted_binds_nothing(level, signed, tmp_path):
    """At the level audit his signature of the manifest is accepted."""
    store, made = signed
    lie = exchanged(made)
    attach_layers(store, made.manifest, lie)
    roots = [(one.layer, one.root_hash) for one in lie]
    metadata = {ROOT_HASHES: digest_of_roots(roots, RECIPE)}
    attach_notary(store, made.manifest, entity=STRANGER, user_metadata=metadata)
    notation = Notation(tmp_path)
    notation.trust(pem(ROOT.certificate), policy=policy(level))
    trust = trust_by_policy(SCOPE, notation.config)
    verdict = verify(store, "v1", trust=trust)
    assert verdict.verified
    by_level = ("notary", level == "audit", None)
    assert _bound(verdict)[2:] == [("dm-verity", False, False), by_level]
    remove(store, made.notary)
    remove(store, made.dm_verity)
    verdict = verify(store, "v1", trust=trust)
    assert _bound(verdict) == [("dm-verity", True, None), by_level]
