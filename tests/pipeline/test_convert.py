"""Layers as files, byte for byte those of mkfs.erofs and veritysetup."""

import dataclasses
import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
from erofs_layers.twins import (
    END,
    VERSIONS,
    file,
    filled,
    image_of,
    options,
    program,
    tar_of,
)
from helpers import cli, noise, run, veritysetup, write
from helpers import program as installed

from dmsign_fast.erofs.mkfs import MkfsErofs
from dmsign_fast.erofs.recipe import RECIPES, Recipe
from dmsign_fast.pipeline.convert import VERITY_MODES, convert_layer
from dmsign_fast.pipeline.layers import Conversion
from dmsign_fast.verity.params import VerityParams

CONTAINERD, CACHE, TAR_INDEX, OSGUARD = RECIPES
OLD = b"what stood there"
IDENTITY = UUID(int=11)


def fixed(recipe):
    return dataclasses.replace(recipe, uuid=IDENTITY)


def formatted(image, params, offset, directory):
    """What veritysetup makes of an image, in it from an offset on, or in a file of its own."""
    data = write(directory / "theirs", filled(image, params.data_block_size))
    place = ["--hash-offset", offset] if offset else []
    made = data if offset else directory / "theirs.verity"
    blocks = ["--data-blocks", data.stat().st_size // params.data_block_size]
    first = veritysetup("format", data, made, *options(params), *place, *blocks)
    assert first.exit_code == 0, first.err
    root_hash = first.field("Root hash")
    identity = uuid5(NAMESPACE_URL, f"dm-verity:{root_hash}")
    again = veritysetup("format", data, made, *options(params), *place, *blocks, "--uuid", identity)
    assert again.field("Root hash") == root_hash
    return made.read_bytes(), root_hash


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("recipe", [CONTAINERD, OSGUARD], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("content", ["typical", "nothing", "one file"])
def test_append(content, recipe, version, tar, out, tmp_path):
    layer = {"typical": tar, "nothing": END, "one file": tar_of(file(b"f", noise(70_000)))}[content]
    recipe = fixed(Recipe.parse(f"{recipe.name}@{version}"))
    made = convert_layer([layer], out, recipe)
    image = image_of(layer, recipe, IDENTITY)
    block = recipe.params.data_block_size
    end = len(filled(image, block))
    wanted, root_hash = formatted(image, recipe.params, end, tmp_path)
    assert out.read_bytes() == wanted
    assert (made.image, made.hash_file, made.hash_offset) == (out, out, end)
    # what Go's json.MarshalIndent writes, by containerd
    sidecar = f'{{\n  "roothash": "{root_hash}",\n  "hashoffset": {end}\n}}'
    assert made.sidecar == Path(f"{out}.dmverity")
    assert made.sidecar.read_text() == sidecar
    assert json.loads(sidecar) == {"roothash": root_hash, "hashoffset": end}
    assert sorted(path.name for path in out.parent.iterdir()) == [out.name, f"{out.name}.dmverity"]
    assert made.layer.image.root_hash.hex() == root_hash
    done = veritysetup("verify", out, out, root_hash, "--hash-offset", end)
    assert done.exit_code == 0, done.err
    assert cli("verity", "verify", out, out, root_hash, "--hash-offset", end).exit_code == 0


@pytest.mark.parametrize("recipe", [CONTAINERD, OSGUARD], ids=lambda recipe: recipe.name)
def test_separate(recipe, tar, out, tmp_path):
    recipe = fixed(recipe)
    made = convert_layer([tar], out, recipe, verity="separate")
    image = image_of(tar, recipe, IDENTITY)
    wanted, root_hash = formatted(image, recipe.params, 0, tmp_path)
    assert out.read_bytes() == filled(image, recipe.params.data_block_size)
    assert Path(f"{out}.verity").read_bytes() == wanted
    assert Path(f"{out}.roothash").read_text() == root_hash
    assert made.hash_file == Path(f"{out}.verity")
    assert (made.hash_offset, made.sidecar) == (0, None)
    assert len(list(out.parent.iterdir())) == 3
    done = veritysetup("verify", out, made.hash_file, "--root-hash-file", f"{out}.roothash")
    assert done.exit_code == 0, done.err


@pytest.mark.parametrize("recipe", [CONTAINERD, OSGUARD], ids=lambda recipe: recipe.name)
def test_none(recipe, tar, out):
    recipe = fixed(recipe)
    made = convert_layer([tar], out, recipe, verity="none")
    assert out.read_bytes() == image_of(tar, recipe, IDENTITY)
    assert (made.hash_file, made.hash_offset, made.sidecar) == (None, 0, None)
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("verity", VERITY_MODES)
@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("containerd", {"data_block_size": 1024, "hash_block_size": 512, "salt": b""}),
        ("containerd", {"hash_block_size": 8192, "salt": noise(100)}),
        ("osguard", {"hash_block_size": 4096}),
        ("osguard", {"hash_algorithm": "sha512", "hash_block_size": 4096}),
    ],
)
def test_other_parameters(name, changed, verity, tar, out, tmp_path):
    recipe = fixed(Recipe.parse(name))
    recipe = dataclasses.replace(recipe, params=recipe.params._replace(**changed))
    convert_layer([tar], out, recipe, verity=verity)
    image = image_of(tar, recipe, IDENTITY)
    whole = filled(image, recipe.params.data_block_size)
    if verity == "none":
        assert out.read_bytes() == whole
        return
    offset = len(whole) if verity == "append" else 0
    wanted, _ = formatted(image, recipe.params, offset, tmp_path)
    assert (out if offset else Path(f"{out}.verity")).read_bytes() == wanted


