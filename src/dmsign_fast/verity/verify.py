"""Compare data and hash area with a root hash, and name every block that differs.

First the tree of the data is made, as format does, and compared with the hash area. Only if
something differs, everything is read again to say what.

From the data up, the digests of each level's blocks are laid out as the hash blocks that should
stand above them, and compared with those that do. Where a hash block differs, the level above it
tells who is wrong: if it holds the digest of what should stand there, the blocks below are right
and the hash block is corrupt; if not, they are the ones that differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast import _core
from dmsign_fast.arguments import BYTES, FUNCTION, NUMBER, PATH, takes
from dmsign_fast.errors import CorruptionError, FormatError, ParameterError
from dmsign_fast.verity.blocks import (
    LevelBlocks,
    block_hash,
    pack_hash_blocks,
    read_exactly,
    read_into,
)
from dmsign_fast.verity.params import PARAMS
from dmsign_fast.verity.reading import hash_source
from dmsign_fast.verity.report import BadBlocks, Verified, runs_of
from dmsign_fast.verity.source import Source, open_source
from dmsign_fast.verity.superblock import SUPERBLOCK_SIZE, Superblock
from dmsign_fast.verity.tree import VerityHasher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from dmsign_fast.verity.params import HashArea, VerityParams

__all__ = ["read_superblock", "verify_file"]

# Work between two looks at signals and progress; digests are held several times.
_SPAN = 128 << 20
_SPAN_BLOCKS = 1 << 16
_PIECE = 1 << 20


class _DiffersError(Exception):
    """A hash block is not what the data makes it."""


class _Stored:
    """The levels of a hash area as they stand, read beside the tree that grows from the data."""

    def __init__(self, hashes: Source, area: HashArea) -> None:
        self._fd = hashes.fd
        self._at = [level.offset for level in area.levels]
        self._buffer = bytearray(_PIECE)

    def compare(self, level: int, blocks: memoryview) -> None:
        """Raise _DiffersError unless the level goes on with these hash blocks."""
        for at in range(0, len(blocks), _PIECE):
            wanted = blocks[at : at + _PIECE]
            whole = len(wanted) == _PIECE
            stored = self._buffer if whole else self._buffer[: len(wanted)]
            read_into(self._fd, self._at[level], stored)
            if stored != wanted:  # a bytearray, since memoryviews compare item by item
                raise _DiffersError
            self._at[level] += len(wanted)


def _agrees(
    source: Source,
    hashes: Source,
    params: VerityParams,
    area: HashArea,
    blocks: int,
    root_hash: bytes,
    threads: int | None,
    progress: Callable[[int], object],
) -> bool:
    """True if data, hash area and root hash agree, after one reading of each."""
    hasher = VerityHasher(params, threads=threads)
    stored = _Stored(hashes, area)
    try:
        hash_source(source, blocks, hasher, stored.compare, progress)
        tree = hasher.finalize()
        for level, hash_blocks in enumerate(tree.hash_blocks):
            stored.compare(level, hash_blocks)
    except _DiffersError:
        return False
    return tree.root_hash == root_hash


class _Verifier:
    def __init__(
        self,
        params: VerityParams,
        area: HashArea,
        hashes: Source,
        root_hash: bytes,
        threads: int,
        progress: Callable[[int], object],
    ) -> None:
        self._params = params
        self._area = area
        self._hashes = hashes
        self._root_hash = root_hash
        self._threads = threads
        self._progress = progress
        self._hash = block_hash(params, params.hash_block_size)
        self._found: dict[tuple[int | None, str], list[npt.NDArray[np.int64]]] = {}
        self._places: dict[int | None, tuple[int, int]] = {}
        self._top_is_corrupt = False

    def flag(self, level: int | None, reason: str, blocks: npt.ArrayLike) -> None:
        """Remember block numbers, which rise from call to call."""
        import numpy as np  # only here and further on: what is verified needs none of it

        numbers = np.asarray(blocks, np.int64)
        if len(numbers):
            self._found.setdefault((level, reason), []).append(numbers)

    def run(self, data: LevelBlocks, present: int) -> bytes:
        """Compare every level; the digest of the top block."""
        self._places[None] = (data.hash.block_size, 0)
        if present < data.blocks:
            self.flag(None, "missing", range(present, data.blocks))
        below = data
        for level, place in enumerate(self._area.levels):
            self._places[level] = (self._params.hash_block_size, place.offset)
            self._compare(below, level, present if level == 0 else below.blocks)
            below = LevelBlocks(level, self._hashes, place.offset, place.blocks, self._hash)
        if below.level is None and not present:
            return b""
        computed = bytes(below.digests(0, 1, self._threads))
        if computed != self._root_hash and (self._top_is_corrupt or below.level is None):
            self.flag(below.level, "digest", [0])
        return computed

    def _compare(self, below: LevelBlocks, level: int, present: int) -> None:
        place = self._area.levels[level]
        per_block, size = self._params.hashes_per_block, self._params.hash_block_size
        bytes_above = per_block * below.hash.block_size
        step = max(1, min(_SPAN // bytes_above, _SPAN_BLOCKS // per_block))
        for block in range(0, place.blocks, step):
            blocks = min(step, place.blocks - block)
            first = block * per_block
            wanted = min((block + blocks) * per_block, below.blocks) - first
            count = max(0, min(wanted, present - first))
            digests = below.digests(first, count, self._threads)
            digests += bytes((wanted - count) * self._params.digest_size)
            expected = pack_hash_blocks(self._params, digests)
            stored = read_exactly(self._hashes.fd, place.offset + block * size, blocks * size)
            if stored != expected:
                self._judge(below.level, level, block, stored, expected, count, wanted)
            if level == 0:
                self._progress(count * below.hash.block_size)

    def _judge(
        self,
        below: int | None,
        level: int,
        first: int,
        stored: bytes,
        expected: bytearray,
        present: int,
        below_blocks: int,
    ) -> None:
        """Say which of the hash blocks from ``first`` on, or of the blocks below, are bad.

        There should be ``below_blocks`` of these, and only the first ``present`` could be read.
        """
        import numpy as np

        params = self._params
        shape = (-1, params.hash_block_size)
        is_, should = (np.frombuffer(x, np.uint8).reshape(shape) for x in (stored, expected))
        differs = is_ != should
        rows = np.flatnonzero(differs.any(axis=1))
        right = np.frombuffer(self._hash.hash_blocks(should[rows].data, self._threads), np.uint8)
        right = (right.reshape(len(rows), -1) == self._digests_above(level, first + rows)).all(1)
        if level == len(self._area.levels) - 1:
            self._top_is_corrupt = bool(right.all())
        rows = rows[~right]

        differs = differs[rows]
        used = params.hashes_per_block * params.slot_size
        slots = differs[:, :used].reshape(len(rows), params.hashes_per_block, params.slot_size)
        digests = slots[:, :, : params.digest_size]
        number = rows[:, None] * params.hashes_per_block + np.arange(params.hashes_per_block)
        bad = digests.any(axis=2) & (number < present)
        self.flag(below, "digest", first * params.hashes_per_block + number[bad])
        in_digests = (digests & (number < below_blocks)[:, :, None]).sum(axis=(1, 2))
        self.flag(level, "spare", first + rows[differs.sum(axis=1) > in_digests])

    def _digests_above(self, level: int, blocks: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The digests of hash blocks as the level above, or the root hash, has them."""
        import numpy as np

        params = self._params
        if level == len(self._area.levels) - 1:
            return np.frombuffer(self._root_hash, np.uint8)
        above = self._area.levels[level + 1].offset
        digests = bytearray()
        for block in blocks.tolist():
            row, slot = divmod(block, params.hashes_per_block)
            at = above + row * params.hash_block_size + slot * params.slot_size
            digests += read_exactly(self._hashes.fd, at, params.digest_size)
        return np.frombuffer(digests, np.uint8).reshape(len(blocks), -1)

    def bad(self) -> tuple[BadBlocks, ...]:
        """All that was flagged, data first."""
        if not self._found:
            return ()
        import numpy as np

        found = []
        for (level, reason), parts in self._found.items():
            runs = runs_of(np.concatenate(parts))
            found.append(BadBlocks(level, reason, *self._places[level], runs))
        return tuple(sorted(found, key=lambda bad: -1 if bad.level is None else bad.level))


