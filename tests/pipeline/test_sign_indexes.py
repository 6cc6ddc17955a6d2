"""Indexes of images, and what is no image."""

import pytest
from container_images import (
    push_artifact,
    push_image,
    push_index,
    tars,
)
from signed_homes import BOTH, envelope_of, hashed_layers, homes, push_multi, referrers, sign, types

from dmsign_fast.errors import (
    FormatError,
    NotFoundError,
    ParameterError,
    VerificationError,
)
from dmsign_fast.oci.descriptor import Digest
from dmsign_fast.pipeline.artifact import (
    NOTARY_TYPE,
)


def test_an_index_needs_a_choice(home, leaf):
    push_multi(home.store)
    before = home.contents
    with pytest.raises(ParameterError) as caught:
        sign(home, leaf)
    assert "is an index of 3 manifests" in str(caught.value)
    assert "linux/amd64, linux/arm64/v8" in str(caught.value)
    assert "--platform" in str(caught.value)
    assert "--recursive" in str(caught.value)
    with pytest.raises(ParameterError, match=r"no manifest for linux/s390x: it has linux/amd64, "):
        sign(home, leaf, platform="linux/s390x")
    assert home.contents == before


@pytest.mark.parametrize(("platform", "number"), [("linux/amd64", 1), ("linux/arm64/v8", 2)])
def test_one_platform_of_an_index(platform, number, home, leaf):
    pushed = push_multi(home.store)
    (signed,) = sign(home, leaf, platform=platform)
    assert signed.manifest == pushed[number].descriptor
    for at, manifest in enumerate(pushed):
        assert types(home, manifest) == (BOTH if at == number else [])


@homes
def test_all_of_an_index(kind, make_home, leaf):
    home = make_home(kind)
    index, amd64, arm64, attestation = push_multi(home.store)
    signed = sign(home, leaf, recursive=True)
    assert [one.manifest for one in signed] == [
        one.descriptor for one in (amd64, arm64, attestation, index)
    ]
    assert types(home, amd64) == types(home, arm64) == BOTH
    assert types(home, attestation) == types(home, index) == [NOTARY_TYPE]
    for manifest in (index, amd64, arm64, attestation):
        envelope_of(home, referrers(home, manifest)[NOTARY_TYPE][0], manifest)
    assert [len(one.layers) for one in signed] == [2, 2, 0, 0]
    assert not any(one.added for one in sign(home, leaf, recursive=True))


def test_indexes_in_an_index(home, leaf):
    one, two = (push_image(home.store, contents=tars(1, seed)) for seed in (1, 2))
    inner = push_index(home.store, "inner", [(one, "linux/amd64")])
    outer = push_index(home.store, "v1", [(inner, None), (two, "linux/arm64"), (inner, None)])
    signed = sign(home, leaf, recursive=True, force=True)
    assert [image.manifest for image in signed] == [
        each.descriptor for each in (one, inner, two, outer)
    ]
    assert types(home, one) == types(home, two) == BOTH
    assert types(home, inner) == types(home, outer) == [NOTARY_TYPE]
    for manifest in (one, two, inner, outer):
        assert all(len(found) == 1 for found in referrers(home, manifest).values())


def test_an_index_that_nests_too_deep(home, leaf):
    index = push_image(home.store, contents=tars(1))
    for _ in range(5):
        index = push_index(home.store, "v1", [(index, None)])
    before = home.contents
    with pytest.raises(FormatError, match="nests more than 4 deep"):
        sign(home, leaf, recursive=True)
    assert home.contents == before


def test_an_index_of_itself_many_times_over_takes_no_time(home, leaf):
    """Ten at each of four levels would be 10,000 manifests."""
    index = push_image(home.store, contents=tars(1))
    for _ in range(4):
        index = push_index(home.store, "v1", [(index, None)] * 30)
    assert len(sign(home, leaf, recursive=True)) == 5


def test_an_index_of_which_a_manifest_is_missing(home, leaf):
    one, two = (push_image(home.store, contents=tars(1, seed)) for seed in (1, 2))
    push_index(home.store, "v1", [(one, "linux/amd64"), (two, "linux/arm64")])
    home.remove(two.descriptor)
    before = home.contents
    with pytest.raises(NotFoundError, match=two.descriptor.digest.encoded):
        sign(home, leaf, recursive=True)
    assert home.contents == before


def test_images_of_an_index_share_layers_and_no_lies(home, leaf, monkeypatch):
    one, two, three = tars(3)
    first = push_image(home.store, contents=[one, two])
    second = push_image(home.store, contents=[one, two, three], architecture="arm64")
    push_index(home.store, "v1", [(first, "linux/amd64"), (second, "linux/arm64")])
    seen = hashed_layers(monkeypatch)
    sign(home, leaf, recursive=True)
    assert len(seen) == 3
    lie = push_image(
        home.store, contents=[one, two], diff_ids=[Digest.of(one), Digest.of(b"other")]
    )
    push_index(home.store, "v2", [(first, "linux/amd64"), (lie, "linux/arm64")])
    before = home.contents
    with pytest.raises(VerificationError, match=f"{first.layers[1].digest}.* diff ID"):
        sign(home, leaf, "v2", recursive=True, force=True)
    assert home.contents == before


def test_equal_layers_with_different_diff_ids(home, leaf):
    one, two = tars(2)
    push_image(
        home.store,
        "v1",
        [one, two, two],
        diff_ids=[Digest.of(one), Digest.of(two), Digest.of(b"other")],
    )
    before = home.contents
    with pytest.raises(VerificationError, match="diff ID"):
        sign(home, leaf)
    assert home.contents == before


def test_what_is_no_image(home, leaf):
    artifact = push_artifact(home.store, "v1")
    before = home.contents
    with pytest.raises(FormatError, match=r"v1 is no container image.*--no-dm-verity"):
        sign(home, leaf)
    assert home.contents == before
    (signed,) = sign(home, leaf, dm_verity=False)
    assert types(home, artifact) == [NOTARY_TYPE]
    assert signed.manifest == artifact.descriptor


def test_an_index_without_images(home, leaf):
    artifact = push_artifact(home.store)
    index = push_index(home.store, "v1", [(artifact, None)])
    with pytest.raises(FormatError, match="is no container image"):
        sign(home, leaf, recursive=True)
    sign(home, leaf, recursive=True, dm_verity=False)
    assert types(home, artifact) == types(home, index) == [NOTARY_TYPE]
