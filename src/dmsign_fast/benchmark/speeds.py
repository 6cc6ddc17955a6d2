"""Speeds of the parts: each is repeated for a while, and the best repetition counts."""

from __future__ import annotations

import contextlib
import gzip
import mmap
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast import _core
from dmsign_fast._core_fec import FEC, FecCode, FecPart
from dmsign_fast.benchmark.programs import against_veritysetup
from dmsign_fast.erofs.compression import Compression, decompress
from dmsign_fast.outputs import storage_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "Speed",
    "best_seconds",
    "block_hash",
    "measure",
    "random_file",
    "random_piece",
    "sha256_from_file",
    "sha256_from_memory",
]

BLOCK_SIZES = (4096, 512)
ROOTS = (2, 24)
_MIB = 1 << 20
_SALT = b"\xaa" * 32
_PIECE = 256 << 10  # stays in the L2 cache


@dataclass(frozen=True)
class Speed:
    """One row of the table.

    Attributes:
        what: sha256, fec, decompress or command.
        name: of the implementation, compression or command.
        source: where the bytes are: memory, or a file in the page cache.
        size: of a block in bytes; of fec, roots; 0 for none.
        threads: that were used.
        speed: bytes of data in a second.
        ratio: of a command, how many times as fast as veritysetup's; None without it.
    """

    what: str
    name: str
    source: str
    size: int
    threads: int
    speed: float
    ratio: float | None = None

    @property
    def json(self) -> dict[str, Any]:
        """For ``--output json``; ``speed`` in bytes in a second."""
        return asdict(self)


def best_seconds(call: Callable[[], object], seconds: float) -> float:
    """The least time that a call took, of those that fill ``seconds``, and at least two."""
    best, end, calls = float("inf"), time.perf_counter() + seconds, 0
    while calls < 2 or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
        calls += 1
    return best


def random_file(path: Path, size: int) -> Path:
    """Write a file that cannot be compressed and has no zero blocks; StorageError."""
    with storage_errors("write", path), path.open("wb") as file:
        for at in range(0, size, _MIB):
            file.write(os.urandom(min(_MIB, size - at)))
    return path


def random_piece() -> memoryview:
    """A piece as the core reads it: from the beginning of a page."""
    piece = memoryview(mmap.mmap(-1, _PIECE))
    piece[:] = os.urandom(_PIECE)
    return piece


def sha256_from_memory(implementation: str, block_size: int, seconds: float) -> Speed:
    """One thread, salted digests of blocks that are in the L2 cache."""
    hashing = block_hash(implementation, block_size)
    data = random_piece()
    took = best_seconds(lambda: hashing.hash_blocks(data), seconds)
    return Speed("sha256", implementation, "memory", block_size, 1, len(data) / took)


def sha256_from_file(
    implementation: str, block_size: int, threads: int, path: Path, seconds: float
) -> Speed:
    """The same of a file, by several threads; its size is a multiple of the block size."""
    hashing = block_hash(implementation, block_size)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        count = size // block_size
        took = best_seconds(lambda: hashing.hash_file(file.fileno(), 0, count, threads), seconds)
    return Speed("sha256", implementation, "file", block_size, threads, size / took)


def block_hash(implementation: str, block_size: int) -> _core.BlockHash:
    """With a salt, by one of the implementations."""
    with _core.SHA256.using(implementation):
        return _core.BlockHash(1, _SALT, block_size)


def _fec(implementation: str, roots: int, threads: int, path: Path, seconds: float) -> Speed:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        rows = 255 - roots
        row = -(-size // (rows * 4096)) * 4096
        with FEC.using(implementation):
            code = FecCode(roots, row, [FecPart(file.fileno(), path, 0, 0, size)])
        took = best_seconds(lambda: code.encode(0, row, bytearray(row * roots), threads), seconds)
    return Speed("fec", implementation, "file", roots, threads, size / took)


def _layer(size: int) -> bytes:
    """Bytes that compress to about a third, as layers do; a multiple of 16."""
    words = [os.urandom(8).hex().encode() for _ in range(4096)]
    picks = os.urandom(size // 8)
    return b"".join(
        words[int.from_bytes(picks[at : at + 2], "little") % 4096] for at in range(0, len(picks), 2)
    )


def _decompression(size: int, seconds: float) -> Iterator[Speed]:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    layer = _layer(size)
    for compression, compressed in (
        (Compression.GZIP, gzip.compress(layer, 6)),
        (Compression.ZSTD, zstd.compress(layer, 3)),
    ):

        def drain(data: bytes = compressed, compression: Compression = compression) -> None:
            for _ in decompress([data], compression, limit=len(layer)):
                pass

        took = best_seconds(drain, seconds)
        yield Speed("decompress", compression.value, "memory", 0, 1, len(layer) / took)


def _thread_counts() -> list[int]:
    every = _core.thread_count(None)
    return sorted({1 << bit for bit in range(every.bit_length())} | {every})


def measure(*, quick: bool, directory: Path) -> Iterator[Speed]:
    """Measure everything, row by row.

    Args:
        quick: shorter and with a smaller file, for less than ten seconds in all on a machine
            that has nothing else to do.
        directory: where the file of random data is for the time; it is best on a tmpfs.

    Raises:
        StorageError: the file cannot be written.
        VerificationError: veritysetup makes another root hash.
    """
    seconds, size = (0.04, 64 * _MIB) if quick else (0.5, 1024 * _MIB)
    usable, threads = _core.SHA256.usable, _thread_counts()
    with contextlib.ExitStack() as stack:
        with storage_errors("write", directory):
            scratch = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="dmsign-benchmark.", dir=directory)
            )
        path = random_file(Path(scratch) / "data", size)
        for name in usable:
            for block_size in BLOCK_SIZES:
                yield sha256_from_memory(name, block_size, seconds)
        for name in usable[:1] if quick else usable:
            for block_size in BLOCK_SIZES:
                for count in threads:
                    yield sha256_from_file(name, block_size, count, path, seconds)
        for name in FEC.usable[:1] if quick else FEC.usable:
            for roots in ROOTS:
                for count in threads:
                    yield _fec(name, roots, count, path, seconds)
        yield from _decompression((4 if quick else 16) * _MIB, seconds)
        for command, count, speed, ratio in against_veritysetup(path, threads, 1 if quick else 3):
            yield Speed("command", command, "file", 4096, count, speed, ratio)
