"""A layer in several commands: each gives the root hash that the node computes."""

import json

import pytest
from cli.layer_commands import fails
from erofs_layers.twins import typical_tar
from helpers import cli, write
from pki import make_leaf, make_root

from dmsign_fast.erofs.recipe import RECIPES


@pytest.fixture
def layer(tmp_path):
    return write(tmp_path / "layer.tar", typical_tar(3))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_leaf(make_root()).write(tmp_path_factory.mktemp("key"))


def root_hash(layer, *options):
    done = cli("layer", "roothash", layer, *options)
    assert done.exit_code == 0, done.err
    return done.out.split()[0]


def sign_line(done):
    """The words that ``layer convert`` says to sign its image by."""
    (line,) = [line for line in done.out.splitlines() if line.startswith("To sign it:")]
    words = line.split("\t")[1].split()
    assert (words[:3], words[-1]) == (["dmsign-fast", "verity", "sign"], "...")
    return words[1:-1]


OPTIONS = [
    *(("--recipe", recipe.name) for recipe in RECIPES),
    ("--salt", "ab"),
    ("--salt", "-", "--data-block-size", "1024"),
    ("--layout", "tar-index"),
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
@pytest.mark.parametrize("command", ["sign", "prepare"])
def test_the_root_hash_stays(command, options, layer, files, tmp_path):
    image = tmp_path / "image.erofs"
    done = cli("layer", "convert", layer, "-o", image, "--verity", "none", *options)
    assert done.exit_code == 0, done.err
    words = sign_line(done)
    words[1] = command
    words += ["--key", files.key] if command == "sign" else ["-o", tmp_path / "to-sign"]
    done = cli(*words, "--cert", files.chain)
    assert done.exit_code == 0, done.err
    assert (tmp_path / "image.erofs.roothash").read_text() == root_hash(layer, *options)


def test_options_replace_parts_of_the_recipe(files, tmp_path):
    image = write(tmp_path / "image", bytes(1 << 16))
    prepare = ("verity", "prepare", image, "--cert", files.chain, "-o", tmp_path / "to-sign")
    more = ("--recipe", "osguard", "--salt", "beef", "--hash-block-size", "1024")
    done = cli(*prepare, *more, "--output", "json")
    assert done.exit_code == 0, done.err
    known = json.loads(done.out)
    assert (known["data_block_size"], known["hash_block_size"]) == (512, 1024)
    assert known["salt"] == "beef"
    done = cli(*prepare, "--recipe", "other")
    fails(done, 2, "recipe 'other' is unknown")


def test_the_blocks_of_the_tree_go_with_the_layout(layer):
    """A device of larger blocks than the image's cannot be mounted."""
    index = ("--recipe", "containerd", "--layout", "tar-index")
    done = cli("layer", "roothash", layer, *index, "--output", "json")
    (known,) = json.loads(done.out)["layers"]
    assert (known["data_block_size"], known["hash_block_size"]) == (512, 512)
    assert root_hash(layer, *index) == root_hash(layer, "--recipe", "containerd-tar-index")
    done = cli("layer", "roothash", layer, *index, "--data-block-size", "4096")
    fails(done, 2, "blocks of 512 bytes and cannot be mounted from a device of 4096")
    done = cli("layer", "roothash", layer, "--data-block-size", "8192")
    fails(done, 2, "cannot be mounted from a device of 8192")
