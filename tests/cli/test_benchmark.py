"""The table of this machine has every row, and no row can be made by something else."""

import json
import stat

import pytest
from helpers import cli, noise, write

from dmsign_fast import _core, _core_fec
from dmsign_fast.benchmark import programs
from dmsign_fast.errors import ProgramError, VerificationError


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """One run: what it printed, and its plot."""
    directory = tmp_path_factory.mktemp("benchmark")
    picture = directory / "machine.svg"
    done = cli(
        *("benchmark", "--quick", "--output", "json", "--plot", picture, "--directory", directory)
    )
    assert done.exit_code == 0, done.err
    assert [path.name for path in directory.iterdir()] == ["machine.svg"]
    return json.loads(done.out), picture.read_text()


def test_every_part_has_its_rows(quick):
    report, _ = quick
    rows = {
        (row["what"], row["name"], row["source"], row["size"], row["threads"]): row
        for row in report["rows"]
    }
    assert len(rows) == len(report["rows"])
    assert all(row["speed"] > 0 for row in rows.values())
    every = _core.thread_count(None)
    for name in _core.SHA256.usable:
        for block_size in (512, 4096):
            assert ("sha256", name, "memory", block_size, 1) in rows
    best = _core.SHA256.usable[0]
    assert ("sha256", best, "file", 4096, every) in rows
    fec = _core_fec.FEC.usable[0]
    for roots in (2, 24):
        assert ("fec", fec, "file", roots, every) in rows
    for name in ("gzip", "zstd"):
        assert ("decompress", name, "memory", 0, 1) in rows
    for command in ("format", "verify"):
        assert rows["command", command, "file", 4096, every]["ratio"] > 0
    assert report["quick"]


def test_the_choice_of_implementations_is_as_it_was(quick):
    assert quick
    assert _core.SHA256.chosen == _core.SHA256.usable[0]
    assert _core_fec.FEC.chosen == _core_fec.FEC.usable[0]


def test_the_plot_is_of_the_same_rows(quick):
    report, picture = quick
    assert picture.startswith("<?xml")
    assert picture.count("<!-- SHA-256") == sum(row["what"] == "sha256" for row in report["rows"])


@pytest.mark.parametrize("name", ["picture", "picture.pdf"])
def test_a_plot_of_another_kind_is_refused_before_the_work(name, tmp_path):
    done = cli("benchmark", "--plot", tmp_path / name)
    assert done.exit_code == 2
    assert ".png nor .svg" in done.err
    assert not done.out


def test_a_directory_that_is_not_there_is_a_storage_error(tmp_path):
    done = cli("benchmark", "--quick", "--directory", tmp_path / "missing")
    assert done.exit_code == 4
    assert "missing" in done.err


def stand_in(tmp_path, monkeypatch, text, exit_code=0):
    """A veritysetup that prints this."""
    path = write(tmp_path / "veritysetup", f"#!/bin/sh\necho '{text}'\nexit {exit_code}\n".encode())
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(programs.shutil, "which", lambda *_, **__: str(path))


def test_another_root_hash_ends_it(tmp_path, monkeypatch):
    data = write(tmp_path / "data", noise(1 << 20))
    stand_in(tmp_path, monkeypatch, "Root hash: 1234abcd")
    with pytest.raises(VerificationError, match="1234abcd"):
        list(programs.against_veritysetup(data, [1], 1))


def test_a_veritysetup_that_fails_ends_it(tmp_path, monkeypatch):
    data = write(tmp_path / "data", noise(1 << 20))
    stand_in(tmp_path, monkeypatch, "no", 1)
    with pytest.raises(ProgramError, match="exit status 1"):
        list(programs.against_veritysetup(data, [1], 1))


def test_without_veritysetup_there_is_no_ratio(tmp_path, monkeypatch):
    data = write(tmp_path / "data", noise(1 << 20))
    monkeypatch.setattr(programs.shutil, "which", lambda *_, **__: None)
    rows = list(programs.against_veritysetup(data, [1], 1))
    assert [(row[0], row[3]) for row in rows] == [("format", None), ("verify", None)]