def read_superblock(source: Source, hash_offset: int = 0) -> Superblock:
    """The superblock at a byte offset of a hash file.

    Raises:
        FormatError: there is none.
        ParameterError: the offset is not a multiple of 512.
    """
    if hash_offset < 0 or hash_offset % SUPERBLOCK_SIZE:
        raise ParameterError(f"hash offset {hash_offset} is not a multiple of {SUPERBLOCK_SIZE}")
    left = max(0, source.seekable_size("reading a hash area") - hash_offset)
    data = read_exactly(source.fd, hash_offset, min(SUPERBLOCK_SIZE, left))
    return Superblock.unpack(data, f"the superblock at byte {hash_offset} of {source.path}")


@takes(
    data=PATH,
    hash_file=PATH,
    root_hash=BYTES,
    params=PARAMS.or_none,
    data_blocks=NUMBER.or_none,
    hash_offset=NUMBER,
    threads=NUMBER.or_none,
    progress=FUNCTION,
)
def verify_file(
    data: Path,
    hash_file: Path,
    root_hash: bytes,
    *,
    params: VerityParams | None = None,
    data_blocks: int | None = None,
    hash_offset: int = 0,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Verified:
    """Verify data and hash area in full against a root hash, as ``veritysetup verify`` begins to.

    Args:
        data: a file or block device; what stands in it after the data blocks does not matter.
        hash_file: a file or block device, maybe the same.
        root_hash: its bytes.
        params: None to take them from the superblock; else there is none.
        data_blocks: without a superblock, how many; by default all.
        hash_offset: bytes before the superblock, or without one, before the hash area.
        threads: every core by default.
        progress: called with the number of data bytes verified since its last call.

    Raises:
        CorruptionError: something differs; its ``report`` names every bad block.
        FormatError: no superblock, or a hash file that ends before its hash area does.
        ParameterError: a value is outside its limits.
        StorageError: something cannot be read.
    """
    with open_source(data) as source, open_source(hash_file) as hashes:
        superblock = params is None
        size = source.seekable_size("verifying")
        if params is None:
            read = read_superblock(hashes, hash_offset)
            params, blocks = read.params, read.data_blocks
        else:
            blocks = size // params.data_block_size if data_blocks is None else data_blocks
        params.check_root_hash(root_hash)
        area = params.hash_area(blocks, hash_offset=hash_offset, superblock=superblock)
        if hashes.seekable_size("reading a hash area") < area.end and area.levels:
            raise FormatError(
                f"{hash_file} has {hashes.size} bytes and its hash area should end at byte "
                f"{area.end}: it is cut short, or the parameters are not its own"
            )
        present = min(blocks, size // params.data_block_size)
        counted = _Counted(progress)
        if present == blocks and _agrees(
            source, hashes, params, area, blocks, root_hash, threads, counted
        ):
            report = Verified(blocks, root_hash, root_hash, ())
        else:
            counted.again()
            verifier = _Verifier(
                params, area, hashes, root_hash, _core.thread_count(threads), counted
            )
            level = LevelBlocks(None, source, 0, blocks, block_hash(params, params.data_block_size))
            computed = verifier.run(level, present)
            report = Verified(blocks, root_hash, computed, verifier.bad())
        source.check_unchanged()
    if report.computed != root_hash or report.bad:
        raise CorruptionError(_summary(report, data, hash_file), report)
    return report


class _Counted:
    """Progress of which nothing is told twice."""

    def __init__(self, progress: Callable[[int], object]) -> None:
        self._progress = progress
        self._told = self._at = 0

    def again(self) -> None:
        """Begin anew."""
        self._at = 0

    def __call__(self, size: int) -> None:
        self._at += size
        if self._at > self._told:
            self._progress(self._at - self._told)
            self._told = self._at


def _summary(report: Verified, data: Path, hash_file: Path) -> str:
    if not report.bad:
        return (
            f"the root hash is wrong: {data} and {hash_file} agree with each other and have "
            f"{report.computed.hex()}"
        )
    in_data = sum(bad.blocks for bad in report.bad if bad.level is None)
    in_hashes = sum(bad.blocks for bad in report.bad) - in_data
    return (
        f"verification failed: {in_data} data block(s) of {data} and {in_hashes} hash block(s) of "
        f"{hash_file} are bad"
    )
