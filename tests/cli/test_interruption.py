"""Signals and full disks in the middle of the work leave nothing behind."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import (
    DMSIGN,
    cli,
    dmsign,
    has_read,
    has_written,
    limited,
    noise,
    on_a_small_disk,
    program,
    wait_until,
    write,
)
from pki import make_leaf, make_root

MIB = 1 << 20
OLD = b"what stood there"
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
SIGNALS = pytest.mark.parametrize("number", EXIT_CODES, ids=lambda number: number.name)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """128 MiB, of which the first part is hashed long before the last."""
    path = tmp_path_factory.mktemp("large") / "data"
    piece = noise(MIB)
    with path.open("wb") as file:
        for _ in range(128):
            file.write(piece)
    yield path
    path.unlink()


# Stops by itself in the middle of its work: before the given call of a function.
STOPS = """
import os, signal, sys
from dmsign_fast.cli import main
from dmsign_fast.verity import reading
from dmsign_fast.verity.hash_file import HashFile
reading._FIRST_SPAN, reading._SHORT = 8 << 20, 0
steps = {"write": (HashFile, "write", 2), "fsync": (os, "fsync", 1)}
holder, name, number = steps[sys.argv.pop(1)]
function, calls = getattr(holder, name), []
def stops(*arguments):
    calls.append(arguments)
    if len(calls) == number:
        os.kill(os.getpid(), signal.SIGSTOP)
    return function(*arguments)
setattr(holder, name, stops)
sys.exit(main())
"""


@contextmanager
def started(*arguments, command=DMSIGN, **options):
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def stopped(*arguments, before="write", **options):
    """A process that has written its first hash blocks, or all that goes before its superblock."""
    command = (sys.executable, "-c", STOPS, before)
    with started(*arguments, command=command, **options) as process:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        yield process


def stop(process, number):
    """Send the signal, and return the exit status and what was said."""
    assert process.poll() is None, process.stderr.read()
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err.decode()


def assert_stopped(process, number):
    exit_code, err = stop(process, number)
    assert exit_code == EXIT_CODES[number]
    assert "Traceback" not in err
    if number == signal.SIGINT:
        assert err == "dmsign-fast: error: interrupted, nothing was written\n"


@SIGNALS
def test_format_of_a_large_file(number, large, tmp_path):
    target = write(tmp_path / "hashes", OLD)
    with stopped("verity", "format", large, target) as process:
        assert has_written(process)
        assert_stopped(process, number)
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == OLD


@SIGNALS
def test_format_of_a_pipe(number, tmp_path):
    with (
        subprocess.Popen([program("cat"), "/dev/zero"], stdout=subprocess.PIPE) as cat,
        stopped("verity", "format", "-", "hashes", stdin=cat.stdout, cwd=tmp_path) as process,
    ):
        cat.stdout.close()
        assert has_written(process)
        assert_stopped(process, number)
    assert not list(tmp_path.iterdir())


@SIGNALS
def test_format_of_a_pipe_that_says_nothing(number, tmp_path):
    with started("verity", "format", "-", "hashes", stdin=subprocess.PIPE, cwd=tmp_path) as process:
        process.stdin.write(bytes(20 * MIB))
        process.stdin.flush()
        wait_until(lambda: has_read(process), "the last byte")
        assert_stopped(process, number)
    assert not list(tmp_path.iterdir())


@SIGNALS
def test_sign(number, large, tmp_path):
    files = make_leaf(make_root()).write(tmp_path / "pki")
    out = tmp_path / "out"
    out.mkdir()
    names = ("h", "r", "s")
    for name in names:
        write(out / name, OLD)
    with stopped(
        *("verity", "sign", large, "h", "--root-hash-file", "r", "--signature", "s"),
        *("--key", files.key, "--cert", files.chain),
        cwd=out,
    ) as process:
        assert has_written(process)
        assert_stopped(process, number)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == dict.fromkeys(names, OLD)


@SIGNALS
def test_format_into_the_data_itself(number, tmp_path):
    data = write(tmp_path / "data", noise(MIB) * 32)
    command = ("verity", "format", data, data, "--hash-offset", 32 * MIB)
    with stopped(*command, before="fsync") as process:
        assert data.stat().st_size > 32 * MIB
        assert_stopped(process, number)
    if number == signal.SIGKILL:  # the tree is unfinished and has no superblock
        assert cli("verity", "dump", data, "--hash-offset", 32 * MIB).exit_code == 3
    else:
        assert data.stat().st_size == 32 * MIB


@SIGNALS
def test_other_algorithms(number, large, tmp_path):
    with started(
        *("verity", "format", large, "hashes", "--hash", "sha512", "--data-block-size", "512"),
        cwd=tmp_path,
    ) as process:
        wait_until(
            lambda: process.poll() is not None or _hashing_in_threads(process), "the threads"
        )
        assert_stopped(process, number)
    assert not list(tmp_path.iterdir())


def _hashing_in_threads(process):
    return len(list(Path(f"/proc/{process.pid}/task").iterdir())) > 1


@pytest.mark.parametrize("room", [0, 100, 4096, 8192, 100_000])
def test_a_file_that_cannot_grow_leaves_nothing(room, tmp_path):
    data = write(tmp_path / "data", noise(4096) * 4096)
    target = write(tmp_path / "hashes", OLD)
    done = dmsign("verity", "format", data, target, **limited(room))
    assert done.exit_code == 4
    assert "cannot write" in done.err
    assert "File too large" in done.err
    assert sorted(tmp_path.iterdir()) == [data, target]
    assert target.read_bytes() == OLD


def test_a_file_that_cannot_grow_gets_its_size_back(tmp_path):
    data = write(tmp_path / "data", noise(4096) * 4096)
    size = data.stat().st_size
    before = data.read_bytes()
    done = dmsign("verity", "format", data, data, "--hash-offset", size, **limited(size + 50_000))
    assert done.exit_code == 4
    assert data.read_bytes() == before


def test_a_pipe_whose_spool_cannot_grow_leaves_nothing(tmp_path):
    options = ("--data-block-size", "512")
    done = dmsign(
        *("verity", "format", "-", "hashes", *options),
        input=noise(512) * 40_000,
        cwd=tmp_path,
        **limited(100_000),
    )
    assert done.exit_code == 4
    assert "File too large" in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("room", [0, 8192, 40_000])
def test_sign_on_a_disk_without_room_leaves_nothing(room, tmp_path):
    data = write(tmp_path / "data", noise(4096) * 4096)
    files = make_leaf(make_root()).write(tmp_path / "pki")
    before = sorted(tmp_path.iterdir())
    done = dmsign(
        *("verity", "sign", data, "--key", files.key, "--cert", files.chain), **limited(room)
    )
    assert done.exit_code == 4
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_file_system(tmp_path):
    """A real one where it can be mounted; all else is above."""
    data = write(tmp_path / "data", noise(4096) * 4096)
    disk = tmp_path / "disk"
    disk.mkdir()
    done = on_a_small_disk(
        disk, "64k", *DMSIGN, "verity", "format", data, disk / "hashes", "--quiet"
    )
    assert done.exit_code == 4, done
    assert "No space left on device: free some space" in done.err
    assert done.out == ""
