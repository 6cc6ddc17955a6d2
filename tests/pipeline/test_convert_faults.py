"""Layers as files: a conversion that fails leaves nothing and changes nothing."""

import gzip
import os
import signal
import subprocess
from pathlib import Path

import pytest
from erofs.tar_maker import header
from erofs_layers.twins import (
    file,
    program,
    tar_of,
)
from helpers import (
    DMSIGN,
    dmsign,
    has_written,
    limited,
    noise,
    on_a_small_disk,
    wait_until,
    write,
)

from dmsign_fast.erofs.recipe import RECIPES
from dmsign_fast.errors import DmsignError, FormatError, ParameterError, StorageError
from dmsign_fast.pipeline.convert import VERITY_MODES, convert_layer
from dmsign_fast.pipeline.layers import Conversion, Expected, read_pieces

CONTAINERD, _, _, OSGUARD = RECIPES
OLD = b"what stood there"
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

    done = dmsign(
        *("layer", "convert", layer, "-o", out, "--recipe", recipe, "--quiet"), **limited(room)
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
    command = ("layer", "convert", layer, "-o", disk / "x", "--recipe", recipe, "--quiet")
    done = on_a_small_disk(disk, "1m", *DMSIGN, *command)
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
        wait_until(lambda: has_written(process), "the first blocks of the image")
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


def test_a_refusal_names_the_entry(out):
    with pytest.raises(FormatError, match="the entry 'sparse' at byte"):
        convert_layer([tar_of(_sparse())], out, CONTAINERD)
