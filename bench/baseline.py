"""What bounds everybody: reading the page cache, and OpenSSL's SHA-256 of one stream."""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inputs import MIB, tool
from measure import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Baseline:
    """One way to go through the whole file, by one thread."""

    name: str
    size: int
    seconds: list[float]

    @property
    def speed(self) -> float:
        """GB/s, by the median."""
        return self.size / statistics.median(self.seconds) / 1e9

    @property
    def json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "size": self.size,
            "seconds": [round(seconds, 4) for seconds in self.seconds],
        }


def _each_piece(path: Path, use: Callable[[memoryview], object]) -> float:
    buffer = memoryview(bytearray(MIB))
    fd = os.open(path, os.O_RDONLY)
    began = time.perf_counter()
    at = 0
    while got := os.preadv(fd, [buffer], at):
        use(buffer[:got])
        at += got
    seconds = time.perf_counter() - began
    os.close(fd)
    return seconds


def baselines(path: Path, rounds: int) -> list[Baseline]:
    """All of them, in turn."""
    openssl = tool("openssl", "openssl")
    ways: dict[str, Callable[[], float]] = {
        "plain read (pread of 1 MiB)": lambda: _each_piece(path, len),
        "OpenSSL SHA-256 (EVP, by hashlib)": lambda: _each_piece(path, hashlib.sha256().update),
        "openssl dgst -sha256 (process)": lambda: run([openssl, "dgst", "-sha256", path]).seconds,
    }
    size = path.stat().st_size
    found = [Baseline(name, size, []) for name in ways]
    for _ in range(rounds):
        for way, baseline in zip(ways.values(), found, strict=True):
            baseline.seconds.append(way())
    return found
