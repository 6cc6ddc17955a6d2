"""Layers that are EROFS images already, and how they are told from tars."""

import dataclasses
import gzip
import io
import tempfile
from uuid import UUID

import pytest
from erofs_layers.twins import file, image_of, tar_of, tree_of
from helpers import pieces_of, zstd

from dmsign_fast.erofs.recipe import RECIPES
from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.pipeline.layers import Conversion, Expected, hash_layer
from dmsign_fast.verity.params import VerityParams

CONTAINERD, CACHE, TAR_INDEX, OSGUARD = RECIPES
OCI = "application/vnd.oci.image.layer.v1.tar"
EROFS = "application/vnd.erofs.layer.v1"


def test_a_native_layer_is_hashed_as_it_is(tar):
    for recipe, params in (
        (CONTAINERD, OSGUARD.params),
        (CONTAINERD, CONTAINERD.params),
        (CONTAINERD, VerityParams(data_block_size=1024, hash_block_size=512, salt=b"x")),
    ):
        recipe = dataclasses.replace(recipe, params=params)
        image = image_of(tar, recipe, UUID(int=3))
        for stored, media_type in (
            (image, None),
            (image, EROFS),
            (zstd(image), None),
            (zstd(image), f"{EROFS}+zstd"),
            (image, f"{EROFS}+zstd"),
            (gzip.compress(image), None),
        ):
            layer = hash_layer(pieces_of(stored, 5000), recipe, Expected(media_type=media_type))
            assert (layer.image.root_hash, layer.image.tree.hash_area) == tree_of(image, params)
            assert (layer.image.uuid, layer.image.inodes) == (None, None)
            assert layer.image.image_size == len(image)


@pytest.mark.parametrize("more", [1, 511, 600])
def test_a_native_layer_is_filled_with_zeros(more, tar, tmp_path):
    image = image_of(tar, CONTAINERD, UUID(int=3)) + b"x" * more
    with (tmp_path / "copy").open("w+b") as copy:
        layer = hash_layer([image], OSGUARD, image=copy.fileno())
    assert layer.image.image_size == len(image)
    assert layer.image.root_hash == tree_of(image, OSGUARD.params)[0]
    assert (tmp_path / "copy").read_bytes() == image


@pytest.mark.parametrize("media_type", [None, EROFS])
def test_a_native_layer_that_names_other_devices(media_type, tar):
    """Mounted with -o device= a signed image would run what nobody signed."""
    index = image_of(tar, OSGUARD, UUID(int=3))
    with pytest.raises(FormatError, match=r"keeps data on other devices \(1 are named\)"):
        hash_layer([index], OSGUARD, Expected(media_type=media_type))
    full = bytearray(image_of(tar, CONTAINERD, UUID(int=3)))
    full[1024 + 80] |= 8  # the feature alone, no number yet
    with pytest.raises(FormatError, match="keeps data on other devices"):
        hash_layer([bytes(full)], CONTAINERD, Expected(media_type=media_type))


def test_a_native_layer_whose_blocks_are_too_small_for_the_recipe(tar):
    image = image_of(tar, OSGUARD, UUID(int=3))
    with pytest.raises(FormatError, match=r"blocks of 512 .* device of 4096: .* at most 512"):
        hash_layer([image], CONTAINERD, Expected(media_type=EROFS))


def test_the_media_type_decides_what_a_layer_is(tar):
    image = image_of(tar, CONTAINERD, UUID(int=3))
    with pytest.raises(FormatError, match="not an EROFS image: its superblock is missing"):
        hash_layer([tar], CONTAINERD, Expected(media_type=EROFS))
    for short in (image[:1024], image[:1027], image[:1036], b"short"):
        with pytest.raises(FormatError, match="superblock is missing"):
            hash_layer([short], CONTAINERD, Expected(media_type=EROFS))
    # an image begins with zeros, which end a tar: that is all a node sees of it too
    assert hash_layer([image], CONTAINERD, Expected(media_type=OCI)).image.inodes == 1
    with pytest.raises(FormatError, match="bytes follow the end of the archive at byte 1024"):
        hash_layer([image], OSGUARD, Expected(media_type=OCI))
    with pytest.raises(FormatError, match="push it with the suffix"):
        hash_layer([gzip.compress(tar)], CONTAINERD, Expected(media_type=OCI))
    with pytest.raises(FormatError, match="nondistributable"):
        kind = "application/vnd.oci.image.layer.nondistributable.v1.tar"
        hash_layer([tar], CONTAINERD, Expected(media_type=kind))


def test_a_tar_whose_first_file_looks_like_an_image_is_a_tar():
    """A file whose byte 512 is at byte 1024 of the tar, where an image has its magic."""
    data = bytearray(8192)
    data[512:516] = 0xE0F5E1E2.to_bytes(4, "little")
    data[512 + 12] = 12
    tar = tar_of(file(b"f", bytes(data)))
    known = hash_layer([tar], OSGUARD, Expected(media_type=OCI))
    assert hash_layer([tar], OSGUARD).image == known.image


def test_what_has_no_head_of_its_own():
    """An EROFS image as it is, and what only mkfs.erofs makes."""
    erofs = Expected(media_type="application/vnd.erofs.layer.v1")
    with tempfile.TemporaryFile() as head:
        options = {"image_head": head.fileno()}
        with pytest.raises(ParameterError, match="has no tar behind"):
            hash_layer(io.BytesIO(bytes(4096)), TAR_INDEX, erofs, **options)
        with pytest.raises(ParameterError, match="our own converter"):
            hash_layer(
                io.BytesIO(bytes(4096)), TAR_INDEX, None, Conversion(converter="mkfs"), **options
            )
