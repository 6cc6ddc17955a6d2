"""Data on its way into a hash tree, span by span."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dmsign_fast.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dmsign_fast.verity.source import Source
    from dmsign_fast.verity.tree import VerityHasher

__all__ = ["hash_source"]

# A span is what is hashed between two looks at signals, progress and the hash blocks that are
# finished. It grows while it takes little time, since threads and disks wait at its end, and
# shrinks when it takes long, since a person waits. The digests of two spans are in memory: 4 MiB a
# thread.
_FIRST_SPAN = 64 << 20
_BLOCKS_OF_THREAD = 1 << 16
_LEAST_SPAN = 4 << 20
_SHORT, _LONG = 0.1, 0.5  # seconds
_HOLE_BLOCKS = 1 << 18
_PIPE_PIECE = 8 << 20


def _drain(hasher: VerityHasher, take: Callable[[int, memoryview], object]) -> None:
    for level, _, hash_blocks in hasher.drain():
        take(level, hash_blocks)


def hash_source(
    source: Source,
    blocks: int | None,
    hasher: VerityHasher,
    take: Callable[[int, memoryview], object],
    progress: Callable[[int], object],
) -> None:
    """Append a source to a hasher.

    Args:
        source: a file, a block device or a pipe.
        blocks: how many of its blocks, from the first on; of a pipe, None for all.
        hasher: whose block size counts.
        take: gets hash blocks as they are finished, each level's in order: (level, hash blocks).
            What is left at the end has the tree that the hasher makes.
        progress: called with the number of bytes hashed since its last call.

    Raises:
        StorageError: the source ends early or cannot be read.
    """
    if source.size is None:
        _hash_pipe(source, blocks, hasher, take, progress)
        return
    block_size = hasher.params.data_block_size
    least = max(1, _LEAST_SPAN // block_size)
    most = max(least, _BLOCKS_OF_THREAD * hasher.threads)
    span = min(max(1, _FIRST_SPAN // block_size), most)
    for first, count, hole in source.extents(0, blocks or 0, block_size):
        end = first + count
        while first < end:
            began = time.monotonic()
            if hole:  # zeros cost nothing to hash, but their digests take memory
                size = min(_HOLE_BLOCKS, end - first)
                hasher.update_zeros(size)
                _drain(hasher, take)
            else:
                size = min(span, end - first)
                hasher.update_file(source.fd, first * block_size, size, meanwhile=take)
                if size == span:
                    took = time.monotonic() - began
                    span = min(2 * span, most) if took < _SHORT else span
                    span = max(span // 2, least) if took > _LONG else span
            first += size
            progress(size * block_size)


def _hash_pipe(
    source: Source,
    blocks: int | None,
    hasher: VerityHasher,
    take: Callable[[int, memoryview], object],
    progress: Callable[[int], object],
) -> None:
    block_size = hasher.params.data_block_size
    left = None if blocks is None else blocks * block_size
    for piece in source.pieces(_PIPE_PIECE):
        taken = piece if left is None else piece[:left]
        hasher.update(taken)
        _drain(hasher, take)
        progress(len(taken))
        if left is not None:
            left -= len(taken)
            if not left:
                return
    if left:
        raise StorageError(
            f"{source.path} ends {left} bytes before {blocks} blocks of {block_size}"
        )
