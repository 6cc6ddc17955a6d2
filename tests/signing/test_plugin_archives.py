"""Archives of plugins that strangers made: refused in little time and memory, nothing is left."""

import gzip
import io
import os
import tarfile
import zipfile

import pytest

from dmsign_fast.errors import FormatError
from dmsign_fast.signing import plugin_install
from dmsign_fast.signing.plugin_install import install_plugin

SCRIPT = b"#!/bin/sh\nexit 1\n" * 50


@pytest.fixture(autouse=True)
def plugins(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTATION_LIBEXEC", str(tmp_path / "lib"))
    yield tmp_path / "lib/plugins"
    assert list((tmp_path / "lib/plugins").iterdir()) == []


def tar_gz(path, *members, before=b""):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    path.write_bytes(gzip.compress(before + made.getvalue(), 1))
    return path


def zip_of(path, entries, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_a_damaged_zip(tmp_path, compression):
    path = zip_of(tmp_path / "p.zip", [("notation-x", SCRIPT)], compression)
    good = path.read_bytes()
    for place in range(40, 90):
        damaged = bytearray(good)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(Exception) as error:  # noqa: PT011
            install_plugin(path)
        assert type(error.value).__module__ == "dmsign_fast.errors", (place, error.value)


def test_a_tar_with_a_header_of_any_size(tmp_path):
    header = tarfile.TarInfo("x")
    header.size, header.type = 64 << 20, tarfile.XHDTYPE
    before = header.tobuf(tarfile.USTAR_FORMAT) + bytes(64 << 20)
    path = tar_gz(tmp_path / "p.tar.gz", ("notation-x", SCRIPT), before=before)
    with pytest.raises(FormatError, match="headers of more than"):
        install_plugin(path)


def test_a_tar_of_more_than_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin_install, "_LARGEST_ARCHIVE", 1 << 20)
    path = tar_gz(tmp_path / "p.tgz", ("d/x", bytes(2 << 20)), ("notation-x", SCRIPT))
    with pytest.raises(FormatError, match="more than 1 MiB"):
        install_plugin(path)


def test_a_tar_that_ends_early(tmp_path):
    path = tar_gz(tmp_path / "p.tgz", ("notation-x", noise := os.urandom(100_000)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(noise) // 2])
    with pytest.raises(FormatError, match=r"cannot be unpacked|no whole tar"):
        install_plugin(path)


def test_a_zip_of_very_many_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin_install, "_MOST_ENTRIES", 3)
    path = zip_of(tmp_path / "p.zip", [(f"f{number}", b"") for number in range(4)])
    with pytest.raises(FormatError, match="more than 3 entries"):
        install_plugin(path)


@pytest.mark.parametrize("name", ["notation-x", "p.zip", "p.tar.gz"])
def test_a_pipe(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(FormatError, match="neither a file nor a directory"):
        install_plugin(tmp_path / name)
