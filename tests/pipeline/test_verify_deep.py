"""A deep look at layers, and the ways around verification that are closed."""

import json
from dataclasses import replace

import pytest
from container_images import push_artifact, push_attestation, push_image, push_index, tars
from helpers_pkcs7 import sign as sign_root
from pki import DAY, make_leaf, make_root
from signed_images import (
    EXPIRED,
    RECIPE,
    ROOT,
    STRANGER,
    TRUST,
    altered,
    attach_layers,
    attach_notary,
    blob_path,
    push_empty,
    refused,
    remove,
    sign,
    signatures_of,
    verify,
)
from tar_blocks import base256, header, padded, pax

from dmsign_fast.erofs.recipe import RECIPES, Recipe
from dmsign_fast.errors import (
    ParameterError,
    UnsignedError,
)
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.manifest import make_index, make_manifest
from dmsign_fast.pipeline.artifact import LayerSignature
from dmsign_fast.pipeline.verify_image import VerifyOptions, verify_image


@pytest.fixture
def layout(tmp_path):
    return Layout.create(tmp_path / "layout")


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
    verdict = verify(store, "v1")
    assert verdict.missing == ("dm-verity",)
    assert _problem(verdict).startswith("the signature of the manifest binds the layers to other")
    remove(store, made.notary)
    attach_notary(store, made.manifest)  # which binds nothing
    assert verify(store, "v1").verified
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
    (made,) = sign(layout, "v1", recipe=Recipe.parse(made_by), manifest_signature=False)
    sign(layout, "v1", dm_verity=False)  # which binds nothing
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
    expected = f"with containerd@{version}, not with containerd@1.9.4: its signer used another"
    assert expected in _problem(verdict)


@pytest.mark.parametrize("made_by", ["containerd-cache", "containerd-tar-index", "osguard"])
def test_another_recipe_than_is_recorded_is_named(made_by, layout):
    numbers = {"major": base256(1 << 23, 8), "minor": base256(-1, 8)}
    contents = [header(b"d", b"4", raw=numbers) + END, *tars(2)]
    other_record(made_by, "containerd", contents, layout)
    problem = _problem(verify(layout, "v1", deep=True))
    # some versions refuse a negative number; of the first layer digest and diff ID are the same
    some = made_by == "containerd-cache"
    assert ("each of 3 layers: " in problem) != some
    expected = 2 if some else 1
    assert problem.count(f"with {made_by}@1.9.4, not with containerd@1.9.4") == expected


def test_the_recipe_of_an_artifact_without_record_is_given(layout):
    other_record("osguard", None, tars(), layout)
    osguard = Recipe.parse("osguard")
    verdict = verify(layout, "v1", deep=True, recipe=osguard)
    assert verdict.verified
    assert next(one for one in verdict.referrers if one.layers).recipe is None
    assert "root hash with osguard" in _problem(verify(layout, "v1", deep=True))


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
    assert "root hash with containerd@" in _problem(verdict)
    # as it was made for the other artifact, by osguard as is recorded, and once by all others
    assert sum(read) == 3 * sum(layer.size for layer in made.layers)


@pytest.mark.parametrize("at", [0, 30, -1])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_damaged_layer(number, at, signed):
    """That it is damaged is the reason, and not what the damage makes of its contents."""
    store, made = signed
    path = blob_path(store, store.fetch_manifest(made.manifest).layers[number])
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
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


@pytest.mark.parametrize("listed", ["application/vnd.example", None])
def test_a_list_that_lies_about_types_changes_nothing(listed, make_home):
    store = make_home("tag schema").store
    image = push_image(store, "v1")
    sign(store, "v1")
    bad = attach_notary(store, image.descriptor, None, lambda one: one["layers"].clear())
    found = [replace(one, artifact_type=listed) for one in store.referrers(image.descriptor)]
    store.tag(make_index(found), image.descriptor.digest.referrers_tag)
    assert {one.artifact_type for one in store.referrers(image.descriptor)} == {listed}
    verdict = verify(store, "v1")
    assert verdict.verified
    assert [one.digest for one in refused(verdict)] == [bad.descriptor.digest]


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
