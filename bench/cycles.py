"""The C core alone: cycles per byte of data by one thread from the cache and from the page cache.

Run as a program, it is the process that ``perf stat`` counts.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from machine import core_hertz

from dmsign_fast.benchmark.speeds import (
    block_hash,
    random_piece,
    sha256_from_file,
    sha256_from_memory,
)

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
    return (counts[1] - counts[0]) / ((many - few) * len(random_piece()))


def cycles(implementation: str, block_size: int, data: Path) -> Cycles:
    """Measure one implementation, in memory and on a file."""
    hertz = core_hertz()
    hashing = sha256_from_memory(implementation, block_size, _SECONDS).speed
    reading = sha256_from_file(implementation, block_size, 1, data, _SECONDS).speed
    clock, per_byte = "core", _core_cycles_per_byte(implementation, block_size)
    if per_byte is None and hertz:
        clock, per_byte = "loop", max(hertz, core_hertz() or 0) / hashing
    return Cycles(
        implementation,
        block_size,
        hashing / 1e9,
        reading / 1e9,
        clock if per_byte else None,
        per_byte,
    )


def _hash_pieces() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("implementation")
    parser.add_argument("block_size", type=int)
    parser.add_argument("pieces", type=int)
    args = parser.parse_args()
    hashing, piece = block_hash(args.implementation, args.block_size), random_piece()
    for _ in range(args.pieces):
        hashing.hash_blocks(piece)


if __name__ == "__main__":
    _hash_pieces()
