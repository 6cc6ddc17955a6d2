"""Root hashes that were signed before: found, and never taken from where they could be a lie."""

from dataclasses import replace

import pytest
from container_images import push_image, push_index, tars
from pki import DAY, NOW, make_leaf, make_root
from signed_homes import DM_VERITY_TYPES, RECIPE, hashed_layers, homes, root_hashes_of, sign
from signed_images import (
    BAD,
    LEAF,
    STRANGER,
    attach_layers,
    attach_notary,
    remove,
    signatures_of,
)

from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import FormatError, NotFoundError, ParameterError, VerificationError
from dmsign_fast.oci.descriptor import Digest
from dmsign_fast.pipeline import reuse as reuse_module
from dmsign_fast.pipeline.artifact import NOTARY_TYPE
from dmsign_fast.pipeline.binding import ROOT_HASHES, digest_of_roots
from dmsign_fast.pipeline.layers import Conversion
from dmsign_fast.pipeline.plan import Reuse

ALL = Reuse()


@pytest.fixture
def hashed(monkeypatch):
    return hashed_layers(monkeypatch)


def grown(home, tag="v2", count=3, **members):
    """An image of the layers of ``tars(2)`` and more on them."""
    return push_image(home.store, tag, tars(count), **members)


def digests(image):
    return [layer.digest for layer in image.layers]


def again(home, leaf, hashed, reference="v2", **options):
    """Sign with --reuse; which layers were reused, and which were read."""
    hashed.clear()
    (signed,) = sign(home, leaf, reference, **{"reuse": ALL} | options)
    image = home.store.fetch_manifest(signed.manifest)
    recipe = options.get("recipe", RECIPE)
    read = sorted(hashed, key=digests(image).index)
    assert [one.root_hash for one in signed.layers] == root_hashes_of(home, image, recipe)
    assert [one.digest for one in signed.layers if not one.reused] == read
    assert all((one.uncompressed_size is None) == bool(one.reused) for one in signed.layers)
    return [one.digest for one in signed.layers if one.reused], read


# -- where root hashes are found


@homes
def test_layers_of_another_image_are_not_read_again(kind, make_home, leaf, hashed):
    home = make_home(kind)
    push_image(home.store, "v1", tars(2))
    (first,) = sign(home, leaf)
    image = grown(home)
    assert again(home, leaf, hashed) == (digests(image)[:2], digests(image)[2:])
    (second,) = sign(home, leaf, "v2", reuse=ALL)
    assert second.added == ()
    # now from the image itself
    assert {one.reused for one in second.layers} == {second.dm_verity.digest}
    assert first.dm_verity != second.dm_verity


@homes
def test_an_image_whose_tag_has_moved(kind, make_home, leaf, hashed):
    home = make_home(kind)
    image = push_image(home.store, "v1", tars(2))
    sign(home, leaf)
    grown(home, "v1")
    named = Reuse(reference=image.descriptor.digest)
    options = {"manifest_signature": False}  # so that nothing is bound that is found next time
    assert again(home, leaf, hashed, "v1", reuse=named, **options)[0] == digests(image)
    # with the API a registry lists tags, and referrers of what is known
    reused, _ = again(home, leaf, hashed, "v1", **options)
    assert reused == ([] if kind in ("api", "olareg") else digests(image))


