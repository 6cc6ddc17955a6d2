"""Micro benchmarks: ``pytest bench/``. Incumbents stand in the group of what they compete with.

Sizes: DMSIGN_BENCH_MIB, 64 by default. All data is in the page cache.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from compare import thread_counts
from inputs import MIB, random_file, tool

from dmsign_fast import _core
from dmsign_fast.verity.format import format_file
from dmsign_fast.verity.params import VerityParams
from dmsign_fast.verity.verify import verify_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Measure = Callable[..., Any]

_SIZE = int(os.environ.get("DMSIGN_BENCH_MIB", "64")) * MIB
_SALT = bytes(range(32))
_BLOCKS = pytest.mark.parametrize("block_size", [4096, 512])
_IMPLS = pytest.mark.parametrize(
    "implementation",
    _core.SHA256.usable,
    indirect=True,
)
_THREADS = pytest.mark.parametrize("threads", thread_counts(len(os.sched_getaffinity(0))))


@pytest.fixture(scope="session")
def data_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = random_file(tmp_path_factory.mktemp("bench") / "random", _SIZE)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def data(data_path: Path) -> bytes:
    return data_path.read_bytes()


@pytest.fixture
def hash_path(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    path = (memory if memory.is_dir() else tmp_path) / f"dmsign-bench.{os.getpid()}"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def implementation(request: Any) -> Iterator[str]:
    with _core.SHA256.using(request.param):
        yield request.param


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """Run a call in a group; its bytes per second stand among the extra information."""

    def call(group: str, function: Callable[..., Any], *args: Any) -> Any:
        benchmark.group = f"{group}, {_SIZE // MIB} MiB"
        found = benchmark.pedantic(function, args, rounds=7, warmup_rounds=1)
        if benchmark.stats:  # None with --benchmark-disable
            benchmark.extra_info["GB/s"] = round(_SIZE / benchmark.stats["median"] / 1e9, 2)
        return found

    return call


def _options(block_size: int) -> list[str]:
    size = str(block_size)
    options = ["--data-block-size", size, "--hash-block-size", size]
    return [tool("veritysetup", "cryptsetup-bin"), *options, "--salt", _SALT.hex()]


def _quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@_BLOCKS
@_IMPLS
@_THREADS
def test_hash_blocks(
    measure: Measure, data: bytes, block_size: int, implementation: str, threads: int
) -> None:
    block_hash = _core.BlockHash(1, _SALT, block_size)
    digests = measure(f"hash blocks of {block_size}", block_hash.hash_blocks, data, threads)
    assert digests[:32] == hashlib.sha256(_SALT + data[:block_size]).digest()


@_BLOCKS
def test_hash_blocks_by_openssl(measure: Measure, data: bytes, block_size: int) -> None:
    salted = hashlib.sha256(_SALT)
    view = memoryview(data)

    def hash_blocks() -> None:
        for at in range(0, len(view), block_size):
            block = salted.copy()
            block.update(view[at : at + block_size])
            block.digest()

    measure(f"hash blocks of {block_size}", hash_blocks)


@_BLOCKS
def test_one_stream_by_openssl(measure: Measure, data: bytes, block_size: int) -> None:
    measure(f"hash blocks of {block_size}", lambda: hashlib.sha256(data).digest())


@_BLOCKS
@_IMPLS
@_THREADS
def test_hash_file(
    measure: Measure,
    data: bytes,
    data_path: Path,
    block_size: int,
    implementation: str,
    threads: int,
) -> None:
    block_hash = _core.BlockHash(1, _SALT, block_size)
    with data_path.open("rb") as file:
        group, count = f"hash a file, blocks of {block_size}", _SIZE // block_size
        digests = measure(group, block_hash.hash_file, file.fileno(), 0, count, threads)
    assert digests[:32] == hashlib.sha256(_SALT + data[:block_size]).digest()


@_BLOCKS
@pytest.mark.parametrize("use", ["read", "openssl"])
def test_pass_over_file(measure: Measure, data_path: Path, block_size: int, use: str) -> None:
    buffer = memoryview(bytearray(MIB))

    def read() -> None:
        update = hashlib.sha256().update if use == "openssl" else len
        with data_path.open("rb", buffering=0) as file:
            while got := file.readinto(buffer):
                update(buffer[:got])

    measure(f"hash a file, blocks of {block_size}", read)


@_BLOCKS
@_IMPLS
@_THREADS
def test_tree_update(
    measure: Measure, data: bytes, block_size: int, implementation: str, threads: int
) -> None:
    def root() -> bytes:
        tree = _core.Tree(1, _SALT, block_size, block_size)
        tree.update(data, threads)
        return tree.final(threads)

    assert len(measure(f"tree of {block_size}", root)) == 32


@_BLOCKS
def test_tree_by_openssl(measure: Measure, data: bytes, block_size: int) -> None:
    measure(f"tree of {block_size}", lambda: hashlib.sha256(data).digest())


@_BLOCKS
@_IMPLS
@_THREADS
def test_format(
    measure: Measure,
    data_path: Path,
    hash_path: Path,
    block_size: int,
    implementation: str,
    threads: int,
) -> None:
    params = VerityParams(data_block_size=block_size, hash_block_size=block_size, salt=_SALT)

    def make() -> None:
        hash_path.unlink(missing_ok=True)
        format_file(data_path, hash_path, params, threads=threads)

    measure(f"format {block_size}", make)


@_BLOCKS
def test_format_by_veritysetup(
    measure: Measure, data_path: Path, hash_path: Path, block_size: int
) -> None:
    veritysetup, *options = _options(block_size)

    def make() -> None:
        hash_path.unlink(missing_ok=True)
        _quietly([veritysetup, "format", *options, str(data_path), str(hash_path)])

    measure(f"format {block_size}", make)


@_BLOCKS
@_IMPLS
@_THREADS
def test_verify(
    measure: Measure,
    data_path: Path,
    hash_path: Path,
    block_size: int,
    implementation: str,
    threads: int,
) -> None:
    params = VerityParams(data_block_size=block_size, hash_block_size=block_size, salt=_SALT)
    root = format_file(data_path, hash_path, params).root_hash
    verified = measure(
        f"verify {block_size}",
        lambda: verify_file(data_path, hash_path, root, threads=threads),
    )
    assert verified.computed == root


@_BLOCKS
def test_verify_by_veritysetup(
    measure: Measure, data_path: Path, hash_path: Path, block_size: int
) -> None:
    params = VerityParams(data_block_size=block_size, hash_block_size=block_size, salt=_SALT)
    root = format_file(data_path, hash_path, params).root_hash
    command = [_options(block_size)[0], "verify", str(data_path), str(hash_path), root.hex()]
    measure(f"verify {block_size}", _quietly, command)
