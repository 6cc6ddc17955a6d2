"""Memory at 16 GiB, a sparse file of 64 GiB, and the time to start."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from compare import dmsign_fast
from inputs import MIB, cache, repeated, sparse_file
from measure import Limit, Run, in_turn, peak, run, seconds

from dmsign_fast.benchmark.programs import format_words, root_hash, verify_words

if TYPE_CHECKING:
    from collections.abc import Iterator

_GIB = 1 << 30
_SPARE = 10 * _GIB
_STARTS = 20
_COLD_ROUNDS = 9


def _format(data: Path, hash_file: Path, block_size: int = 4096) -> list[str]:
    return [dmsign_fast(), "verity", *format_words(data, hash_file, block_size)]


def _peak(name: str, command: list[str], stdin: int = subprocess.DEVNULL) -> tuple[Limit, str]:
    size, done = peak(command, stdin=stdin)
    return Limit(
        f"peak memory, {name}", size / MIB, "MiB", 64.0, f"{done.seconds:.1f} s"
    ), done.output


def peaks(source: Path, size: int, scratch: Path, hash_directory: Path) -> Iterator[Limit]:
    """Peak memory with ``size`` bytes, ``source`` over and over, from a pipe and from a file."""
    times = size // source.stat().st_size
    gib = f"{size / _GIB:g} GiB"
    hashes = hash_directory / "hashes"
    words = 'i=0; while [ $i -lt "$2" ]; do cat "$1"; i=$((i + 1)); done'
    with subprocess.Popen(
        ["/bin/sh", "-c", words, "sh", source, str(times)], stdout=subprocess.PIPE
    ) as feeder:
        assert feeder.stdout
        yield _peak(f"format, {gib} by a pipe", _format(Path("-"), hashes), feeder.stdout.fileno())[
            0
        ]
    free = shutil.disk_usage(scratch).free
    if free < size + _SPARE:
        note = f"only {free / _GIB:.0f} GiB free in {scratch}"
        yield Limit(f"peak memory, a file of {gib}", None, "MiB", 64.0, note)
        return
    large = repeated(scratch / "large", times, source)
    try:
        for block_size in (4096, 512):
            what = f"{gib}, blocks of {block_size}"
            formatted, output = _peak(f"format, {what}", _format(large, hashes, block_size))
            yield formatted
            words = verify_words(large, hashes, root_hash(output))
            yield _peak(f"verify, {what}", [dmsign_fast(), "verity", *words, "--quiet"])[0]
    finally:
        large.unlink()
        hashes.unlink(missing_ok=True)


def sparse(source: Path, size: int, scratch: Path, hash_directory: Path, rounds: int) -> Limit:
    """A sparse file that holds the bytes of ``source``, against ``source`` itself."""
    path = sparse_file(scratch / "sparse", size, source)
    hashes = hash_directory / "hashes"
    cache(source)
    try:
        run(_format(path, hashes))
        pairs = in_turn(
            lambda: run(_format(path, hashes)),
            lambda: run(_format(source, hashes)),
            rounds,
        )
    finally:
        path.unlink()
        hashes.unlink(missing_ok=True)
    name = f"a sparse file of {size / _GIB:g} GiB with {source.stat().st_size / _GIB:g} GiB of data"
    ratio = statistics.median(pairs.ratios)
    note = f"{min(pairs.ratios):.2f} to {max(pairs.ratios):.2f}"
    return Limit(name, ratio, "times the data alone", 3.0, note)


def _forget(path: Path) -> None:
    """Take a file out of the page cache."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def cold(data: Path, hash_directory: Path, rounds: int) -> Limit:
    """A file that is not in the page cache, with two threads, against ``dd``."""
    hashes, threads = hash_directory / "hashes", ["--threads", "2"]

    def cold_run(command: list[str]) -> Run:
        _forget(data)
        return run(command)

    pairs = in_turn(
        lambda: cold_run(["dd", f"if={data}", "of=/dev/null", "bs=1M", "status=none"]),
        lambda: cold_run([*_format(data, hashes), *threads]),
        max(rounds, _COLD_ROUNDS),
    )
    hashes.unlink()
    size = data.stat().st_size
    low, middle, high = statistics.quantiles((1 / ratio for ratio in pairs.ratios), n=4)
    speeds = [size / seconds(runs) / 1e9 for runs in (pairs.theirs, pairs.ours)]
    note = f"quartiles {low:.2f} and {high:.2f}; dd {speeds[0]:.2f} GB/s, ours {speeds[1]:.2f}"
    name = f"format of {size / _GIB:g} GiB out of the page cache, two threads"
    return Limit(name, middle, "times the time of dd", 1.0, note)


def start() -> list[Limit]:
    """``--version``, and as a floor a Python that does nothing."""
    program = dmsign_fast()
    ours = [run([program, "--version"]).seconds for _ in range(_STARTS)]
    bare = [run([sys.executable, "-c", ""]).seconds for _ in range(_STARTS)]

    def limit(name: str, times: list[float], most: float | None) -> Limit:
        note = f"{min(times) * 1e3:.0f} to {max(times) * 1e3:.0f}, median of {len(times)}"
        return Limit(name, statistics.median(times) * 1e3, "ms", most, note)

    return [
        limit("start of dmsign-fast --version", ours, 150.0),
        limit("start of python -c ''", bare, None),
    ]
