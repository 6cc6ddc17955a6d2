"""Every root hash of a layer in one pass: each what its recipe gives alone."""

import dataclasses
import gzip
import io
import json

import pytest
from erofs.tar_maker import Maker
from erofs_layers.twins import END, file, image_of, tar_of, tree_of, typical_tar
from helpers import cli, write
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_blocks import header, padded, pax

from dmsign_fast import _core
from dmsign_fast.erofs.image_hasher import no_hash_area
from dmsign_fast.erofs.recipe import RECIPES, Recipe
from dmsign_fast.errors import FormatError, VerificationError
from dmsign_fast.pipeline.identify import all_root_hashes
from dmsign_fast.pipeline.layers import Conversion, Expected, hash_layer

VERSIONS = [versions[-1] for versions in _core.mkfs_groups().values()]
ALL = [dataclasses.replace(row, mkfs_version=one) for row in RECIPES for one in VERSIONS]
# versions before 1.9.2 fail with an empty PAX value
EMPTY_SIZE = tar_of(
    file(b"before", b"b" * 5000),
    pax([(b"size", b"")]) + header(b"odd", b"0", 512) + padded(b"x" * 512),
    file(b"after", b"a" * 70_000),
)
TARS = {
    "typical": typical_tar(),
    "empty": END,
    "one block": tar_of(file(b"a", b"a" * 4096)),
    "many": typical_tar(400),
    "no trailer": file(b"a", b"a" * 4096),
    "empty size": EMPTY_SIZE,
    "sparse": tar_of(header(b"a", b"S", 0)),
}


def alone(layer, recipe, expected=None):
    try:
        hashed = hash_layer(io.BytesIO(layer), recipe, expected, hash_area=no_hash_area)
    except FormatError as error:
        return None, None, str(error)
    return hashed.image.uuid, hashed.image.root_hash, None


def compare(layer, recipes=ALL):
    readings = []

    def open_layer():
        readings.append(1)
        return io.BytesIO(layer)

    together = all_root_hashes(open_layer, recipes)
    assert [one.recipe for one in together] == recipes
    for one in together:
        uuid, root_hash, problem = alone(layer, one.recipe)
        assert one.root_hash == root_hash, one
        assert one.problem == problem
        assert uuid is None or one.uuid == uuid
        assert not one.again
    return len(readings)


@pytest.mark.parametrize("name", TARS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "gzip"])
def test_each_recipe_gives_what_it_gives_alone(name, pack):
    readings = compare(pack(TARS[name]))
    if name not in ("empty size", "no trailer"):
        assert readings == 1


@pytest.mark.parametrize("index", [False, True])
def test_a_follower_notices_other_data(index):
    """No tar is known of which two versions take other data; here they get two tars."""

    def differs(tars):
        leader = _core.LayerBuilder("1.9.4", index=index, lossy=False, block_hash=None)
        follower = _core.LayerBuilder(
            "1.8.6", index=index, lossy=False, block_hash=None, leader=leader
        )
        for pieces in zip(*tars, strict=True):
            for builder, piece in zip((leader, follower), pieces, strict=True):
                builder.update(piece, 1)
        for builder in (leader, follower):
            builder.final(bytes(16), 1)
        return follower.differs

    one, other = (tar_of(file(b"a", data * 6000), file(b"b", data)) for data in (b"1", b"2"))
    half = len(one) // 2
    assert not differs([[one], [one]])
    assert not differs([[one[:half], one[half:]]] * 2)
    assert differs([[one], [other]])
    assert differs([[one[:half], one[half:]], [one[:half], other[half:]]])


def test_whoever_may_have_other_data_gets_a_reading_of_its_own(monkeypatch):
    recipes = [one for one in ALL if one.name == "containerd"]
    monkeypatch.setattr(_core.LayerBuilder, "differs", property(lambda one: one._leader))
    assert compare(TARS["typical"], recipes) == len(recipes)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 20), first=st.sampled_from(VERSIONS))
