"""Find the blocks that are not what was hashed, and bring them back by their parity.

The tree says which blocks are bad, from the root hash down. A bad block is an erasure: its place is
known, and a codeword with ``roots`` parity bytes gives back as many of them, twice as many as
errors at unknown places. Below a bad hash block nothing can be judged, so hash blocks are mended
first, level by level. No block is taken that has not the digest which the tree holds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dmsign_fast.errors import StorageError
from dmsign_fast.outputs import storage_errors, write_all
from dmsign_fast.verity.blocks import LevelBlocks, read_exactly
from dmsign_fast.verity.report import BadBlocks, runs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from dmsign_fast._core_fec import FecCode, FecPart
    from dmsign_fast.verity.fec import FecArea
    from dmsign_fast.verity.params import VerityParams

    Numbers = npt.NDArray[np.int64]

__all__ = ["Decoder", "Stage"]

# Read between two looks at signals and progress, as in verify.py; decoded rows are held in memory.
_SPAN = 128 << 20
_DECODED = 32 << 20
_NONE: Numbers = np.zeros(0, np.int64)


@dataclass
class Stage:
    """The data, or one level of the hash area, while it is mended.

    Attributes:
        blocks: where they stand, and are read.
        present: how many the file has.
        message: the number of the first block in the message.
        fd: the file that gets mended blocks; None: they are only counted.
        bad: numbers of blocks that are not what was hashed.
        mended: numbers of blocks that were bad.
    """

    blocks: LevelBlocks
    present: int
    message: int
    fd: int | None
    bad: Numbers = field(default_factory=lambda: _NONE)
    mended: Numbers = field(default_factory=lambda: _NONE)

    def bad_blocks(self, numbers: Numbers, reason: str) -> BadBlocks:
        """Some of the blocks, for a report."""
        size = self.blocks.hash.block_size
        return BadBlocks(self.blocks.level, reason, size, self.blocks.offset, runs_of(numbers))


@dataclass
class _Group:
    """Rounds from ``first`` on that have the same rows bad, and the same that nobody can judge."""

    first: int
    rounds: int
    known: tuple[int, ...]
    unknown: tuple[int, ...]
    wanted: list[int] = field(default_factory=list)  # the numbers of the blocks to mend

    def takes(self, number: int, known: tuple[int, ...], unknown: tuple[int, ...]) -> bool:
        """Whether the next round is such a one."""
        return self.first + self.rounds == number and (self.known, self.unknown) == (known, unknown)


class Decoder:
    """The stages of a tree, data first, and the code that covers them."""

    def __init__(
        self,
        params: VerityParams,
        layout: FecArea,
        stages: Sequence[Stage],
        root_hash: bytes,
        code: FecCode,
        parity: FecPart,
        threads: int,
    ) -> None:
        """See Stage, FecArea and FecCode; ``parity`` is where the parity of all of it stands."""
        self._params = params
        self._layout = layout
        self._stages = stages
        self._root_hash = root_hash
        self._code = code
        self._parity = parity
        self._threads = threads
        self.errors = 0  # bytes that were wrong

    def run(self, progress: Callable[[int], object]) -> None:
        """Judge every block and mend what can be; ``progress`` gets bytes of data judged."""
        top = len(self._stages) - 1
        self._stages[top].bad = self._judge(top, _NONE, progress)
        good = np.setdiff1d(np.zeros(1, np.int64), self._stages[top].bad)
        self._judge_below(top, good, progress)
        for at in range(top, -1, -1):
            self._mend(at)
            self._judge_below(at, self._stages[at].mended, progress)

    def _judge_below(self, at: int, good: Numbers, progress: Callable[[int], object]) -> None:
        """Judge what hangs below blocks of a stage, as far down as blocks are good."""
        for lower in range(at - 1, -1, -1):
            found = self._judge(lower, runs_of(good), progress)
            self._stages[lower].bad = np.union1d(self._stages[lower].bad, found)
            if lower:
                good = np.setdiff1d(self._below(good, lower), found)

    def unverifiable(self, at: int) -> Numbers:
        """Blocks of a stage that stand below a hash block which stays bad."""
        return self._below(self._not_good(at + 1), at) if at + 1 < len(self._stages) else _NONE

    def count_errors(self) -> int | None:
        """Wrong bytes as veritysetup counts them, by decoding all; None if that needs the tree."""
        unit, size = self._layout.block_size, self._layout.row_size
        step = max(unit, _SPAN // self._code.rows // unit * unit)
        counted = 0
        for first in range(0, size, step):
            columns = min(step, size - first)
            try:
                _, errors, failed = self._code.decode(
                    first, columns, self._parity, (), self._threads, erased=False
                )
            except StorageError:
                return None
            counted += errors
            if failed:
                return None
        return counted

    def _not_good(self, at: int) -> Numbers:
        """Blocks of a stage of hash blocks that are bad or cannot be judged."""
        if at >= len(self._stages):
            return _NONE
        return np.union1d(self._stages[at].bad, self._below(self._not_good(at + 1), at))

    def _below(self, parents: Numbers, at: int) -> Numbers:
        """The blocks of a stage whose digests stand in these blocks of the stage above."""
        per_block = self._params.hashes_per_block
        numbers = (parents[:, None] * per_block + np.arange(per_block)).reshape(-1)
        return numbers[numbers < self._stages[at].blocks.blocks]

    def _judge(self, at: int, parents: Numbers, progress: Callable[[int], object]) -> Numbers:
        """The bad blocks of a stage among those below runs of good blocks of the stage above."""
        stage, size = self._stages[at], self._layout.block_size
        if at == len(self._stages) - 1:
            computed = self._digests(stage, 0, stage.blocks.blocks)
            if at == 0:
                progress(size)
            return np.flatnonzero((computed != np.frombuffer(self._root_hash, np.uint8)).any(1))
        per_block = self._params.hashes_per_block
        step = max(1, _SPAN // (per_block * size))
        found = [_NONE]
        for start, count in parents.tolist():
            for block in range(start, start + count, step):
                blocks = min(step, start + count - block)
                first = block * per_block
                last = min(first + blocks * per_block, stage.blocks.blocks)
                expected = self._stored(at + 1, block, blocks)[: last - first]
                differs = (self._digests(stage, first, last - first) != expected).any(axis=1)
                found.append(first + np.flatnonzero(differs))
                if at == 0:
                    progress((last - first) * size)
        return np.concatenate(found)

    def _stored(self, at: int, first: int, blocks: int) -> npt.NDArray[np.uint8]:
        """The digests that hash blocks hold, an array of shape (digests, digest size)."""
        params, place = self._params, self._stages[at].blocks
        size = params.hash_block_size
        data = read_exactly(place.source.fd, place.offset + first * size, blocks * size)
        used = params.hashes_per_block * params.slot_size
        slots = np.frombuffer(data, np.uint8).reshape(blocks, size)[:, :used]
        return slots.reshape(-1, params.slot_size)[:, : params.digest_size]

    def _digests(self, stage: Stage, first: int, count: int) -> npt.NDArray[np.uint8]:
        """Digests as the blocks are; zeros, the digest of nothing, where they cannot be read."""
        present = max(0, min(count, stage.present - first))
        digests = self._readable(stage, first, present)
        digests += bytes((count - present) * self._params.digest_size)
        return np.frombuffer(digests, np.uint8).reshape(count, self._params.digest_size)

    def _readable(self, stage: Stage, first: int, count: int) -> bytearray:
        if not count:
            return bytearray()
        try:
            return stage.blocks.digests(first, count, self._threads)
        except StorageError:
            if count == 1:
                return bytearray(self._params.digest_size)
        half = count // 2
        return self._readable(stage, first, half) + self._readable(
            stage, first + half, count - half
        )

    def _mend(self, at: int) -> None:
        stage = self._stages[at]
        done: list[int] = []
        for group in self._groups(at):
            left = set(group.wanted)
            for rows, erased in self._attempts(group):
                done += self._decode(at, group, rows, left, erased=erased)
                if not left:
                    break
        stage.mended = np.array(sorted(done), np.int64)
        stage.bad = np.setdiff1d(stage.bad, stage.mended)

    def _attempts(self, group: _Group) -> Iterator[tuple[tuple[int, ...], bool]]:
        """What to erase, by falling hope: (rows that are wanted, whether they are erased)."""
        roots = self._layout.roots
        if group.unknown and len(group.known) + len(group.unknown) <= roots:
            yield (*group.known, *group.unknown), True
        if len(group.known) <= roots:
            yield group.known, True
        yield group.known, False

    def _groups(self, at: int) -> Iterator[_Group]:
        """The rounds that have bad blocks of a stage."""
        stage, rounds = self._stages[at], self._layout.rounds
        messages = np.concatenate([other.bad + other.message for other in self._stages])
        order = np.lexsort((messages // rounds, messages % rounds))
        where, rows = (messages % rounds)[order], (messages // rounds)[order]
        concerned = np.unique((stage.bad + stage.message) % rounds)
        starts = np.searchsorted(where, concerned, "left").tolist()
        ends = np.searchsorted(where, concerned, "right").tolist()
        lost = [
            (lower, parents)
            for above, lower in enumerate(self._stages[:-1], 1)
            if len(parents := self._not_good(above))
        ]
        group = None
        for number, start, end in zip(concerned.tolist(), starts, ends, strict=True):
            known = tuple(rows[start:end].tolist())
            unknown = self._unknown_rows(number, lost) if lost else ()
            most = _DECODED // (self._layout.block_size * (len(known) + len(unknown)))
            if group and group.takes(number, known, unknown) and group.rounds < most:
                group.rounds += 1
            else:
                if group:
                    yield group
                group = _Group(number, 1, known, unknown)
            for row in known:
                block = row * rounds + number - stage.message
                if 0 <= block < stage.blocks.blocks:
                    group.wanted.append(block)
        if group:
            yield group

    def _unknown_rows(self, number: int, lost: Sequence[tuple[Stage, Numbers]]) -> tuple[int, ...]:
        """The rows of a round whose blocks stand below the hash blocks of ``lost``."""
        found: list[int] = []
        messages = number + np.arange(self._code.rows, dtype=np.int64) * self._layout.rounds
        for stage, parents in lost:
            blocks = messages - stage.message
            below = (blocks >= 0) & (blocks < stage.blocks.blocks)
            below &= np.isin(blocks // self._params.hashes_per_block, parents)
            found += np.flatnonzero(below & ~np.isin(blocks, stage.bad)).tolist()
        return tuple(sorted(found))

    def _decode(
        self, at: int, group: _Group, rows: tuple[int, ...], left: set[int], *, erased: bool
    ) -> list[int]:
        """Decode, and write the blocks of ``left`` that have the right digest: which they are."""
        stage, size, rounds = self._stages[at], self._layout.block_size, group.rounds
        try:
            out, errors, _ = self._code.decode(
                group.first * size, rounds * size, self._parity, rows, self._threads, erased=erased
            )
        except StorageError:  # in a block that is not erased
            return []
        digests = np.frombuffer(stage.blocks.hash.hash_blocks(out, self._threads), np.uint8)
        digests = digests.reshape(len(rows), rounds, -1)
        view = memoryview(out)
        done = []
        for k, row in enumerate(rows):
            for n in range(rounds):
                number = row * self._layout.rounds + group.first + n - stage.message
                if number not in left or digests[k, n].tobytes() != self._expected(at, number):
                    continue
                begin = (k * rounds + n) * size
                self._write(stage, number, view[begin : begin + size])
                done.append(number)
        left.difference_update(done)
        if erased and done:
            self.errors += errors
        return done

    def _expected(self, at: int, number: int) -> bytes:
        if at == len(self._stages) - 1:
            return self._root_hash
        params, above = self._params, self._stages[at + 1].blocks
        block, slot = divmod(number, params.hashes_per_block)
        where = above.offset + block * params.hash_block_size + slot * params.slot_size
        return read_exactly(above.source.fd, where, params.digest_size)

    def _write(self, stage: Stage, number: int, block: memoryview) -> None:
        where = stage.blocks.offset + number * len(block)
        try:
            old = os.pread(stage.blocks.source.fd, len(block), where)
        except OSError:
            old = b""
        is_, was = np.frombuffer(block, np.uint8), np.frombuffer(old, np.uint8)
        self.errors += int((is_[: len(was)] != was).sum()) + len(is_) - len(was)
        if stage.fd is not None:
            with storage_errors("write", stage.blocks.source.path):
                write_all(stage.fd, block, where)
