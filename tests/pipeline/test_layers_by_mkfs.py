"""Layers converted by the program mkfs.erofs, alone and beside our own writer."""

import gzip

import pytest
from erofs_layers.twins import (
    VERSIONS,
    converter,
    filled,
    image_of,
    program,
    typical_tar,
)

from dmsign_fast.erofs.image_hasher import no_hash_area
from dmsign_fast.erofs.mkfs import MkfsErofs
from dmsign_fast.erofs.recipe import RECIPES, Recipe
from dmsign_fast.errors import ParameterError, ProgramError, VerificationError
from dmsign_fast.pipeline.layers import (
    Conversion,
    hash_layer,
)

CONTAINERD, _, _, OSGUARD = RECIPES


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["containerd", "osguard"])
@pytest.mark.parametrize("how", ["mkfs", "both"])
def test_mkfs_erofs_agrees(how, name, version, tar, tmp_path):
    recipe = Recipe.parse(f"{name}@{version}")
    stored = gzip.compress(tar)
    ours = hash_layer([stored], recipe)
    conversion = Conversion(converter=how, mkfs=converter(version), threads=2)
    with (tmp_path / "image").open("w+b") as image:
        theirs = hash_layer([stored], recipe, conversion=conversion, image=image.fileno())
    assert theirs.image.root_hash == ours.image.root_hash
    assert theirs.image.tree.hash_area == ours.image.tree.hash_area
    assert theirs.image.image_size == ours.image.image_size
    assert theirs.image.inodes == (ours.image.inodes if how == "both" else None)
    found = (tmp_path / "image").read_bytes()
    wanted = image_of(tar, recipe, ours.image.uuid)
    assert found == filled(wanted, recipe.params.data_block_size)


@pytest.mark.parametrize("files", [2, 200])
@pytest.mark.parametrize("area", [None, no_hash_area])
@pytest.mark.parametrize("recipe", [CONTAINERD, OSGUARD], ids=lambda recipe: recipe.name)
def test_a_mkfs_erofs_that_makes_another_image(recipe, area, files, tmp_path):
    """Small, and so large that hash blocks have left memory when the images are compared."""
    tar = typical_tar(files)
    other = 'printf x | dd of="$image" bs=1 seek=1100 conv=notrunc 2>/dev/null'
    mkfs = MkfsErofs.find(program(tmp_path, "1.9.4", other))
    conversion = Conversion(converter="both", mkfs=mkfs)
    with pytest.raises(VerificationError, match=r"the root hash is .* and that of mkfs.erofs"):
        hash_layer([tar], recipe, conversion=conversion, hash_area=area)


def test_a_mkfs_erofs_that_makes_a_larger_image(tmp_path, tar):
    mkfs = MkfsErofs.find(program(tmp_path, "1.9.4", 'printf x >>"$image"'))
    with pytest.raises(VerificationError, match=r"images of [0-9]+ and [0-9]+ bytes"):
        hash_layer([tar], CONTAINERD, conversion=Conversion(converter="both", mkfs=mkfs))


def test_a_mkfs_erofs_of_another_version(tar):
    for how in ("mkfs", "both"):
        conversion = Conversion(converter=how, mkfs=converter("1.8.6"))
        with pytest.raises(ParameterError, match=r"is version 1\.8\.6, .* 1\.9\.3 or 1\.9\.4") as e:
            hash_layer([tar], OSGUARD, conversion=conversion)
        assert "--recipe osguard@1.8.6" in str(e.value)
        assert e.value.exit_code == 2


def test_options_make_another_image(tar):
    with_options = Conversion(
        converter="mkfs", mkfs=converter("1.9.4"), mkfs_options=("--force-uid=7",)
    )
    ours = hash_layer([tar], CONTAINERD)
    theirs = hash_layer([tar], CONTAINERD, conversion=with_options)
    assert theirs.image.root_hash != ours.image.root_hash


@pytest.mark.parametrize("how", ["mkfs", "both"])
def test_without_a_program_it_is_that_of_path(how, tar, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramError, match=r"mkfs\.erofs"):
        hash_layer([tar], CONTAINERD, conversion=Conversion(converter=how))
