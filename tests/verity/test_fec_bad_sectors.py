"""Blocks that a disk cannot read any more come back like others."""

from pathlib import Path

import pytest
from helpers import cli, dmsign, noise, program, run, write


@pytest.fixture(scope="module")
def preload(tmp_path_factory):
    library = tmp_path_factory.mktemp("preload") / "bad_sectors.so"
    source = Path(__file__).with_name("bad_sectors.c")
    built = run(program("gcc"), "-shared", "-fPIC", "-O1", source, "-ldl", "-o", library)
    assert built.exit_code == 0, built.err
    return library


@pytest.fixture
def image(tmp_path):
    disk = write(tmp_path / "disk", noise(700 * 4096))
    fec = ("--fec-device", tmp_path / "fec")
    done = cli("verity", "format", disk, tmp_path / "hashes", *fec)
    assert done.exit_code == 0, done.err
    return (disk, tmp_path / "hashes", done.root_hash.hex(), *fec)


def on_a_bad_disk(preload, first, blocks, *words):
    sectors = {"BAD_FROM": str(first * 4096), "BAD_TO": str((first + blocks) * 4096)}
    return dmsign("verity", *words, environment={"LD_PRELOAD": str(preload), **sectors})


@pytest.mark.parametrize("blocks", [1, 6])
def test_a_copy_has_what_was_unreadable(preload, image, tmp_path, blocks):
    assert on_a_bad_disk(preload, 300, blocks, "verify", *image).exit_code == 4  # it is unreadable
    done = on_a_bad_disk(preload, 300, blocks, "repair", *image, "--output", tmp_path / "copy")
    assert done.exit_code == 0, done.err
    assert done.field("Repaired") == f"{blocks} blocks"
    assert (tmp_path / "copy").read_bytes() == image[0].read_bytes()


def test_in_place_they_are_written_again(preload, image):
    with image[0].open("r+b") as file:
        file.seek(300 * 4096)
        file.write(bytes(2 * 4096))  # what the disk has under the unreadable sectors
    done = on_a_bad_disk(preload, 300, 2, "repair", *image, "--in-place")
    assert done.exit_code == 0, done.err
    assert image[0].read_bytes() == noise(700 * 4096)


def test_too_many_are_named(preload, image, tmp_path):
    done = on_a_bad_disk(preload, 300, 9, "repair", *image, "--output", tmp_path / "copy")
    assert done.exit_code == 1
    assert "data block 300-308" in done.out
    assert not (tmp_path / "copy").exists()