@pytest.mark.parametrize("verity", ["append", "separate"])
@pytest.mark.parametrize("block", [512, 4096])
def test_a_native_image(block, verity, tar, out, tmp_path):
    params = VerityParams(data_block_size=block, hash_block_size=block, salt=b"x")
    recipe = dataclasses.replace(CONTAINERD, params=params)
    image = image_of(tar, fixed(CONTAINERD), IDENTITY) + b"more"
    convert_layer([gzip.compress(image)], out, recipe, verity=verity)
    offset = len(filled(image, block)) if verity == "append" else 0
    wanted, _ = formatted(image, params, offset, tmp_path)
    assert (out if offset else Path(f"{out}.verity")).read_bytes() == wanted
    assert out.read_bytes().startswith(filled(image, block))


@pytest.mark.parametrize("how", ["mkfs", "both"])
@pytest.mark.parametrize("recipe", [CONTAINERD, OSGUARD], ids=lambda recipe: recipe.name)
def test_the_other_converter_writes_the_same_files(recipe, how, tar, out, tmp_path):
    native = tmp_path / "native"
    convert_layer([tar], native, recipe)
    mkfs = MkfsErofs.find(program(tmp_path, "1.9.4", ":"))
    convert_layer([tar], out, recipe, conversion=Conversion(converter=how, mkfs=mkfs))
    assert out.read_bytes() == native.read_bytes()
    assert Path(f"{out}.dmverity").read_bytes() == Path(f"{native}.dmverity").read_bytes()


