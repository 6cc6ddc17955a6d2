"""Which signatures count, whatever else is there, and the ways around them that are closed."""

import json
import shutil
from dataclasses import replace

import pytest
from container_images import push_artifact, push_attestation, push_image, push_index, tars
from cryptography import x509
from cryptography.x509.oid import NameOID
from helpers_pkcs7 import sign as sign_root
from hypothesis import given, settings
from hypothesis import strategies as st
from notation import SCOPE, Notation
from pki import DAY, make_intermediate, make_leaf, make_root, pem
from signed_images import (
    BAD,
    COSE,
    EXPIRED,
    JWS,
    LEAF,
    RECIPE,
    ROOT,
    STRANGER,
    TRUST,
    altered,
    attach_layers,
    attach_notary,
    blob_path,
    push_empty,
    sign,
    signatures_of,
    verify,
)
from tar_blocks import base256, header, padded, pax

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.erofs.recipe import RECIPES, Recipe
from dmsign_fast.errors import (
    NotFoundError,
    ParameterError,
    RegistryError,
    StorageError,
    UnsignedError,
    VerificationError,
)
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.manifest import make_index, make_manifest
from dmsign_fast.pipeline.artifact import LayerSignature
from dmsign_fast.pipeline.verify_image import VerifyOptions, verify_image
from dmsign_fast.trust.revocation import Revocation, Status
from dmsign_fast.trust.verdict import trust_by_policy, trust_files

BOTH = ("notary", "dm-verity")


@pytest.fixture(scope="module")
def signed_layout(tmp_path_factory):
    """A layout with an image, signed by the leaf, and what sign said."""
    path = tmp_path_factory.mktemp("signed") / "layout"
    store = Layout.create(path)
    push_image(store, "v1", tars())
    return path, sign(store, "v1")[0]


@pytest.fixture
def signed(signed_layout, tmp_path):
    """A copy of it to change."""
    path, image = signed_layout
    shutil.copytree(path, tmp_path / "signed")
    return Layout(tmp_path / "signed"), image


@pytest.fixture
def layout(tmp_path):
    return Layout.create(tmp_path / "layout")


def remove(store, *descriptors):
    """Take artifacts out of the index of a layout."""
    path = store.path / "index.json"
    index = json.loads(path.read_text())
    gone = {one.digest for one in descriptors}
    index["manifests"] = [one for one in index["manifests"] if one["digest"] not in gone]
    path.write_text(json.dumps(index))


def accepted(verdict):
    return {one.digest for one in verdict.referrers if one.accepted}


def refused(verdict):
    return [one for one in verdict.referrers if not one.accepted]


# -- what is right


@pytest.mark.parametrize("media_type", [JWS, COSE])
@pytest.mark.parametrize("form", ["notation", "osguard"])
@pytest.mark.parametrize("legacy", [True, False])
def test_what_sign_made_is_verified(media_type, form, legacy, layout):
    push_image(layout, "v1")
    (made,) = sign(layout, "v1", media_type=media_type, form=form, legacy=legacy)
    verdict = verify(layout, "v1")
    assert verdict.verified
    assert verdict.passed
    assert (verdict.wanted, verdict.missing, refused(verdict)) == (BOTH, (), [])
    assert {one.digest for one in verdict.referrers} == {one.digest for one in made.added}
    assert accepted(verify(layout, made.manifest.digest)) == accepted(verdict)
    layers = next(one for one in verdict.referrers if one.kind == "dm-verity")
    assert [one.layer for one in layers.layers] == [one.digest for one in made.layers]
    assert [one.root_hash for one in layers.layers] == [
        one.image.root_hash.hex() for one in made.layers
    ]
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

    def check(chain):
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


# -- a deep look


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: one.name)
def test_layers_give_the_root_hashes(recipe, layout):
    push_image(layout, "v1")
    sign(layout, "v1", recipe=recipe)
    verdict = verify(layout, "v1", deep=True, jobs=2)
    assert verdict.verified
    assert _recomputed(verdict) == [True, True, True]


def _recomputed(verdict):
    return [
        layer.recomputed
        for one in verdict.referrers
        if one.kind == "dm-verity"
        for layer in one.layers
    ]


def _problem(verdict):
    (bad,) = refused(verdict)
    assert bad.kind == "dm-verity"
    return bad.problem


