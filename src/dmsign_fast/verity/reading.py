"""Data on its way into a hash tree, span by span."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dmsign_fast.verity.source import Source
    from dmsign_fast.verity.tree import VerityHasher

__all__ = ["hash_source"]

# What a thread hashes between two looks at signals, progress and the hash blocks that are finished:
# long against what a span costs, short against a person's patience. A span has two sets of digests
# in memory, with blocks of 4096 bytes half a MiB a thread, with blocks of 512 four MiB.
_SPAN = 32 << 20
_HOLE_BLOCKS = 1 << 18
_PIPE_PIECE = 8 << 20


def _spans(
    source: Source, blocks: int, block_size: int, threads: int
) -> Iterator[tuple[int, int, bool]]:
    """The first ``blocks`` blocks of a source in units of work: (first block, blocks, a hole)."""
    most = max(1, _SPAN // block_size) * threads
    for first, count, hole in source.extents(0, blocks, block_size):
        # zeros cost nothing to hash: their unit is bound by the digests it makes
        step = _HOLE_BLOCKS if hole else most
        for at in range(first, first + count, step):
            yield at, min(step, first + count - at), hole


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
    for first, count, hole in _spans(source, blocks or 0, block_size, hasher.threads):
        if hole:
            hasher.update_zeros(count)
            _drain(hasher, take)
        else:
            hasher.update_file(source.fd, first * block_size, count, meanwhile=take)
        progress(count * block_size)


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
