"""A layer by several recipes in one pass: what each would make alone."""

import gzip
import io

import pytest
from erofs_layers.twins import typical_tar

from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import VerificationError
from dmsign_fast.pipeline.layers import Expected, hash_layer, hash_layer_by

RECIPES = [
    Recipe.parse(name)
    for name in ("containerd", "containerd@1.8.6", "containerd-cache", "osguard", "containerd")
]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "gzip"])
def test_each_recipe_gives_what_it_gives_alone(pack):
    layer = pack(typical_tar())
    together = hash_layer_by(io.BytesIO(layer), RECIPES)
    alone = [hash_layer(io.BytesIO(layer), recipe) for recipe in RECIPES]
    assert [one.image.root_hash for one in together] == [one.image.root_hash for one in alone]
    # of a plain tar, the digest is the diff ID, so that two recipes agree
    assert len({one.image.root_hash for one in together}) == (3 if layer == typical_tar() else 4)
    assert [one.image.recipe for one in together] == RECIPES
    assert together[0].diff_id == alone[2].diff_id


def test_a_layer_is_checked_once_for_all():
    with pytest.raises(VerificationError, match="diff ID"):
        hash_layer_by(io.BytesIO(typical_tar()), RECIPES, Expected(diff_id="sha256:" + 64 * "0"))
