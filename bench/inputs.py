"""What is measured: random data, a real EROFS image, a sparse file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from dmsign_fast.benchmark.programs import find_program
from dmsign_fast.benchmark.speeds import random_file

__all__ = ["MIB", "cache", "erofs_image", "files", "random_file", "repeated", "sparse_file", "tool"]

MIB = 1 << 20
_CLUSTER = 16 * MIB


def tool(name: str, package: str) -> str:
    """The path of a program; SystemExit says how to get it."""
    path = find_program(name)
    if not path:
        message = f"{name} is missing: apt-get install {package}"
        raise SystemExit(message)
    return path


def repeated(path: Path, times: int, source: Path) -> Path:
    """``source`` so many times, without holes."""
    with path.open("wb") as file:
        for _ in range(times):
            with source.open("rb") as piece:
                shutil.copyfileobj(piece, file, MIB)
    return path


def sparse_file(path: Path, size: int, source: Path) -> Path:
    """The bytes of ``source`` in pieces of 16 MiB, spread evenly over a file of ``size`` bytes."""
    clusters = -(-source.stat().st_size // _CLUSTER)
    with path.open("wb") as file, source.open("rb") as data:
        for cluster in range(clusters):
            file.seek(cluster * (size // clusters // _CLUSTER * _CLUSTER))
            file.write(data.read(_CLUSTER))
        file.truncate(size)
    return path


def erofs_image(path: Path, size: int) -> Path:
    """An EROFS image of files of this machine's /usr, in the order of their names, until enough."""
    mkfs = tool("mkfs.erofs", "erofs-utils")
    tree = path.with_suffix(".tree")
    left = size
    try:
        for source in files(Path("/usr")):
            if left <= 0:
                break
            copy = tree / source.relative_to("/usr")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            left -= source.stat().st_size
        subprocess.run([mkfs, "-d0", path, tree], check=True, stdout=subprocess.DEVNULL)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
    # dm-verity hashes whole blocks
    os.truncate(path, -(-path.stat().st_size // 4096) * 4096)
    return path


def files(top: Path) -> list[Path]:
    found = []
    for directory, _, names in os.walk(top):
        for name in names:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                found.append(path)
    return sorted(found)


def cache(path: Path) -> None:
    """Bring a file into the page cache, and what was written to the disk."""
    buffer = bytearray(MIB)
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        while file.readinto(buffer):
            pass