def test_layers_that_were_altered_with_all_digests_made_again(signed):
    """Only a deep look tells: a signature of a layer names no layer."""
    store, made = signed
    contents = tars()
    contents[1] = tars(seed=7)[1]
    image = push_image(store, "v2", contents)
    attach_notary(store, image.descriptor)
    signatures = [
        replace(old, layer=new.digest)
        for old, new in zip(signatures_of(made), image.layers, strict=True)
    ]
    attach_layers(store, image.descriptor, signatures)
    assert verify(store, "v2").verified
    verdict = verify(store, "v2", deep=True)
    assert verdict.missing == ("dm-verity",)
    assert _recomputed(verdict) == [True, False, True]
    assert f"layer {image.layers[1].digest}: the layer does not give" in _problem(verdict)
    assert "nor with any other recipe" in _problem(verdict)


def test_exchanged_root_hashes(signed):
    store, made = signed
    first, second, third = signatures_of(made)
    remove(store, made.dm_verity)
    exchanged = [replace(first, layer=second.layer), replace(second, layer=first.layer), third]
    attach_layers(store, made.manifest, exchanged)
    verdict = verify(store, "v1", deep=True)
    assert verdict.missing == ("dm-verity",)
    assert sorted(_recomputed(verdict)) == [False, False, True]


END = bytes(1024)
BY_GROUP = {
    # what changed in 1.9.1, in 1.9.2 and in 1.9.3: see tests/erofs/directed.py
    "1.8.10": pax([(b"mtime", b"0.000000005")]) + header(b"f", b"0"),
    "1.9.1": header(b"d", b"3", major=70000, minor=777777),
    "1.9.2": pax([(b"SCHILY.xattr.user." + name, name) for name in (b"b", b"a", b"ab", b"B")])
    + header(b"d", b"5")
    + pax([(b"SCHILY.xattr.user.a", b"Z"), (b"SCHILY.xattr.trusted.x", b"")])
    + header(b"d", b"5"),
}


def other_record(made_by, recorded, contents, layout):
    """An image whose artifact records another recipe than made it."""
    image = push_image(layout, "v1", contents)
    (made,) = sign(layout, "v1", recipe=Recipe.parse(made_by))
    remove(layout, made.dm_verity)

    def change(manifest):
        if recorded is None:
            for name in [one for one in manifest["annotations"] if "recipe" in one]:
                del manifest["annotations"][name]

    recipe = Recipe.parse(recorded or made_by)
    attach_layers(layout, image.descriptor, signatures_of(made), change, recipe=recipe)


@pytest.mark.parametrize("version", BY_GROUP)
def test_another_version_of_mkfs_than_is_recorded_is_named(version, layout):
    contents = [header(b"file", b"0", 3) + padded(b"abc") + END, BY_GROUP[version] + END]
    other_record(f"containerd@{version}", "containerd@1.9.4", contents, layout)
    assert verify(layout, "v1").verified
    verdict = verify(layout, "v1", deep=True)
    assert _recomputed(verdict) == [True, False]
    expected = f"not that of containerd@1.9.4 but of containerd@{version}: another"
    assert expected in _problem(verdict)


@pytest.mark.parametrize("made_by", ["containerd-cache", "containerd-tar-index", "osguard"])
def test_another_recipe_than_is_recorded_is_named(made_by, layout):
    numbers = {"major": base256(1 << 23, 8), "minor": base256(-1, 8)}
    contents = [header(b"d", b"4", raw=numbers) + END, *tars(2)]
    other_record(made_by, "containerd", contents, layout)
    problem = _problem(verify(layout, "v1", deep=True))
    # some versions refuse a device number that is negative; of the first layer, which is not compressed, digest and diff ID are the same
    expected = 2 if made_by == "containerd-cache" else 3
    assert problem.count(f"not that of containerd@1.9.4 but of {made_by}@1.9.4") == expected


def test_the_recipe_of_an_artifact_without_record_is_given(layout):
    other_record("osguard", None, tars(), layout)
    osguard = Recipe.parse("osguard")
    verdict = verify(layout, "v1", deep=True, recipe=osguard)
    assert verdict.verified
    assert next(one for one in verdict.referrers if one.layers).recipe is None
    assert "but of osguard" in _problem(verify(layout, "v1", deep=True))


def test_a_config_that_lies_about_a_layer(layout):
    """Also where another image has the same layer and a right config."""
    contents = tars()
    right = push_image(layout, "v1", contents)
    (made,) = sign(layout, "v1")
    diff_ids = [Digest.of(tar) for tar in contents]
    wrong = push_image(layout, "v2", contents, diff_ids=[diff_ids[0], diff_ids[0], diff_ids[2]])
    assert wrong.layers == right.layers
    attach_layers(layout, wrong.descriptor, signatures_of(made))
    attach_notary(layout, wrong.descriptor)
    push_index(layout, "both", [(right, "linux/amd64"), (wrong, "linux/arm64")])
    attach_notary(layout, layout.resolve("both").descriptor)
    options = VerifyOptions(trust=TRUST, recipe=RECIPE, deep=True, recursive=True)
    first, second, index = verify_image(layout, "both", options)
    assert (first.verified, second.verified, index.verified) == (True, False, True)
    assert "diff ID" in _problem(second)


