"""What stands before the data of an image, in a file of its own."""

import os
import tempfile

import pytest
from erofs_layers.twins import typical_tar

from dmsign_fast.erofs.layer import LayerHasher
from dmsign_fast.erofs.recipe import RECIPES, ImageLayout
from dmsign_fast.errors import StorageError

DIGEST = "sha256:" + "5a" * 32
each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def content(file):
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def end_of(hasher, **options):
    return hasher.finalize(digest=DIGEST, diff_id=DIGEST, **options)


@each_recipe
def test_the_head_is_the_beginning_of_the_image(recipe):
    tar = typical_tar()
    with tempfile.TemporaryFile() as image, tempfile.TemporaryFile() as head:
        hasher = LayerHasher(recipe, image=image.fileno(), head=head.fileno())
        hasher.update(tar)
        hashed = end_of(hasher)
        whole, begin = content(image), content(head)
    index = recipe.layout is ImageLayout.TAR_INDEX
    assert len(begin) == (hashed.image_size - len(tar) if index else 4096)
    assert whole.startswith(begin)
    if index:
        assert whole[len(begin) :] == tar


@each_recipe
def test_the_head_needs_no_image_and_is_there_before_the_hash_area(recipe):
    tar = typical_tar()
    with tempfile.TemporaryFile() as head:
        seen = []

        def hash_area(blocks):
            seen.append((blocks, os.fstat(head.fileno()).st_size))
            return lambda _level, _blocks: None

        hasher = LayerHasher(recipe, head=head.fileno())
        hasher.update(tar)
        hashed = end_of(hasher, hash_area=hash_area)
        size = len(content(head))
    alone = LayerHasher(recipe)
    alone.update(tar)
    assert end_of(alone).root_hash == hashed.root_hash
    assert seen == [(hashed.tree.data_blocks, size)]


def test_a_head_that_cannot_be_written(tmp_path):
    path = tmp_path / "full"
    path.touch()
    with path.open("rb") as closed_to_writers:
        recipe = next(one for one in RECIPES if one.layout is ImageLayout.TAR_INDEX)
        hasher = LayerHasher(recipe, head=closed_to_writers.fileno())
        hasher.update(typical_tar())
        with pytest.raises(StorageError, match="cannot write"):
            end_of(hasher)
