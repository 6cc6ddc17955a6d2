"""Files that are no layers are said to be what they are, and tars that end early where."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest
from erofs.tar_maker import header, padded
from helpers import cli, program, write, zstd

from dmsign_fast.erofs.compression import check_tar, format_of
from dmsign_fast.erofs.recipe import RECIPES, Recipe
from dmsign_fast.errors import FormatError
from dmsign_fast.pipeline.layers import hash_layer

RECIPE = Recipe.parse("osguard")
TAR = header(b"a file", b"0", 3000) + padded(b"x" * 3000) + header(b"b", b"0", 5) + padded(b"12345")
WHOLE = TAR + bytes(1024)


def zipped(data):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a", data)
    return made.getvalue()


OTHERS = {
    "xz": lambda: lzma.compress(WHOLE),
    "bzip2": lambda: bz2.compress(WHOLE),
    "lz4": lambda: b"\x04\x22\x4d\x18d@\xa7" + WHOLE,
    "zip": lambda: zipped(WHOLE),
    "gzip": lambda: gzip.compress(gzip.compress(WHOLE)),
    "zstd": lambda: gzip.compress(zstd(WHOLE)),
    "an ELF program": lambda: Path(program("cat")).read_bytes(),
    "cpio": lambda: b"070701" + b"0" * 600,
    "7z": lambda: b"7z\xbc\xaf\x27\x1c\0\4" + bytes(range(256)) * 4,
    "JSON": lambda: b'{"schemaVersion": 2}' + b" " * 600,
    "HTML or XML": lambda: b"<!DOCTYPE html>" + b" " * 600,
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_layer_is_named(name, tmp_path):
    path = write(tmp_path / "layer", OTHERS[name]())
    done = cli("layer", "roothash", path)
    assert done.exit_code == 3, done
    assert f"the layer is {name}" in done.err
    assert "and not a tar: give a tar, plain or compressed by gzip or zstd" in done.err


@pytest.mark.parametrize("data", [b"text\n" * 200, bytes(range(1, 256)) * 4], ids=["text", "noise"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_what_is_unknown_is_no_tar(data, pack):
    with pytest.raises(FormatError, match="the layer is not a tar, bad header checksum at its"):
        hash_layer([pack(data)], RECIPE)


def test_behind_a_skippable_frame_of_zstd_too():
    skippable = b"\x50\x2a\x4d\x18\4\0\0\0abcd"
    assert hash_layer([skippable + zstd(WHOLE)], RECIPE).image == hash_layer([WHOLE], RECIPE).image
    with pytest.raises(FormatError, match=r"at byte 12 of the layer.*is xz, and neither zstd data"):
        hash_layer([skippable + lzma.compress(WHOLE)], RECIPE)


@pytest.mark.parametrize("name", [b"BZh91AY", b"PK\3\4", b"{", b"\x7fELF", b"hsqs", b"\x1f\x8b"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_a_tar_whose_first_name_looks_like_another_format_is_a_tar(name, form):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form, encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo(name.decode("latin-1")))
    data = made.getvalue()
    assert format_of(data)
    check_tar(data[:4096])
    assert hash_layer([data], RECIPE).image.inodes == 2
    # mkfs.erofs sums up 500 bytes
    odd = data[:500] + b"odd" + data[503:]
    check_tar(odd[:4096])


@pytest.mark.parametrize("recipe", [row.name for row in RECIPES])
@pytest.mark.parametrize(
    ("size", "entry"),
    [
        (512, "a file' at byte 0"),
        (3000, "a file' at byte 0"),
        (512 + 3072 + 512, "b' at byte 3584"),
        (512 + 3072 + 100, None),
        (100, None),
    ],
)
def test_a_tar_that_ends_early_names_the_entry_and_the_byte(size, entry, recipe):
    where = f"the entry '{entry} of the tar" if entry else "the tar"
    wanted = f"{where} cannot be converted: truncated archive: it ends at byte {size}, so fetch"
    with pytest.raises(FormatError) as refused:
        hash_layer([WHOLE[:size]], Recipe.parse(recipe))
    assert str(refused.value).startswith(wanted)


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_compressed_data_that_ends_early_names_its_byte(pack):
    data = pack(bytes(range(256)) * 4000)
    with pytest.raises(FormatError, match=f"at byte {len(data) - 9}, after .* fetch it again"):
        hash_layer([data[:-9]], RECIPE)


def test_damaged_gzip_has_no_number_of_an_error():
    data = bytearray(gzip.compress(WHOLE))
    data[-6] ^= 1  # of the checksum
    with pytest.raises(FormatError, match="Incorrect checksum found; fetch it") as refused:
        hash_layer([data], RECIPE)
    assert "Error -" not in str(refused.value)


def test_what_the_node_loses_names_the_option():
    odd = header(b"odd", b"Z", 0) + bytes(1024)
    with pytest.raises(FormatError, match=r"drops it; --allow-lossy does as mkfs\.erofs does"):
        hash_layer([odd], RECIPE)