def test_a_config_that_has_two_opinions_of_a_layer(layout):
    contents = [tars()[0]] * 2
    image = push_image(layout, "v1", contents)
    diff_ids = [Digest.of(b"another"), Digest.of(contents[0])]
    (made,) = sign(layout, "v1")
    assert verify(layout, "v1", deep=True).verified
    # both as they are: push_image compresses all but the first
    config = json.loads(store_read(layout, image.config))
    config["rootfs"]["diff_ids"] = diff_ids
    raw = json.dumps(config).encode()
    described = Descriptor.of(raw, image.config.media_type)
    layout.push(described, raw)
    wrong = make_manifest(config=described, layers=[image.layers[0]] * 2)
    layout.tag(wrong, "v1")
    attach_layers(layout, wrong.descriptor, signatures_of(made)[:1])
    assert "diff ID" in _problem(verify(layout, "v1", deep=True, manifest_signature=False))


def test_every_layer_is_read_once_for_each_recipe(signed):
    store, made = signed
    attach_layers(store, made.manifest, signatures_of(made, make_leaf(ROOT, "another")))
    read = []
    assert verify(store, "v1", deep=True, progress=read.append).verified
    assert sum(read) == sum(layer.size for layer in made.layers)
    osguard = Recipe.parse("osguard")
    attach_layers(store, made.manifest, signatures_of(made), recipe=osguard)
    read.clear()
    verdict = verify(store, "v1", deep=True, progress=read.append)
    assert verdict.verified
    assert "but of containerd@" in _problem(verdict)
    assert sum(read) == 2 * sum(layer.size for layer in made.layers)


def test_a_damaged_layer(signed):
    store, made = signed
    path = blob_path(store, store.fetch_manifest(made.manifest).layers[2])
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert verify(store, "v1").verified
    assert "has another digest" in _problem(verify(store, "v1", deep=True))


# -- an attacker's view


def test_nothing_asked_for_is_nothing_verified(signed):
    with pytest.raises(ParameterError):
        verify(signed[0], "v1", dm_verity=False, manifest_signature=False)


def without_layers(store, tag):
    """What has no layers that a node mounts, or says so."""
    yield push_artifact(store, tag)
    yield push_attestation(store, push_image(store).descriptor, tag)
    image = push_image(store)
    odd = Descriptor.of(store_read(store, image.config), "application/vnd.example.config")
    store.push(odd, store_read(store, image.config))
    manifest = make_manifest(config=odd, layers=image.layers)
    store.tag(manifest, tag)
    yield manifest


def store_read(store, descriptor):
    return b"".join(store.fetch(descriptor))


def test_a_manifest_that_says_it_is_no_image_is_excused_only_by_its_signature(layout):
    for manifest in without_layers(layout, "v1"):
        attach_layers(layout, manifest.descriptor, [])
        verdict = verify(layout, "v1", manifest_signature=False)
        assert (verdict.wanted, verdict.verified) == (("dm-verity",), False)
        verdict = verify(layout, "v1")
        assert (verdict.wanted, verdict.verified) == (("notary",), False)
        attach_notary(layout, manifest.descriptor)
        assert verify(layout, "v1").verified


@pytest.mark.parametrize("deep", [False, True])
def test_an_image_without_layers_has_no_signatures(deep, layout):
    image = push_empty(layout, "v1")
    attach_layers(layout, image.descriptor, [])
    verdict = verify(layout, "v1", manifest_signature=False, deep=deep)
    assert not verdict.verified
    assert "no layers" in _problem(verdict)


def test_an_index_has_no_layers(layout):
    image = push_image(layout, "v1")
    (made,) = sign(layout, "v1")
    index = push_index(layout, "all", [(image, "linux/amd64")])
    attach_layers(layout, index.descriptor, signatures_of(made))
    options = VerifyOptions(trust=TRUST, recipe=RECIPE, recursive=True)
    first, last = verify_image(layout, "all", options)
    assert (first.verified, last.verified, last.wanted) == (True, False, ("notary",))
    alone = replace(options, manifest_signature=False)
    (only,) = verify_image(layout, "all", alone)
    assert (only.manifest, only.verified) == (image.descriptor.digest, True)
    with pytest.raises(ParameterError, match="--platform"):
        verify(layout, "all")
    assert verify(layout, "all", platform="linux/amd64").verified
    push_index(layout, "none", [])
    with pytest.raises(UnsignedError):
        verify_image(layout, "none", alone)


