"""Ours next to root hashes that mkfs.erofs and veritysetup made once: tests/vectors/make.py."""

import hashlib
import json
import os
import tempfile

import pytest
from vectors.make import FILE, TARS, digests

from dmsign_fast.erofs.layer import LayerHasher
from dmsign_fast.erofs.recipe import RECIPES, Recipe

LAYERS = {layer["tar"]: layer for layer in json.loads(FILE.read_text())}
CASES = [(name, image) for name, layer in LAYERS.items() for image in layer["images"]]


def test_all_recipes_and_both_versions_are_there():
    assert [make.__name__ for make in TARS] == list(LAYERS)
    wanted = {(recipe.name, version) for recipe in RECIPES for version in ("1.8.6", "1.9.4")}
    for layer in LAYERS.values():
        found = [(image["recipe"], image["mkfs_version"]) for image in layer["images"]]
        assert set(found) == wanted
        assert len(found) == len(wanted)


@pytest.mark.parametrize(
    ("name", "image"), CASES, ids=lambda case: case if isinstance(case, str) else case["recipe"]
)
def test_vector(name, image):
    tar = next(make() for make in TARS if make.__name__ == name)
    layer = LAYERS[name]
    known = digests(name, tar)
    assert (layer["size"], layer["digest"], layer["diff_id"]) == (len(tar), *known.values())
    recipe = Recipe.parse(f"{image['recipe']}@{image['mkfs_version']}")
    with tempfile.TemporaryFile() as written:
        hasher = LayerHasher(recipe, image=written.fileno())
        hasher.update(tar)
        made = hasher.finalize(**known)
        found = os.pread(written.fileno(), image["image_size"] + 1, 0)
    assert str(made.uuid) == image["uuid"]
    assert (len(found), made.image_size) == (image["image_size"], image["image_size"])
    assert hashlib.sha256(found).hexdigest() == image["image_sha256"]
    assert made.root_hash.hex() == image["root_hash"]


def test_the_vectors_can_tell_the_versions_apart():
    """Of what has no times or attributes, a full conversion is the same by both."""
    by_version = [
        {name: image["root_hash"] for name, image in CASES if image["mkfs_version"] == version}
        for version in ("1.8.6", "1.9.4")
    ]
    assert by_version[0] != by_version[1]
