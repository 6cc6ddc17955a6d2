"""A hash tree on the disk, and the root hashes of trees that share most of its data."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING

from dmsign_fast.outputs import storage_errors, write_all
from dmsign_fast.verity.blocks import block_hash, read_exactly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dmsign_fast.verity.params import VerityParams

__all__ = ["ChangedTree"]

_PIECE = 4 << 20
_DIGEST = 32


class ChangedTree:
    """Keeps a tree's hash blocks in a nameless file; digests are SHA-256, without gaps.

    ``hash_area`` takes the blocks (see erofs.image_hasher.HashArea).
    """

    def __init__(self, params: VerityParams) -> None:
        """Begin without hash blocks; StorageError if there can be no file."""
        self._params = params
        self._hash = block_hash(params, params.hash_block_size)
        self._at: list[int] = []
        self._ends: list[int] = []
        with storage_errors("create", f"a temporary file in {tempfile.gettempdir()}"):
            self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115

    def close(self) -> None:
        """Free the file."""
        self._file.close()

    def hash_area(self, data_blocks: int) -> Callable[[int, memoryview], object]:
        """Take the hash blocks of a tree over so many data blocks."""
        area = self._params.hash_area(data_blocks, superblock=False)
        self._at = [level.offset for level in area.levels]
        self._ends = list(self._at)

        def take(level: int, blocks: memoryview) -> None:
            with storage_errors("write", f"a temporary file in {tempfile.gettempdir()}"):
                write_all(self._file.fileno(), blocks, self._ends[level])
            self._ends[level] += len(blocks)

        return take

    def _digests(self, level: int, first: int, end: int) -> bytes:
        """Digests ``first`` to ``end`` of those that a level holds."""
        size = max(0, end - first) * _DIGEST
        return read_exactly(self._file.fileno(), self._at[level] + first * _DIGEST, size)

    def leaves(self, first: int, end: int) -> Iterator[bytes]:
        """The digests of data blocks, in pieces."""
        step = _PIECE // _DIGEST
        for at in range(first, end, step):
            yield self._digests(0, at, min(at + step, end))

    def root_hash(self, head: bytes, end: int, tail: bytes) -> bytes:
        """The root hash of a tree whose data has another beginning and another end.

        Its first leaves are ``head``; those behind them, up to leaf ``end``, are as in this tree;
        then ``tail`` follows. Only hash blocks that hold something else are hashed again.
        """
        per_block = self._params.hashes_per_block
        first = len(head) // _DIGEST
        total = end + len(tail) // _DIGEST
        level = 0
        while total > 1:
            same, stop = -(-first // per_block), end // per_block
            if same < stop:
                left = head + self._digests(level, first, same * per_block)
                right = self._digests(level, stop * per_block, end) + tail
                head, tail = self._above(left), self._above(right)
                first, end = same, stop
            else:
                whole = head + self._digests(level, first, end) + tail
                head, tail = self._above(whole), b""
                first = end = len(head) // _DIGEST
            total = end + len(tail) // _DIGEST
            level += 1
        return head or tail

    def _above(self, digests: bytes) -> bytes:
        blocks = digests + bytes(-len(digests) % self._params.hash_block_size)
        return bytes(self._hash.hash_blocks(blocks))
