"""Error correction: ``format --fec-device`` of both programs in turn, and a repair."""

from __future__ import annotations

import filecmp
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare import dmsign_fast
from inputs import MIB, tool
from measure import Pairs, Run, in_turn, run, seconds

from dmsign_fast.benchmark.programs import format_words, root_hash, verify_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# By roots and threads: how many times as fast as veritysetup it must be.
FLOORS = {(2, 2): 30.0, (24, 2): 15.0}
ROOTS = (2, 8, 24)
# veritysetup takes ten seconds to two minutes for a GiB
LARGEST = 512 * MIB


@dataclass(frozen=True)
class FecRow:
    """Tree and parity by ours against veritysetup's."""

    size: int
    roots: int
    implementation: str
    threads: int
    pairs: Pairs

    @property
    def floor(self) -> float | None:
        return FLOORS.get((self.roots, self.threads))

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
        names = ("size", "roots", "implementation", "threads", "floor")
        return {name: getattr(self, name) for name in names} | self.pairs.json


class _Files:
    """Where both programs write, and that they write the same."""

    def __init__(self, data: Path, roots: int, directory: Path) -> None:
        self.data = data
        self.theirs = directory / "hashes", directory / "fec"
        self.ours = directory / "our-hashes", directory / "our-fec"
        self._roots = str(roots)

    def words(self, places: tuple[Path, Path]) -> list[str]:
        for path in places:
            path.unlink(missing_ok=True)
        hashes, fec = places
        words = format_words(self.data, hashes)
        return [*words, "--fec-device", str(fec), "--fec-roots", self._roots]

    def check(self) -> None:
        for theirs, ours in zip(self.theirs, self.ours, strict=True):
            if not filecmp.cmp(theirs, ours, shallow=False):
                message = f"{ours.name} is not veritysetup's"
                raise ValueError(message)

    def remove(self) -> None:
        for path in (*self.theirs, *self.ours):
            path.unlink(missing_ok=True)


def compare_fec(
    data: Path, implementations: Sequence[str], threads: Sequence[int], rounds: int, directory: Path
) -> Iterator[FecRow]:
    """Rows of one file."""
    veritysetup, ours = tool("veritysetup", "cryptsetup-bin"), dmsign_fast()
    for roots in ROOTS:
        files = _Files(data, roots, directory)

        def their_format(files: _Files = files) -> Run:
            return run([veritysetup, *files.words(files.theirs)])

        def our_format(implementation: str, count: int, files: _Files = files) -> Run:
            command = [ours, "verity", *files.words(files.ours), "--threads", str(count)]
            done = run(command, environment={"DMSIGN_FEC_IMPL": implementation})
            files.check()
            return done

        for implementation in implementations:
            for count in threads:
                pairs = in_turn(their_format, partial(our_format, implementation, count), rounds)
                yield FecRow(data.stat().st_size, roots, implementation, count, pairs)
        files.remove()


def repair(directory: Path) -> Run:
    """1 MiB in a row of 1 GiB destroyed, 2 roots: the repair in place."""
    data, hashes, fec = (directory / name for name in ("damaged", "hashes", "fec"))
    with data.open("wb") as file:
        for _ in range(1024):
            file.write(os.urandom(MIB))
    verity = [dmsign_fast(), "verity"]
    made = run([*verity, *format_words(data, hashes), "--fec-device", fec])
    with data.open("r+b") as file:
        file.seek(300 * MIB + 4096 * 7)
        file.write(os.urandom(MIB))
    root = root_hash(made.output)
    done = run([*verity, "repair", data, hashes, root, "--fec-device", fec, "--in-place"])
    run([*verity, *verify_words(data, hashes, root)])
    for path in (data, hashes, fec):
        path.unlink()
    return done