def test_odd_tars_too(seed, first):
    tar = Maker(seed).make()
    compare(tar, sorted(ALL, key=lambda one: one.mkfs_version != first))


@pytest.mark.parametrize("size", [512, 1024, 2048])
def test_other_hash_trees(size):
    recipes = [
        dataclasses.replace(
            one, params=one.params._replace(data_block_size=size, hash_block_size=1024)
        )
        for one in ALL
        if size <= one.layout.block_size
    ]
    assert compare(typical_tar(), recipes) == 1


@pytest.mark.parametrize("version", ["1.8.6", "1.9.4"])
def test_mkfs_erofs_and_veritysetup_agree(version):
    tar = typical_tar()
    for one in all_root_hashes(lambda: io.BytesIO(tar), ALL):
        if one.recipe.mkfs_version == version:
            image = image_of(tar, one.recipe, one.uuid)
            assert tree_of(image, one.recipe.params)[0] == one.root_hash


def test_a_damaged_layer_is_an_error_of_all():
    packed = gzip.compress(typical_tar())
    with pytest.raises(FormatError):
        all_root_hashes(lambda: io.BytesIO(packed[:-9]), ALL)
    with pytest.raises(VerificationError, match="diff ID"):
        all_root_hashes(lambda: io.BytesIO(packed), ALL, Expected(diff_id="sha256:" + 64 * "0"))


def test_digests_beyond_the_memory_go_to_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tar = typical_tar()
    pieces = [tar[at : at + 50_000] for at in range(0, len(tar), 50_000)]
    made = all_root_hashes(lambda: pieces, ALL, conversion=Conversion(memory=1))
    assert [one.root_hash for one in made] == [alone(tar, one)[1] for one in ALL]


def test_an_erofs_image_has_one_root_hash_for_each_tree():
    image = image_of(typical_tar(), RECIPES[0], "c1b9d5a2-f162-11cf-9ece-0020afc76f16")
    compare(image)


# -- the commands


def test_identify_names_the_recipe(tmp_path):
    layer = write(tmp_path / "layer.tar.gz", gzip.compress(typical_tar()))
    for name in ("containerd@1.8.6", "containerd-cache@1.9.2", "osguard@1.9.4"):
        recipe = Recipe.parse(name)
        _, root_hash, _ = alone(layer.read_bytes(), recipe)
        done = cli("layer", "identify", layer, root_hash.hex(), "--output", "json")
        assert done.exit_code == 0, done.err
        (found,) = json.loads(done.out)["root_hashes"]
        named = {
            (one["recipe"], version) for one in found["recipes"] for version in one["mkfs_versions"]
        }
        assert (recipe.name, recipe.mkfs_version) in named
        assert {one["uuid_rule"] for one in found["recipes"]} == {recipe.fields()["uuid"]}
        assert recipe.name in cli("layer", "identify", layer, root_hash.hex()).out
    done = cli("layer", "identify", layer, root_hash.hex(), "00" * 32)
    assert done.exit_code == 1
    assert "does not give 0000" in done.err
    assert f"{'00' * 32}  not of this layer" in done.out


def test_roothash_prints_all(tmp_path):
    layer = write(tmp_path / "layer.tar", typical_tar())
    done = cli("layer", "roothash", layer, "--recipe", "all")
    wanted = {alone(layer.read_bytes(), one)[1].hex() for one in ALL}
    assert {line.partition(" ")[0] for line in done.out.splitlines()} == wanted
    said = json.loads(cli("layer", "roothash", layer, "--recipe", "all", "--output", "json").out)
    assert len(said["layers"][0]["recipes"]) == len(ALL)
    salted = cli("layer", "roothash", layer, "--recipe", "all", "--salt", "aa").out
    assert not wanted & {line.partition(" ")[0] for line in salted.splitlines()}
