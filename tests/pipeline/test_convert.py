"""Layers as files, byte for byte those of mkfs.erofs and veritysetup; or nothing at all."""

import dataclasses
import gzip
import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import tarfile
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
from erofs.tar_maker import header
from erofs_layers.twins import (
    END,
    VERSIONS,
    file,
    filled,
    image_of,
    options,
    program,
    tar_of,
    typical_tar,
)
from helpers import DMSIGN, cli, dmsign, noise, run, veritysetup, wait_until, write
from helpers import program as installed

from dmsign_fast.erofs.mkfs import MkfsErofs
from dmsign_fast.erofs.recipe import RECIPES, Recipe
from dmsign_fast.errors import DmsignError, FormatError, ParameterError, StorageError
from dmsign_fast.pipeline.convert import VERITY_MODES, convert_layer
from dmsign_fast.pipeline.layers import Conversion, Expected, read_pieces
from dmsign_fast.verity.params import VerityParams

CONTAINERD, CACHE, TAR_INDEX, OSGUARD = RECIPES
OLD = b"what stood there"
IDENTITY = UUID(int=11)


@pytest.fixture(scope="module")
def tar():
    return typical_tar()


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "layer.erofs"


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
        ("containerd", {"data_block_size": 8192, "salt": noise(100)}),
        ("osguard", {"data_block_size": 4096}),
        ("osguard", {"hash_algorithm": "sha512", "hash_block_size": 4096}),
    ],
)
def test_other_parameters(name, changed, verity, tar, out, tmp_path):
    recipe = fixed(Recipe.parse(name))
    recipe = dataclasses.replace(recipe, params=dataclasses.replace(recipe.params, **changed))
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
    image = image_of(tar, fixed(OSGUARD if block == 512 else CONTAINERD), IDENTITY) + b"more"
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


# nothing, or everything

WRONG = "sha256:" + "00" * 32


def failures(tar):
    """What can go wrong with a layer: its bytes, what is expected, the conversion, the error."""
    packed = gzip.compress(tar)
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 8
    sparse = tar_of(file(b"good", noise(100_000)), _sparse())
    return {
        "digest": (packed, Expected(digest=WRONG), None, 1),
        "diff id": (packed, Expected(diff_id=WRONG), None, 1),
        "size": (packed, Expected(size=len(packed) - 1), None, 1),
        "cut gzip": (packed[:-9], None, None, 3),
        "damaged gzip": (bytes(damaged), None, None, 3),
        "cut tar": (tar[:100_000], None, None, 3),
        "refused entry": (sparse, None, None, 3),
        "too large": (packed, None, Conversion(max_layer_size=10_000), 2),
        "nothing": (b"", None, None, 3),
        "media type": (tar, Expected(media_type="text/plain"), None, 3),
        "threads": (tar, None, Conversion(threads=999), 2),
    }


def _sparse():
    return header(b"sparse", b"S", 0)


