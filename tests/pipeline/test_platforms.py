"""One platform of an index, by any of its names, and what else stands in the index."""

import json

import pytest
from container_images import push_image, push_index, tars
from signed_homes import sign

from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.oci.manifest import OCI_INDEX, Descriptor, parse_manifest
from dmsign_fast.pipeline.image import manifests_of


@pytest.fixture
def images(home):
    return [push_image(home.store, contents=tars(1, seed=number)) for number in range(3)]


def with_entries(store, tag, images, entries):
    listed = [one.descriptor.to_json() | entry for one, entry in zip(images, entries, strict=True)]
    value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    raw = json.dumps(value).encode()
    index = parse_manifest(raw, Descriptor.of(raw, OCI_INDEX))
    store.tag(index, tag)
    return index


@pytest.mark.parametrize(
    ("asked", "listed"),
    [
        ("linux/arm64", "linux/arm64/v8"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v7", "linux/arm"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
    ],
)
def test_a_platform_by_another_name(home, images, asked, listed):
    push_index(home.store, "v1", [(images[0], "linux/s390x"), (images[1], listed)])
    assert manifests_of(home.store, "v1", platform=asked) == [images[1]]


def test_several_manifests_for_a_platform(home, leaf, images):
    push_index(home.store, "v1", [(images[0], "linux/arm64"), (images[1], "linux/arm64/v8")])
    with pytest.raises(ParameterError, match="has 2 manifests for linux/aarch64") as caught:
        sign(home, leaf, platform="linux/aarch64")
    assert all(one.descriptor.digest in str(caught.value) for one in images[:2])
    # the same manifest twice is one
    push_index(home.store, "v2", [(images[0], "linux/arm64"), (images[0], "linux/arm64/v8")])
    assert manifests_of(home.store, "v2", platform="linux/arm64") == [images[0]]


@pytest.mark.parametrize(
    "platform", [{}, {"os": "", "architecture": ""}, {"os": "linux", "architecture": ""}, None]
)
def test_an_empty_platform_is_in_nobodys_way(home, images, platform):
    amd64 = {"platform": {"os": "linux", "architecture": "amd64"}}
    index = with_entries(home.store, "v1", images[:2], [{"platform": platform}, amd64])
    assert manifests_of(home.store, "v1", platform="linux/amd64") == [images[1]]
    assert manifests_of(home.store, "v1", recursive=True) == [*images[:2], index]


def test_an_entry_that_cannot_be_read_is_only_passed_over_where_it_is_not_wanted(home, images):
    amd64 = {"platform": {"os": "linux", "architecture": "amd64"}}
    index = with_entries(home.store, "v1", images[:2], [{"size": -1}, amd64])
    assert manifests_of(home.store, "v1", platform="linux/amd64") == [images[1]]
    assert manifests_of(home.store, "v1", whole=True) == [index]
    with pytest.raises(FormatError, match=r"manifests\[0\].* size is not"):
        manifests_of(home.store, "v1", recursive=True)
    with pytest.raises(ParameterError, match=r"no manifest for linux/arm64.* size is not"):
        manifests_of(home.store, "v1", platform="linux/arm64")
