"""Decompression of layers: what each library makes of the same files, alone and beside SHA-256.

usage: python bench/decompression.py [--size 1000] [--piece 512] [--rounds 3] [DIRECTORY]

The first run makes the inputs in DIRECTORY (build/decompression): a tar of every n-th file of /usr,
about ``--size`` MB, compressed by gzip -6, pigz -6, zstd -3 and, its first 100 MB, zstd -19
(Debian: gzip, pigz, zstd). Readers whose library is missing are left out:

    pip install isal zlib-ng rapidgzip zstandard backports.zstd

Each run is a process of its own, and each figure the best of ``--rounds``: GB of contents for a
second of processor time, for a second alone, and for a second while another thread hashes with
SHA-256; that thread's speed in percent of what it is beside an idle one (well below 100 % on a
quiet machine with two cores would mean that the GIL is held); MiB of memory beyond the imports.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inputs import tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

_INPUT = _PIECE = 128 << 10
_MB = 10**6
_CHILDREN: list[subprocess.Popen[bytes]] = []


def _in_pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_INPUT):
        yield piece


def _zlib_like(module: Any) -> Callable[[BinaryIO, int], Iterator[Any]]:
    """decompressobj(): one member at a time, the tail comes back as bytes."""

    def read(file: BinaryIO, size: int) -> Iterator[Any]:
        decoder = module.decompressobj(wbits=31)
        for piece in _in_pieces(file):
            while piece:
                yield decoder.decompress(piece, size)
                piece = decoder.unconsumed_tail
                if decoder.eof:
                    piece = decoder.unused_data
                    decoder = module.decompressobj(wbits=31)

    return read


def _lzma_like(new: Callable[[], Any]) -> Callable[[BinaryIO, int], Iterator[Any]]:
    """The interface of bz2 and lzma: keeps what it has not used."""

    def read(file: BinaryIO, size: int) -> Iterator[Any]:
        decoder = new()
        for piece in _in_pieces(file):
            while piece or not decoder.needs_input:
                yield decoder.decompress(piece, size)
                piece = b""
                if decoder.eof:
                    piece = decoder.unused_data
                    decoder = new()

    return read


def _file_like(wrap: Callable[[BinaryIO], Any]) -> Callable[[BinaryIO, int], Iterator[Any]]:
    """A reader that fills our memory: each piece is new, as it has to be for another thread."""

    def read(file: BinaryIO, size: int) -> Iterator[Any]:
        reader = wrap(file)
        while True:
            piece = memoryview(bytearray(size))
            got = reader.readinto(piece)
            if not got:
                return
            yield piece[:got]

    return read


def _program(*words: str) -> Callable[[BinaryIO, int], Iterator[Any]]:
    def wrap(file: BinaryIO) -> Any:
        child = subprocess.Popen(words, stdin=file, stdout=subprocess.PIPE)
        _CHILDREN.append(child)
        assert child.stdout
        return child.stdout

    return _file_like(wrap)


def _ours() -> Callable[[BinaryIO, int], Iterator[Any]]:
    from dmsign_fast.erofs.compression import compression_of, decompress

    def read(file: BinaryIO, size: int) -> Iterator[Any]:
        found = compression_of(file.read(8))
        file.seek(0)
        return decompress(_in_pieces(file), found, limit=1 << 40, piece_size=size)

    return read


def _reader(name: str) -> Callable[[BinaryIO, int], Iterator[Any]]:
    library, _, how = name.partition(" ")
    match library, how:
        case "zlib", _:
            import zlib

            return _zlib_like(zlib)
        case "isal", "zlib":
            from isal import isal_zlib

            return _zlib_like(isal_zlib)
        case "isal", "IgzipDecompressor":
            from isal import igzip_lib

            return _lzma_like(lambda: igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP))
        case "isal", "_GzipReader":
            from isal import isal_zlib

            return _file_like(lambda file: isal_zlib._GzipReader(file, _INPUT))
        case "zlib_ng", "zlib":
            from zlib_ng import zlib_ng

            return _zlib_like(zlib_ng)
        case "rapidgzip", threads:
            import rapidgzip

            return _file_like(lambda file: rapidgzip.open(file, parallelization=int(threads)))
        case "zstandard", "stream_reader":
            import zstandard

            return _file_like(
                lambda file: zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
                    file, read_size=_INPUT, read_across_frames=True
                )
            )
        case "backports", "ZstdDecompressor":
            from backports import zstd

            return _lzma_like(zstd.ZstdDecompressor)
        case "backports", "ZstdFile":
            from backports import zstd

            return _file_like(zstd.ZstdFile)
        case "dmsign_fast", _:
            return _ours()
        case "program", words:
            return _program(*words.split())
    raise AssertionError(name)


_GZIP = (
    "dmsign_fast",
    "zlib",
    "isal zlib",
    "isal IgzipDecompressor",
    "isal _GzipReader",
    "zlib_ng zlib",
    "rapidgzip 1",
    "rapidgzip 2",
    "program gzip -dc",
    "program pigz -dc",
)
_ZSTD = (
    "dmsign_fast",
    "zstandard stream_reader",
    "backports ZstdDecompressor",
    "backports ZstdFile",
    "program zstd -dc",
)


class _Hashing(threading.Thread):
    """SHA-256 of a piece that is in the cache, over and over."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.size = 0
        self.stop = False
        self.start()

    def run(self) -> None:
        piece, digest = bytes(_PIECE), hashlib.sha256()
        while not self.stop:
            digest.update(piece)
            self.size += len(piece)


