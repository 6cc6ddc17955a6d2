"""``dmsign-fast verity`` and ``veritysetup`` as processes, in turn, on the same file."""

from __future__ import annotations

import filecmp
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inputs import tool
from measure import Limit, Pairs, Run, cpu, in_turn, run, seconds

from dmsign_fast.benchmark.programs import format_words, root_hash, verify_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# By implementation, block size and threads: floors for the ratio of format and of verify.
FLOORS = {
    ("avx512", 4096, 1): {"format": 4.2, "verify": 4.0},
    ("avx512", 4096, 2): {"format": 7.5, "verify": 7.0},
    ("avx512", 512, 1): {"format": 6.0, "verify": 5.5},
    ("avx512", 512, 2): {"format": 10.5, "verify": 9.0},
    ("shani", 4096, 1): {"format": 1.5, "verify": 1.5},
    ("shani", 4096, 2): {"format": 3.0, "verify": 3.0},
    ("shani", 512, 1): {"format": 1.5, "verify": 1.5},
    ("shani", 512, 2): {"format": 3.0, "verify": 3.0},
}
# Of large files, where the start of Python is nothing.
LARGE = 16 << 30
LARGE_FLOORS = FLOORS | {("avx512", 4096, 2): {"format": 8.5, "verify": 7.0}}


@dataclass(frozen=True)
class Row:
    """One command of ours against veritysetup's."""

    data: str
    size: int
    command: str
    block_size: int
    implementation: str
    threads: int
    pairs: Pairs

    @property
    def floor(self) -> float | None:
        floors = LARGE_FLOORS if self.size >= LARGE else FLOORS
        return floors.get((self.implementation, self.block_size, self.threads), {}).get(
            self.command
        )

    @property
    def ours(self) -> float:
        """GB/s."""
        return self.size / seconds(self.pairs.ours) / 1e9

    @property
    def theirs(self) -> float:
        """GB/s."""
        return self.size / seconds(self.pairs.theirs) / 1e9

    @property
    def json(self) -> dict[str, Any]:
        names = ("data", "size", "command", "block_size", "implementation", "threads", "floor")
        return {name: getattr(self, name) for name in names} | self.pairs.json


def verify_costs(rows: Sequence[Row]) -> Iterator[Limit]:
    """The processor time of each verify against that of the format it belongs to."""
    formats = {
        (row.data, row.block_size, row.implementation, row.threads): cpu(row.pairs.ours)
        for row in rows
        if row.command == "format"
    }
    for row in rows:
        if row.command == "verify":
            what = (row.data, row.block_size, row.implementation, row.threads)
            name = f"verify, {row.data}, {row.block_size}, {row.implementation} x{row.threads}"
            ratio = cpu(row.pairs.ours) / formats[what]
            yield Limit(name, ratio, "times the processor time of format", 1.03)


def dmsign_fast() -> str:
    """Our program: of the environment that this Python belongs to, or else of PATH."""
    beside = Path(sys.executable).with_name("dmsign-fast")
    found = str(beside) if beside.exists() else shutil.which("dmsign-fast")
    if not found:
        message = "dmsign-fast is not installed: pip install -e '.[bench]'"
        raise SystemExit(message)
    return found


def thread_counts(cores: int) -> list[int]:
    """One, two, and all."""
    return sorted({1, min(2, cores), cores})


class Commands:
    """The two programs on one file with one block size; a timed run does the same work in both."""

    def __init__(self, data: Path, block_size: int, hash_directory: Path) -> None:
        self._veritysetup = tool("veritysetup", "cryptsetup-bin")
        self._dmsign_fast = dmsign_fast()
        self._hashes = hash_directory / "hashes"
        self._new = hash_directory / "new"
        made = run([self._veritysetup, *format_words(data, self._hashes, block_size)])
        self._root = root_hash(made.output)
        self._format = format_words(data, self._new, block_size)
        self._verify = verify_words(data, self._hashes, self._root)

    def check(self, implementation: str) -> None:
        """Both make the same file; else a ratio would mean nothing."""
        self.our_format(implementation, 2)
        if not filecmp.cmp(self._hashes, self._new, shallow=False):
            message = f"{implementation}: the hash file is not veritysetup's"
            raise ValueError(message)

    def their_format(self) -> Run:
        self._new.unlink(missing_ok=True)
        return run([self._veritysetup, *self._format])

    def their_verify(self) -> Run:
        return run([self._veritysetup, *self._verify])

    def our_format(self, implementation: str, threads: int) -> Run:
        self._new.unlink(missing_ok=True)
        return self._ours(self._format, implementation, threads)

    def our_verify(self, implementation: str, threads: int) -> Run:
        return self._ours(self._verify, implementation, threads)

    def _ours(self, words: Sequence[str], implementation: str, threads: int) -> Run:
        command = [self._dmsign_fast, "verity", *words, "--threads", str(threads)]
        done = run(command, environment={"DMSIGN_IMPL": implementation})
        if root_hash(done.output) != self._root:
            message = f"{implementation}: another root hash than veritysetup's"
            raise ValueError(message)
        return done

    def remove(self) -> None:
        self._hashes.unlink(missing_ok=True)
        self._new.unlink(missing_ok=True)


def compare(
    name: str,
    data: Path,
    block_size: int,
    implementations: Sequence[str],
    threads: Sequence[int],
    rounds: int,
    hash_directory: Path,
) -> Iterator[Row]:
    """Rows of one file and one block size."""
    commands = Commands(data, block_size, hash_directory)
    theirs = {"format": commands.their_format, "verify": commands.their_verify}
    ours = {"format": commands.our_format, "verify": commands.our_verify}
    for implementation in implementations:
        commands.check(implementation)
    for command, their_run in theirs.items():
        for implementation in implementations:
            for count in threads:
                our_run = partial(ours[command], implementation, count)
                pairs = in_turn(their_run, our_run, rounds)
                size = data.stat().st_size
                yield Row(name, size, command, block_size, implementation, count, pairs)
    commands.remove()
