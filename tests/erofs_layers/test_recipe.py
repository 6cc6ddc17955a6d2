"""The table of recipes, by hand computations."""

import hashlib
from uuid import UUID

import pytest

from dmsign_fast.erofs.recipe import RECIPES, ImageLayout, Recipe, UuidRule
from dmsign_fast.errors import ParameterError

NAMESPACE_URL = bytes.fromhex("6ba7b8119dad11d180b400c04fd430c8")  # RFC 9562, appendix
DIGEST = "sha256:" + "ab" * 32
DIFF_ID = "sha512:" + "cd" * 64

FULL = ("--tar=f", "--aufs", "--quiet", "-Enoinline_data", "-b4096", "--sort=none")
INDEX = ("--tar=i", "--aufs", "--quiet")
TIMES = ("-T0", "--mkfs-time")


def version_5(name):
    """A UUID by RFC 9562, section 5.5."""
    found = bytearray(hashlib.sha1(NAMESPACE_URL + name.encode()).digest()[:16])
    found[6] = found[6] & 0x0F | 0x50
    found[8] = found[8] & 0x3F | 0x80
    return UUID(bytes=bytes(found))


@pytest.mark.parametrize(
    ("name", "arguments", "block", "uuid"),
    [
        ("containerd", FULL, 4096, version_5(f"erofs:blobs/{DIGEST}")),
        ("containerd-cache", FULL, 4096, version_5(f"erofs:blobs/{DIFF_ID}")),
        ("containerd-tar-index", INDEX, 512, version_5(f"erofs:blobs/{DIGEST}")),
        ("osguard", INDEX, 512, UUID("c1b9d5a2-f162-11cf-9ece-0020afc76f16")),
    ],
)
def test_what_each_recipe_is(name, arguments, block, uuid):
    recipe = Recipe.parse(name)
    assert recipe in RECIPES
    assert recipe.mkfs_version == "1.9.4"
    assert recipe.mkfs_arguments == (*arguments, *TIMES)
    params = recipe.params
    assert (params.hash_algorithm, params.hash_type, params.salt) == ("sha256", 1, bytes(32))
    assert params.data_block_size == params.hash_block_size == recipe.layout.block_size == block
    assert recipe.image_uuid(digest=DIGEST, diff_id=DIFF_ID) == uuid


def test_the_names_differ():
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES) == 4


@pytest.mark.parametrize(
    ("version", "same"),
    [
        ("1.8.6", ("1.8.6",)),
        ("1.8.9", ("1.8.8", "1.8.9", "1.8.10")),
        ("1.9.1", ("1.9.1",)),
        ("1.9.2", ("1.9.2",)),
        ("1.9.4", ("1.9.3", "1.9.4")),
    ],
)
def test_versions_that_make_the_same_images(version, same):
    recipe = Recipe.parse(f"osguard@{version}")
    assert recipe.mkfs_version == version
    assert recipe.mkfs_versions == same


@pytest.mark.parametrize(
    "version", ["", "1", "1.8", "1.8.7", "1.9.0", "1.8.8-1.8.10", "1.9.4 ", " 1.9.4", "v1.9.4"]
)
def test_other_versions_are_refused_with_a_list(version):
    words = r"1\.8\.6, 1\.8\.8-1\.8\.10, 1\.9\.1, 1\.9\.2, 1\.9\.3-1\.9\.4"
    with pytest.raises(ParameterError, match=words):
        Recipe.parse(f"containerd@{version}")


@pytest.mark.parametrize("name", ["", "Containerd", "containerd ", "nydus", "@1.9.4"])
def test_other_names_are_refused_with_a_list(name):
    known = "containerd, containerd-cache, containerd-tar-index, osguard"
    with pytest.raises(ParameterError, match=f"use one of {known}"):
        Recipe.parse(name)


@pytest.mark.parametrize(
    ("rule", "missing"), [(UuidRule.DIGEST, "digest"), (UuidRule.DIFF_ID, "diff_id")]
)
def test_a_digest_that_is_not_known(rule, missing):
    recipe = Recipe(
        name="own", layout=ImageLayout.FULL, uuid=rule, params=Recipe.parse("containerd").params
    )
    known = {"digest": DIGEST, "diff_id": DIGEST}
    assert recipe.image_uuid(**known) == version_5(f"erofs:blobs/{DIGEST}")
    known[missing] = None
    with pytest.raises(ParameterError, match=rule.value):
        recipe.image_uuid(**known)
