"""The C core alone: cycles per byte of data by one thread from the cache and from the page cache.

Run as a program, it is the process that ``perf stat`` counts.
"""

from __future__ import annotations

import argparse
import mmap
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inputs import MIB
from machine import core_hertz

# One piece as the core reads it: it stays in L2.
_PIECE = 256 << 10
_SALT = bytes(range(32))
_SECONDS = 1.0
# Cycles of the core per byte of data that no order of its instructions can beat, by the operations
# that they are and that a cycle can do: see docs/performance.md.
_BOUNDS = {("avx512", 4096): 0.4225, ("avx512", 512): 0.468}


@dataclass(frozen=True)
class Cycles:
    """One implementation and block size.

    Attributes:
        hashing: GB/s of blocks that are in L2.
        reading: GB/s with pread from the page cache.
        clock: what a cycle is: ``core`` as perf counts them, ``loop`` by the clock that a loop
            of additions shows before and after, or None if neither can be had.
    """

    implementation: str
    block_size: int
    hashing: float
    reading: float
    clock: str | None
    per_byte: float | None

    @property
    def bound(self) -> float | None:
        """What ``per_byte`` could be at best, where that was worked out."""
        return _BOUNDS.get((self.implementation, self.block_size))

    @property
    def json(self) -> dict[str, Any]:
        return {**asdict(self), "bound": self.bound}


def _call(call: Any, least: int) -> float:
    """Seconds of one call, of the time that this thread had a core, at the tenth percentile.

    What neighbours do to clock and caches only ever adds. The call must not start threads.
    """
    call()
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < least or time.perf_counter() < end:
        began = time.thread_time()
        call()
        times.append(time.thread_time() - began)
    return sorted(times)[len(times) // 10]


def _aligned_piece(fd: int) -> memoryview:
    """A piece as the core reads it: from the beginning of a page."""
    piece = memoryview(mmap.mmap(-1, _PIECE))
    os.preadv(fd, [piece], 0)
    return piece


def _perf_cycles(implementation: str, block_size: int, pieces: int) -> int | None:
    """Core cycles in user space of a process that hashes so many pieces."""
    perf = shutil.which("perf")
    if not perf:
        return None
    words = [perf, "stat", "-x,", "-e", "cycles:u", sys.executable, __file__]
    words += [implementation, str(block_size), str(pieces)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    for line in done.stderr.splitlines():
        value, _, event, *_ = [*line.split(","), "", "", ""]
        if event.startswith("cycles") and value.isdecimal():
            return int(value)
    return None


def _core_cycles_per_byte(implementation: str, block_size: int) -> float | None:
    few, many = 200, 2200
    counts = [_perf_cycles(implementation, block_size, pieces) for pieces in (few, many)]
    if counts[0] is None or counts[1] is None:
        return None
    return (counts[1] - counts[0]) / ((many - few) * _PIECE)


def cycles(implementation: str, block_size: int, data: Path) -> Cycles:
    """Measure one implementation on the beginning of a file."""
    from dmsign_fast import _core

    with _core.SHA256.using(implementation):
        block_hash = _core.BlockHash(1, _SALT, block_size)
    size = min(64 * MIB, data.stat().st_size) // block_size * block_size
    fd = os.open(data, os.O_RDONLY)
    hertz = core_hertz()
    try:
        piece = _aligned_piece(fd)
        hashing = _call(lambda: block_hash.hash_blocks(piece), 20)
        reading = _call(lambda: block_hash.hash_file(fd, 0, size // block_size), 5)
    finally:
        os.close(fd)
    clock, per_byte = "core", _core_cycles_per_byte(implementation, block_size)
    if per_byte is None and hertz:
        clock, per_byte = "loop", max(hertz, core_hertz() or 0) * hashing / len(piece)
    return Cycles(
        implementation,
        block_size,
        len(piece) / hashing / 1e9,
        size / reading / 1e9,
        clock if per_byte else None,
        per_byte,
    )


def _hash_pieces() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("implementation")
    parser.add_argument("block_size", type=int)
    parser.add_argument("pieces", type=int)
    args = parser.parse_args()
    from dmsign_fast import _core

    _core.SHA256.select(args.implementation)
    block_hash = _core.BlockHash(1, _SALT, args.block_size)
    with open("/dev/urandom", "rb") as file:  # noqa: PTH123
        piece = _aligned_piece(file.fileno())
    for _ in range(args.pieces):
        block_hash.hash_blocks(piece)


if __name__ == "__main__":
    _hash_pieces()