def _cpu_seconds() -> float:
    """Of all threads; and of child processes, once they have been waited for."""
    while any(child.poll() is None for child in _CHILDREN):
        time.sleep(0.01)
    times = os.times()
    return sum(times[:4])


def _status(name: str) -> int:
    """KiB of memory: VmRSS is what is resident now, VmHWM the most since the program began."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise KeyError(name)


def _one(name: str, path: Path, size: int, beside: bool) -> dict[str, float]:
    """What the child process measures."""
    read = _reader(name)
    speed = 0.0
    if beside:
        hashing, began = _Hashing(), time.perf_counter()
        time.sleep(1)
        speed = hashing.size / (time.perf_counter() - began)
        hashing.size = 0
    total = 0
    with path.open("rb", buffering=0) as file:
        memory = _status("VmRSS")
        began, used = time.perf_counter(), _cpu_seconds()
        for piece in read(file, size):
            total += len(piece)
        seconds, used = time.perf_counter() - began, _cpu_seconds() - used
    return {
        "gbps": total / seconds / 1e9,
        "cpu": total / used / 1e9,
        "hashing": hashing.size / seconds / speed if beside else 0.0,
        "mib": (_status("VmHWM") - memory) / 1024,
    }


def _measure(name: str, path: Path, size: int, rounds: int) -> str:
    """A row of the table."""
    runs: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for beside in (False, True) * rounds:
        words = [sys.executable, __file__, "--one", name, "--piece", str(size >> 10), str(path)]
        done = subprocess.run(
            words + ["--beside"] * beside, stdout=subprocess.PIPE, check=False, text=True
        )
        if done.returncode:
            return f"| {path.name} | {name} | failed | | | | |"
        runs[beside].append(json.loads(done.stdout))

    def best(value: str, beside: bool = False) -> float:
        return max(run[value] for run in runs[beside])

    return (
        f"| {path.name} | {name} | {best('cpu'):.2f} | {best('gbps'):.2f} "
        f"| {best('gbps', True):.2f} | {best('hashing', True):.0%} | {best('mib'):.1f} |"
    )


def _layer(path: Path, size: int) -> None:
    files = sorted(
        file for file in Path("/usr").rglob("*") if file.is_file() and not file.is_symlink()
    )
    stride = max(1, sum(file.stat().st_size for file in files) // size)
    with tarfile.open(path, "w") as tar:
        for file in files[::stride]:
            if tar.offset < size and file.stat().st_size < size // 5:
                tar.add(file)


def _inputs(directory: Path, size: int) -> Iterator[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    layer = directory / "layer.tar"
    if not layer.exists():
        _layer(layer, size)
    for name, head, *command in (
        ("layer.tar.gz", size * 2, tool("gzip", "gzip"), "-6nc"),
        ("layer.pigz.gz", size * 2, tool("pigz", "pigz"), "-6nc"),
        ("layer.3.zst", size * 2, tool("zstd", "zstd"), "-q3c"),
        ("layer.19.zst", 100 * _MB, tool("zstd", "zstd"), "-q19c", "-T0"),
    ):
        path = directory / name
        if not path.exists():
            with layer.open("rb") as data, path.open("wb") as out:
                subprocess.run(command, input=data.read(head), stdout=out, check=True)
        yield path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("path", type=Path, nargs="?", default=Path("build/decompression"))
    add("--size", type=int, default=1000, help="MB of the tar (1000)")
    add("--piece", type=int, default=512, help="KiB asked for at once (512)")
    add("--rounds", type=int, default=3)
    add("--only", default="", help="readers whose name has this in it")
    add("--one", help=argparse.SUPPRESS)
    add("--beside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(_one(args.one, args.path, args.piece << 10, args.beside)))
        return
    print("| input | reader | GB per CPU second | GB/s | beside SHA-256 | SHA-256 | MiB |")
    print("|---|---|---|---|---|---|---|")
    for path in _inputs(args.path, args.size * _MB):
        for name in _ZSTD if path.suffix == ".zst" else _GZIP:
            if args.only in name and _is_here(name):
                print(_measure(name, path, args.piece << 10, args.rounds), flush=True)


def _is_here(name: str) -> bool:
    library, _, program = name.partition(" ")
    if library == "program":
        return bool(tool(program.split()[0], program.split()[0]))
    return bool(importlib.util.find_spec(library))


if __name__ == "__main__":
    main()