@pytest.mark.parametrize(
    "options",
    [
        {"force": True},
        {"forms": ("osguard",)},
        {"pkcs7_digest": "sha512"},
        {"certificates": False},
        {"media_type": "application/cose"},
        {"manifest_signature": False, "force": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_the_same_image_otherwise(options, home, hashed):
    leaf = make_leaf(make_root(), key="RSA-2048")
    image = push_image(home.store, "v2", tars(2))
    sign(home, leaf, "v2")
    assert again(home, leaf, hashed, **options) == (digests(image), [])


def test_images_of_an_index(home, leaf, hashed):
    one, two = (push_image(home.store, contents=tars(2, seed)) for seed in (1, 2))
    push_index(home.store, "v1", [(one, "linux/amd64"), (two, "linux/arm64")])
    sign(home, leaf, recursive=True)
    remove(home.store, one.descriptor, two.descriptor)
    image = push_image(home.store, "v2", [tars(1, 1)[0], tars(2, 2)[1], tars(3, 3)[2]])
    assert again(home, leaf, hashed) == (digests(image)[:2], digests(image)[2:])
    hashed.clear()
    signed = sign(home, leaf, "v1", recursive=True, reuse=ALL)
    assert hashed == []
    assert not any(image.added for image in signed)


def test_only_the_image_that_is_named_is_looked_at(home, leaf, hashed):
    push_image(home.store, "v1", tars(2))
    push_image(home.store, "other", tars(1, 2))
    sign(home, leaf)
    sign(home, leaf, "other")
    image = grown(home)
    assert again(home, leaf, hashed, reuse=Reuse(reference="other")) == ([], digests(image))
    with pytest.raises(NotFoundError, match="no tag none"):
        sign(home, leaf, "v2", reuse=Reuse(reference="none"), force=True)


def test_what_a_former_certificate_has_signed(home, leaf, hashed):
    other = make_leaf(make_root("Former Root"), "Former")
    image = push_image(home.store, "v1", tars(2))
    sign(home, other)
    assert again(home, leaf, hashed, "v1", force=True) == ([], digests(image))
    remove(home.store, *home.store.referrers(image.descriptor))
    sign(home, other)
    trusting = Reuse(certificates=(other.certificate,))
    assert again(home, leaf, hashed, "v1", reuse=trusting) == (digests(image), [])


def test_no_more_manifests_are_read_than_that(home, leaf, hashed, monkeypatch):
    push_image(home.store, "v1", tars(2))
    sign(home, leaf)
    image = grown(home)
    for seed in range(10, 20):
        push_image(home.store, f"other-{seed}", tars(1, seed))
    fetched, resolve = [], home.store.fetch_manifest
    monkeypatch.setattr(
        home.store, "fetch_manifest", lambda what: fetched.append(what) or resolve(what)
    )
    monkeypatch.setattr(reuse_module, "MOST_MANIFESTS", 8)
    assert again(home, leaf, hashed) == ([], digests(image))
    monkeypatch.setattr(reuse_module, "MOST_MANIFESTS", 1000)
    assert again(home, leaf, hashed, force=True) == (digests(image), [])


# -- what is not taken


def test_a_forged_artifact_with_two_root_hashes_exchanged(home, leaf, hashed):
    """All its signatures are ours; who can push can make it."""
    image = push_image(home.store, "v1", tars(2))
    (made,) = sign(home, leaf)
    first, second = signatures_of(made, leaf)
    exchanged = [replace(first, layer=second.layer), replace(second, layer=first.layer)]
    forged = attach_layers(home.store, image.descriptor, exchanged)
    assert again(home, leaf, hashed, "v1", force=True)[0] == digests(image)  # from the good one
    remove(home.store, *home.store.referrers(image.descriptor))
    home.store.attach([forged])
    attach_notary(home.store, image.descriptor, entity=leaf)  # ours too, and it binds nothing
    (signed,) = sign(home, leaf, dm_verity=False)
    assert signed.added == ()
    assert again(home, leaf, hashed, "v1", force=True) == ([], digests(image))


def test_an_exchange_beside_the_signature_that_binds_the_others(home, leaf, hashed):
    image = push_image(home.store, "v1", tars(2))
    (made,) = sign(home, leaf)
    first, second = signatures_of(made, leaf)
    exchanged = [replace(first, layer=second.layer), replace(second, layer=first.layer)]
    remove(home.store, made.dm_verity)
    attach_layers(home.store, image.descriptor, exchanged)
    assert again(home, leaf, hashed, "v1", force=True) == ([], digests(image))


def test_an_artifact_that_is_bound_by_the_signature_of_another_image(home, leaf, hashed):
    """Whose layer it lists at the place of that image's, with the same root hash."""
    push_image(home.store, "v1", tars(1, 1))
    other = push_image(home.store, "other", tars(1, 2))
    (made,) = sign(home, leaf)
    (signature,) = signatures_of(made, leaf)
    lie = replace(signature, layer=other.layers[0].digest)
    attach_layers(home.store, other.descriptor, [lie])
    attach_notary(
        home.store,
        other.descriptor,
        None,
        lambda one: None,
        entity=STRANGER,
        user_metadata={ROOT_HASHES: digest_of_roots([(lie.layer, lie.root_hash)], RECIPE)},
    )
    assert again(home, leaf, hashed, "other") == ([], digests(other))


@pytest.mark.parametrize("what", ["signs", "is trusted by nobody", "signature has expired"])
def test_whose_word_counts(what, home, leaf, hashed):
    """The root hash is right, so that only the signature of the manifest tells."""
    image = push_image(home.store, "v1", tars(1))
    (made,) = sign(home, leaf, manifest_signature=False)
    roots = [(Digest(one.digest), one.root_hash) for one in made.layers]
    claims = {"user_metadata": {ROOT_HASHES: digest_of_roots(roots, RECIPE)}}
    if what == "signature has expired":
        claims |= {"signing_time": NOW - DAY / 2, "expiry": NOW - DAY / 4}
    entity = STRANGER if what == "is trusted by nobody" else leaf
    attach_notary(home.store, image.descriptor, entity=entity, **claims)
    reused, _ = again(home, leaf, hashed, "v1", force=True)
    assert reused == (digests(image) if what == "signs" else [])


@pytest.mark.parametrize("other", ["containerd@1.8.6", "osguard", "containerd-cache"])
def test_another_recipe(other, home, leaf, hashed):
    image = push_image(home.store, "v1", tars(1))
    (made,) = sign(home, leaf, recipe=Recipe.parse(other))
    assert again(home, leaf, hashed, "v1") == ([], digests(image))
    remove(home.store, *home.store.referrers(image.descriptor))
    # nor where somebody has changed the record
    (made,) = sign(home, leaf, recipe=Recipe.parse(other))
    remove(home.store, made.dm_verity)
    attach_layers(home.store, image.descriptor, signatures_of(made, leaf))
    assert again(home, leaf, hashed, "v1") == ([], digests(image))


def test_a_diff_id_that_lies_is_found_all_the_same(home, leaf):
    one, two = tars(2)
    push_image(home.store, "v1", [one, two])
    sign(home, leaf)
    push_image(home.store, "v2", [one, two], diff_ids=[Digest.of(one), Digest.of(b"other")])
    with pytest.raises(VerificationError, match=r"diff ID is .* and should be"):
        sign(home, leaf, "v2", reuse=ALL)


def test_broken_and_foreign_things_on_the_way(home, hashed):
    image = push_image(home.store, "v1", tars(2))
    (made,) = sign(home, LEAF)
    for *_, spoil in BAD.values():
        spoil(home.store, image.descriptor, made)
    after = grown(home)
    home.store.push(after.descriptor, after.raw)
    gone = push_image(home.store, "gone", tars(1, 9))
    home.remove(gone.descriptor)
    assert again(home, LEAF, hashed) == (digests(after)[:2], digests(after)[2:])


def test_options_of_mkfs_are_not_recorded(home, leaf):
    push_image(home.store, "v1", tars(1))
    options = Conversion(converter="mkfs", mkfs_options=("-zlz4",))
    with pytest.raises(ParameterError, match="not recorded"):
        sign(home, leaf, conversion=options, reuse=ALL)


def test_an_image_that_does_not_fit_its_config(home, leaf):
    contents = tars(2)
    push_image(home.store, "v1", contents)
    sign(home, leaf)
    push_image(home.store, "v2", contents, diff_ids=[Digest.of(contents[0])])
    with pytest.raises(FormatError, match="has 2 layers and its config 1"):
        sign(home, leaf, "v2", reuse=ALL)


def test_what_is_signed_with_reuse_is_what_is_signed_without(make_home, leaf):
    home = make_home("tag schema")
    push_image(home.store, "v1", tars(2))
    sign(home, leaf)
    grown(home)
    (signed,) = sign(home, leaf, "v2", reuse=ALL)
    (same,) = sign(home, leaf, "v2")
    assert same.added == ()
    found = home.store.referrers(signed.manifest)
    assert [one.artifact_type for one in found] == [DM_VERITY_TYPES[0], NOTARY_TYPE]
