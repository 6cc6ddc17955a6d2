"""What a verification finds: every bad block, level by level."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

__all__ = ["BadBlocks", "BadRange", "Repaired", "Verified", "runs_of"]


def runs_of(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rising numbers as an array of shape (ranges, 2): the first of each range and how many."""
    import numpy as np

    if not len(numbers):
        return np.zeros((0, 2), np.int64)
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 2) != 1)
    return np.stack([numbers[starts], np.diff(starts, append=len(numbers))], axis=1)


class BadRange(NamedTuple):
    """``blocks`` blocks from block ``first`` of their level, ``size`` bytes from ``offset``."""

    first: int
    blocks: int
    offset: int
    size: int


class BadBlocks:
    """Blocks of one level that are bad for one reason.

    Attributes:
        level: of the hash area, 0 is the leaf level; None: data blocks.
        reason: ``digest``, it is not the block that was hashed; ``spare``, bytes that should be
            zero are not; ``missing``, the data ends before it; ``unverifiable``, the hash block
            above it is bad and cannot be repaired.
        block_size: bytes.
        offset: where block 0 of the level stands in its file, bytes.
        runs: array of shape (ranges, 2): first block and number of blocks, in rising order.
    """

    def __init__(
        self,
        level: int | None,
        reason: str,
        block_size: int,
        offset: int,
        runs: npt.NDArray[np.int64],
    ) -> None:
        """Set the attributes."""
        self.level = level
        self.reason = reason
        self.block_size = block_size
        self.offset = offset
        self.runs = runs

    @property
    def blocks(self) -> int:
        """How many there are."""
        return int(self.runs[:, 1].sum())

    def __iter__(self) -> Iterator[BadRange]:
        size = self.block_size
        for first, blocks in self.runs.tolist():
            yield BadRange(first, blocks, self.offset + first * size, blocks * size)


class Verified(NamedTuple):
    """What verify_file found.

    Attributes:
        root_hash: the one that was asked for.
        computed: the digest of the top block as it stands.
        bad: nothing, or every bad block.
    """

    data_blocks: int
    root_hash: bytes
    computed: bytes
    bad: tuple[BadBlocks, ...]


class Repaired(NamedTuple):
    """What repair_file found and did.

    Attributes:
        repaired: blocks that were bad, and are (or could be) as they were hashed.
        unrepaired: blocks that stay bad, and those below them that nobody can judge.
        errors: bytes that were wrong, in these blocks and in what was read to repair them.
    """

    data_blocks: int
    root_hash: bytes
    repaired: tuple[BadBlocks, ...]
    unrepaired: tuple[BadBlocks, ...]
    errors: int