@pytest.mark.parametrize("verity", VERITY_MODES)
@pytest.mark.parametrize("recipe", [CONTAINERD, OSGUARD], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("existing", [False, True])
def test_nothing_is_left_when_a_layer_is_refused(existing, recipe, verity, tar, out):
    names = [out, *(Path(f"{out}.{suffix}") for suffix in ("dmverity", "verity", "roothash"))]
    if existing:
        for name in names:
            write(name, OLD)
    for stored, expected, conversion, exit_code in failures(tar).values():
        with pytest.raises(DmsignError) as caught:
            convert_layer([stored], out, recipe, expected, conversion, verity=verity)
        assert caught.value.exit_code == exit_code
        found = {path: path.read_bytes() for path in out.parent.iterdir()}
        assert found == (dict.fromkeys(names, OLD) if existing else {})


def test_an_output_is_never_the_input(tar, tmp_path):
    layer = write(tmp_path / "layer.tar", tar)
    link = tmp_path / "link"
    link.symlink_to(layer)
    for name in (layer, link):
        with pytest.raises(ParameterError, match="would overwrite"):
            convert_layer(read_pieces(layer), name, CONTAINERD, protect=[layer])
    for suffix, verity in (
        ("dmverity", "append"),
        ("verity", "separate"),
        ("roothash", "separate"),
    ):
        image = tmp_path / "image"
        taken = write(Path(f"{image}.{suffix}"), tar)
        with pytest.raises(ParameterError, match="would overwrite"):
            convert_layer(read_pieces(taken), image, CONTAINERD, verity=verity, protect=[taken])
        assert taken.read_bytes() == tar
        assert not image.exists()
        taken.unlink()
    assert sorted(tmp_path.iterdir()) == [layer, link]
    assert layer.read_bytes() == tar


def test_a_place_that_cannot_be_written(tar, tmp_path):
    with pytest.raises(StorageError, match=r"cannot write .*missing/x: No such file"):
        convert_layer([tar], tmp_path / "missing" / "x", CONTAINERD)
    with pytest.raises(StorageError, match="Is a directory"):
        convert_layer([tar], tmp_path, CONTAINERD)
    (tmp_path / "image.dmverity").mkdir()
    with pytest.raises(StorageError, match=r"image\.dmverity: Is a directory"):
        convert_layer([tar], tmp_path / "image", CONTAINERD)
    assert [path.name for path in tmp_path.iterdir()] == ["image.dmverity"]


def test_a_mode_that_is_unknown(tar, tmp_path):
    with pytest.raises(ParameterError, match="append, separate, none"):
        convert_layer([tar], tmp_path / "x", CONTAINERD, verity="inside")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("recipe", ["containerd", "osguard"])
@pytest.mark.parametrize("room", [0, 5000, 200_000, 1_000_000, 2_100_000])
def test_a_file_that_cannot_grow_leaves_nothing(room, recipe, out):
    layer = write(out.parent.parent / "layer", tar_of(file(b"f", noise(2_000_000))))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    done = dmsign(
        *("layer", "convert", layer, "-o", out, "--recipe", recipe, "--quiet"), preexec_fn=limit
    )
    if room > 2_050_000 and recipe == "containerd":
        # the image has room, and the hash area has: 2 002 944 bytes and 20 blocks
        assert done.exit_code == 0, done.err
        return
    assert done.exit_code == 4, done
    assert "File too large" in done.err
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize("recipe", ["containerd", "osguard"])
def test_a_full_file_system(recipe, tmp_path):
    layer = write(tmp_path / "layer", tar_of(file(b"f", noise(2_000_000))))
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        'mount -t tmpfs -o size=1m none "$0" || exit 99; "$@"; status=$?; ls -A "$0"; exit $status'
    )
    unshare = () if os.geteuid() == 0 else ("--map-root-user",)
    done = run(
        *(installed("unshare"), *unshare, "--mount", installed("bash"), "-c", script, disk),
        *(*DMSIGN, "layer", "convert", layer, "-o", disk / "x", "--recipe", recipe, "--quiet"),
    )
    assert done.exit_code == 4, done
    assert "No space left on device" in done.err
    assert done.out == ""


@pytest.mark.parametrize("how", ["native", "both"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_in_the_middle_leaves_nothing(number, how, out, tmp_path):
    names = [out, Path(f"{out}.dmverity")]
    for name in names:
        write(name, OLD)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    more = () if how == "native" else ("--mkfs-erofs", program(tmp_path, "1.9.4", ":"))
    command = [
        *DMSIGN,
        "layer",
        "convert",
        "-",
        "-o",
        str(out),
        "--converter",
        how,
        *map(str, more),
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    with process:
        tar = tar_of(file(b"f", noise(1 << 20) * 30))
        process.stdin.write(tar[: 20 << 20])
        process.stdin.flush()
        wait_until(lambda: _has_written(process), "the first blocks of the image")
        process.send_signal(number)
        process.stdin.close()
        process.stdin = None
        _, err = process.communicate(timeout=30)
    assert process.returncode == {2: 130, 15: 143, 9: -9}[number], err
    assert b"Traceback" not in err
    assert sorted(out.parent.iterdir()) == names
    assert all(name.read_bytes() == OLD for name in names)
    if number != signal.SIGKILL:
        assert not list(scratch.iterdir())


def _has_written(process):
    """Whether it has a file open for writing that has no name yet and holds something."""
    try:
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            status = entry.stat()
            if status.st_nlink == 0 and status.st_size >= 64 << 10:
                return True
    except FileNotFoundError:
        pass
    return process.poll() is not None


def test_a_refusal_names_the_entry(out):
    with pytest.raises(FormatError, match="the entry 'sparse' at byte"):
        convert_layer([tar_of(_sparse())], out, CONTAINERD)


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
