"""Memory at 16 GiB, a sparse file of 64 GiB, and the time to start."""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from compare import dmsign_fast
from inputs import MIB, cache, repeated, sparse_file
from measure import in_turn, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_GIB = 1 << 30
_SPARE = 10 * _GIB
_STARTS = 20


@dataclass(frozen=True)
class Limit:
    """One figure that has an upper limit; no value: why not."""

    name: str
    value: float | None
    unit: str
    most: float | None
    note: str = ""

    @property
    def json(self) -> dict[str, Any]:
        return asdict(self)


def _format(data: Path | str, hash_directory: Path) -> list[str]:
    return [dmsign_fast(), "verity", "format", str(data), str(hash_directory / "new"), "--quiet"]


def _peak(name: str, peak: int, seconds: float) -> Limit:
    # A process begins with the peak of the one that started it, which is this one.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    note = f"{seconds:.1f} s" if peak > own else f"{seconds:.1f} s; at most, this is our own"
    return Limit(name, peak / MIB, "MiB", 64.0, note)


def peaks(source: Path, size: int, scratch: Path, hash_directory: Path) -> Iterator[Limit]:
    """Peak memory of ``format`` on a file and on a pipe of ``size`` bytes, random and repeated."""
    times = size // source.stat().st_size
    gib = size / _GIB
    words = 'i=0; while [ $i -lt "$2" ]; do cat "$1"; i=$((i + 1)); done'
    with subprocess.Popen(
        ["/bin/sh", "-c", words, "sh", source, str(times)], stdout=subprocess.PIPE
    ) as feeder:
        assert feeder.stdout
        piped = run(_format("-", hash_directory), stdin=feeder.stdout.fileno())
    yield _peak(f"peak memory, {gib:g} GiB by a pipe", piped.peak, piped.seconds)
    name = f"peak memory, a file of {gib:g} GiB"
    free = shutil.disk_usage(scratch).free
    if free < size + _SPARE:
        yield Limit(name, None, "MiB", 64.0, f"only {free / _GIB:.0f} GiB free in {scratch}")
        return
    large = repeated(scratch / "large", times, source)
    try:
        read = run(_format(large, hash_directory))
    finally:
        large.unlink()
    yield _peak(name, read.peak, read.seconds)


def sparse(source: Path, size: int, scratch: Path, hash_directory: Path, rounds: int) -> Limit:
    """A sparse file that holds the bytes of ``source``, against ``source`` itself."""
    path = sparse_file(scratch / "sparse", size, source)
    cache(source)
    try:
        run(_format(path, hash_directory))
        pairs = in_turn(
            lambda: run(_format(path, hash_directory)),
            lambda: run(_format(source, hash_directory)),
            rounds,
        )
    finally:
        path.unlink()
    name = f"a sparse file of {size / _GIB:g} GiB with {source.stat().st_size / _GIB:g} GiB of data"
    ratio = statistics.median(pairs.ratios)
    note = f"{min(pairs.ratios):.2f} to {max(pairs.ratios):.2f}"
    return Limit(name, ratio, "times the data alone", 3.0, note)


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