def test_signatures_of_equal_layers_serve_every_image_that_has_them(signed):
    """What is signed is the layers: who attaches it, and to what, says nothing."""
    store, made = signed
    contents = tars()
    image = push_image(store, "v2", contents, author="somebody else")
    assert image.descriptor.digest != made.manifest.digest
    attach_layers(store, image.descriptor, signatures_of(made))
    assert verify(store, "v2", manifest_signature=False, deep=True).verified
    assert verify(store, "v2").missing == ("notary",)


def test_equal_layers_may_share_a_signature(layout):
    first, second, _ = tars()
    image = push_image(layout, "v1", [first, second, second])
    (made,) = sign(layout, "v1")
    assert verify(layout, "v1", deep=True).verified
    remove(layout, made.dm_verity)
    signatures = signatures_of(made)
    assert len(signatures) == 2
    attach_layers(layout, image.descriptor, signatures)
    verdict = verify(layout, "v1", deep=True)
    assert verdict.verified
    assert _recomputed(verdict) == [True, True]


def test_equal_layers_do_not_have_two_root_hashes(layout):
    first, second, _ = tars()
    image = push_image(layout, "v1", [first, second, second])
    (made,) = sign(layout, "v1")
    remove(layout, made.dm_verity)
    one, other = signatures_of(made)
    forged = LayerSignature(other.layer, one.root_hash, one.signature)
    attach_layers(layout, image.descriptor, [one, other, forged])
    assert "several root hashes" in _problem(verify(layout, "v1"))


def test_signatures_of_signatures_are_none(layout):
    image = push_image(layout, "v1")
    foreign = attach_notary(layout, image.descriptor, entity=STRANGER)
    attach_notary(layout, foreign.descriptor)
    assert not verify(layout, "v1", dm_verity=False).verified
    assert verify(layout, foreign.descriptor.digest, dm_verity=False).verified


def test_a_manifest_under_another_media_type_is_another_one(layout):
    """The envelope has the type that the signer saw."""
    image = push_image(layout, "v1")
    plain = altered(image, lambda one: one.pop("mediaType"))
    layout.tag(plain, "v1")
    attach_notary(layout, plain.descriptor)
    assert verify(layout, "v1", dm_verity=False).verified
    path = layout.path / "index.json"
    docker = "application/vnd.docker.distribution.manifest.v2+json"
    index = json.loads(path.read_text())
    for one in index["manifests"]:
        if one["digest"] == plain.descriptor.digest:
            one["mediaType"] = docker
    path.write_text(json.dumps(index))
    verdict = verify(layout, "v1", dm_verity=False)
    assert not verdict.verified
    assert "mediaType" in refused(verdict)[0].problem


def test_a_list_that_lies_about_types_changes_nothing(signed):
    store, made = signed
    path = store.path / "index.json"
    index = json.loads(path.read_text())
    for one in index["manifests"]:
        one["artifactType"] = "application/vnd.example"
    path.write_text(json.dumps(index))
    assert verify(store, "v1").verified
    bad = attach_notary(store, made.manifest, None, lambda one: one["layers"].clear())
    index = json.loads(path.read_text())
    del index["manifests"][-1]["artifactType"]
    path.write_text(json.dumps(index))
    assert [one.digest for one in refused(verify(store, "v1"))] == [bad.descriptor.digest]


def test_an_embedded_certificate_is_no_reason_to_trust(signed):
    """A chain of ours around a stranger's key."""
    store, made = signed
    remove(store, made.dm_verity)
    look_alike = make_leaf(make_root("Test Root", key_name="other"), "Test Signer", key_name="o")
    attach_layers(store, made.manifest, signatures_of(made, look_alike))
    assert "not trusted" in _problem(verify(store, "v1"))


def test_expired_certificates_do_not_sign_layers(signed):
    store, made = signed
    remove(store, made.dm_verity)
    moment = EXPIRED.certificate.not_valid_after_utc - DAY
    chain = replace(EXPIRED, above=())
    signatures = [
        replace(one, signature=sign_root(one.root_hash, chain, at=moment))
        for one in signatures_of(made)
    ]
    attach_layers(store, made.manifest, signatures)
    assert "expired" in _problem(verify(store, "v1")).lower()
