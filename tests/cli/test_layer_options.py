"""``dmsign-fast layer``: what replaces parts of a recipe, and the other converter."""

import dataclasses
import gzip
import json

import pytest
from cli.layer_commands import COMMANDS, fails, node, sha256
from erofs_layers.twins import image_of, program, tree_of
from helpers import cli, write

from dmsign_fast.erofs.recipe import ImageLayout, Recipe
from dmsign_fast.verity.params import VerityParams

# options


def test_options_replace_parts_of_the_recipe(tar, layers):
    """Each as veritysetup has it."""
    small = {"data_block_size": 512, "hash_block_size": 512}
    index = ["--layout", "tar-index", "--data-block-size", "512", "--hash-block-size", "512"]
    for options, recipe, changed in (
        (["--uuid", "c1b9d5a2-f162-11cf-9ece-0020afc76f16"], "containerd", {}),
        (["--layout", "full"], "osguard", small),
        (["--uuid", "diff-id", "-s", "-"], "containerd", {"salt": b""}),
        (["--uuid", "digest", "--salt", "00ff"], "containerd-cache", {"salt": b"\0\xff"}),
        (["--data-block-size", "1024"], "containerd", {"data_block_size": 1024}),
        (["--hash-block-size", "1024"], "osguard", {"hash_block_size": 1024}),
        (index, "containerd-cache", small),
    ):
        done = cli("layer", "roothash", layers[0], "--recipe", recipe, *options, "--output", "json")
        assert done.exit_code == 0, done.err
        (found,) = json.loads(done.out)["layers"]
        base = Recipe.parse(recipe)
        params = VerityParams(
            **{
                "data_block_size": base.params.data_block_size,
                "hash_block_size": base.params.hash_block_size,
                "salt": bytes(32),
                **changed,
            }
        )
        layout = options[1] if "--layout" in options else base.layout.value
        assert found["layout"] == layout
        image = image_of(tar, dataclasses.replace(base, layout=ImageLayout(layout)), found["uuid"])
        assert found["root_hash"] == tree_of(image, params)[0].hex(), options
        assert found["salt"] == params.salt.hex()


def test_uuids(tar, layers):
    found = {}
    for word in ("digest", "diff-id", "C1B9D5A2F16211CF9ECE0020AFC76F16"):
        done = cli("layer", "roothash", layers[1], "--uuid", word, "--output", "json")
        found[word] = json.loads(done.out)["layers"][0]["uuid"]
    packed = layers[1].read_bytes()
    containerd = Recipe.parse("containerd")
    assert found["digest"] == str(containerd.image_uuid(digest=sha256(packed), diff_id=None))
    plain = sha256(gzip.decompress(packed))
    assert found["diff-id"] == str(containerd.image_uuid(digest=plain, diff_id=None))
    assert found["C1B9D5A2F16211CF9ECE0020AFC76F16"] == "c1b9d5a2-f162-11cf-9ece-0020afc76f16"


def test_sizes_with_units(layers):
    for size in ("1000000", "1000K", "1m", "1M", "2G", "1T"):
        assert cli("layer", "roothash", *layers, "--max-layer-size", size).exit_code == 0
    for size in ("10000", "100K"):
        done = cli("layer", "roothash", *layers, "--max-layer-size", size)
        fails(done, 2, "--max-layer-size")


def test_the_media_type(tar, tmp_path):
    path = write(tmp_path / "layer", gzip.compress(tar))
    oci = "application/vnd.oci.image.layer.v1.tar"
    for good in (f"{oci}+gzip", f"{oci}+zstd"):
        assert cli("layer", "roothash", path, "--media-type", good).exit_code == 0
    fails(cli("layer", "roothash", path, "--media-type", oci), 3, "push it with the suffix")
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    fails(cli("layer", "roothash", path, "--media-type", foreign), 3, "not supported")


# the other converter


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("version", ["1.8.6", "1.9.4"])
@pytest.mark.parametrize("how", ["mkfs", "both"])
def test_by_mkfs_erofs(how, version, command, layers, tmp_path):
    mkfs = program(tmp_path, version, ":")
    more = ("-o", tmp_path / "out") if command == "convert" else ()
    done = cli(
        *("layer", command, layers[1], *more, "--converter", how, "--mkfs-erofs", mkfs),
        *("--recipe", f"containerd@{version}"),
    )
    assert done.exit_code == 0, done.err
    assert node(layers[1].read_bytes(), version=version) in done.out.split()


def test_a_mkfs_erofs_that_makes_another_image_is_1(layers, tmp_path):
    other = 'printf x | dd of="$image" bs=1 seek=1100 conv=notrunc 2>/dev/null'
    for path in layers:
        done = cli(
            *("layer", "roothash", path, "--converter", "both"),
            *("--mkfs-erofs", program(tmp_path, "1.9.4", other)),
        )
        fails(done, 1, f"{path}: the root hash is ", "and that of mkfs.erofs")


def test_a_mkfs_erofs_of_another_version_is_2(layers, tmp_path):
    done = cli(
        *("layer", "roothash", layers[0], "--converter", "both", "--recipe", "osguard"),
        *("--mkfs-erofs", program(tmp_path, "1.8.6", ":")),
    )
    fails(done, 2, "mkfs.erofs is version 1.8.6", "1.9.3 or 1.9.4", "--recipe osguard@1.8.6")


def test_a_mkfs_erofs_that_is_missing_is_4(layers, tmp_path):
    for how in ("mkfs", "both"):
        done = cli(
            *("layer", "roothash", layers[0], "--converter", how, "--mkfs-erofs", tmp_path / "no")
        )
        fails(done, 4, str(tmp_path / "no"))


def test_further_options_of_mkfs_erofs(layers, tmp_path):
    mkfs = ("--converter", "mkfs", "--mkfs-erofs", program(tmp_path, "1.9.4", ":"))
    plain = cli("layer", "roothash", layers[0], *mkfs)
    other = cli("layer", "roothash", layers[0], *mkfs, "--mkfs-options=--force-uid=7 -zlz4hc")
    assert other.exit_code == 0, other.err
    assert other.out != plain.out
    done = cli("layer", "roothash", layers[0], *mkfs, "--mkfs-options=--exclude-path=/etc")
    fails(done, 2, "'--exclude-path=/etc' is not allowed")