@pytest.mark.parametrize("recipe", [CONTAINERD, OSGUARD], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("verity", VERITY_MODES)
def test_zeros_take_no_room(verity, recipe, out):
    tar = tar_of(file(b"a", noise(5000)), file(b"b", bytes(16 << 20)), file(b"c", noise(5000)))
    convert_layer([tar], out, recipe, verity=verity)
    status = out.stat()
    assert status.st_size > 16 << 20
    hashes = 2 * (16 << 20) * 32 // recipe.params.hash_block_size if verity == "append" else 0
    assert status.st_blocks * 512 < (4 << 20) + hashes


def test_the_same_files_every_time(tar, out):
    for _ in range(2):
        convert_layer([tar], out, CONTAINERD)
        found = {path.name: path.read_bytes() for path in out.parent.iterdir()}
        for path in out.parent.iterdir():
            path.unlink()
        again = convert_layer([tar], out, CONTAINERD)
        assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == found
        assert again.layer.digest == f"sha256:{hashlib.sha256(tar).hexdigest()}"


def test_what_stood_there_is_replaced_and_its_permissions_stay(tar, out):
    write(out, OLD).chmod(0o640)
    write(Path(f"{out}.dmverity"), OLD)
    convert_layer([tar], out, CONTAINERD)
    assert out.stat().st_mode & 0o777 == 0o640
    assert OLD not in out.read_bytes()[: len(OLD)]
    assert Path(f"{out}.dmverity").read_bytes() != OLD


# a real kernel judges


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount images")
class TestMounted:
    """What the kernel shows of an image is what the tar says."""

    @pytest.fixture
    def mounted(self, tmp_path):
        places = []

        def mount(image):
            if "\terofs\n" not in Path("/proc/filesystems").read_text():
                run("modprobe", "erofs")
            place = tmp_path / f"mount{len(places)}"
            place.mkdir()
            done = run(installed("mount"), "-t", "erofs", "-o", "ro,loop", image, place)
            assert done.exit_code == 0, done.err
            places.append(place)
            return place

        yield mount
        for place in places:
            run("umount", place)

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("recipe", [CONTAINERD, OSGUARD], ids=lambda recipe: recipe.name)
    def test_every_file_is_that_of_the_tar(self, recipe, version, tar, out, mounted):
        recipe = Recipe.parse(f"{recipe.name}@{version}")
        convert_layer([gzip.compress(tar)], out, recipe)
        assert_is_tar(mounted(out), tar, version)

    @pytest.mark.parametrize("recipe", [CONTAINERD, OSGUARD], ids=lambda recipe: recipe.name)
    def test_through_dm_verity_where_the_kernel_has_it(self, recipe, tar, out, mounted):
        made = convert_layer([tar], out, recipe)
        name = f"dmsign-test-{os.getpid()}-{recipe.name}"
        root_hash = made.layer.image.root_hash.hex()
        opened = veritysetup("open", out, name, out, "--hash-offset", made.hash_offset, root_hash)
        if opened.exit_code:
            if not Path("/sys/module/dm_verity").exists():
                pytest.skip("this kernel has no dm-verity; tests/kernel tests it")
            pytest.fail(opened.err)
        try:
            place = mounted(f"/dev/mapper/{name}")
            assert_is_tar(place, tar, "1.9.4")
            run("umount", place)
        finally:
            run(installed("veritysetup"), "close", name)


def nanoseconds(member, version):
    """The time of a file; what stands behind the point is a whole number to mkfs.erofs 1.8."""
    seconds, _, fraction = member.pax_headers.get("mtime", str(member.mtime)).partition(".")
    fraction = fraction or "0"
    return int(seconds) * 10**9 + int(fraction if version < "1.9" else fraction.ljust(9, "0"))


def assert_is_tar(place, packed, version):
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        members = {member.name.removeprefix("./"): member for member in tar}
        links = {
            name: member.linkname.removeprefix("./")
            for name, member in members.items()
            if member.islnk()
        }
        assert len(members) > 40
        for name in members:
            path, status = place / name, (place / name).lstat()
            target = members[links.get(name, name)]
            assert status.st_mode & 0o7777 == target.mode, name
            assert (status.st_uid, status.st_gid) == (target.uid, target.gid), name
            assert status.st_mtime_ns == nanoseconds(target, version), name
            kind = {
                tarfile.REGTYPE: 0o10, tarfile.DIRTYPE: 0o4, tarfile.SYMTYPE: 0o12,
                tarfile.CHRTYPE: 0o2, tarfile.BLKTYPE: 0o6, tarfile.FIFOTYPE: 0o1,
            }[target.type]  # fmt: skip
            assert status.st_mode >> 12 == kind, name
            if target.isreg():
                assert path.read_bytes() == tar.extractfile(target).read(), name
                names = 1 + sum(found == target.name.removeprefix("./") for found in links.values())
                assert status.st_nlink == names, name
            if target.issym():
                assert os.readlink(path) == target.linkname  # noqa: PTH115
            if target.ischr() or target.isblk():
                device = (os.major(status.st_rdev), os.minor(status.st_rdev))
                assert device == (target.devmajor, target.devminor)
            wanted = {
                key.removeprefix("SCHILY.xattr."): value.encode()
                for key, value in target.pax_headers.items()
                if key.startswith("SCHILY.xattr.")
            }
            found = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            }
            assert found == wanted, name
        for name, target in links.items():
            assert (place / name).stat().st_ino == (place / target).stat().st_ino
    known = set(members) | {str(parent) for name in members for parent in Path(name).parents}
    found = {str(path.relative_to(place)) for path in place.rglob("*")}
    assert found == known - {".", ""}
