"""A hash tree of any hashlib algorithm, with the methods of the C core's Tree: right, not fast."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dmsign_fast.verity.blocks import HashlibBlockHash, pack_hash_blocks

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from dmsign_fast.verity.params import VerityParams

__all__ = ["HashlibTree"]


class HashlibTree:
    """See _core.Tree for the methods; digests are kept, hash blocks are packed when asked for."""

    def __init__(self, params: VerityParams) -> None:
        """Begin an empty tree."""
        self._params = params
        self._data_hash = HashlibBlockHash(params, params.data_block_size)
        self._level_hash = HashlibBlockHash(params, params.hash_block_size)
        self._carry = bytearray()
        self._digests: list[bytearray] = []  # of a level, those not in a finished block
        self._ready: list[bytearray] = []  # of a level, finished hash blocks
        self._start: list[int] = []  # of a level, bytes drained
        self._begun = 0, 0, 0

    def _add(self, level: int, digests: bytearray, *, last: bool = False) -> None:
        """Append digests to a level; full blocks (or, at the last, all) go up."""
        if level == len(self._digests):
            self._digests.append(bytearray())
            self._ready.append(bytearray())
            self._start.append(0)
        waiting = self._digests[level]
        waiting += digests
        per_block = self._params.hashes_per_block * self._params.digest_size
        size = len(waiting) if last else len(waiting) // per_block * per_block
        if size:
            packed = pack_hash_blocks(self._params, waiting[:size])
            del waiting[:size]
            self._ready[level] += packed
            self._add(level + 1, self._level_hash.hash_blocks(packed))

    def _check_boundary(self) -> None:
        if self._carry:
            raise OSError(errno.EINVAL, "the data so far does not end on a block boundary")

    def update(self, data: Buffer, threads: int) -> None:
        """Append bytes of any number."""
        del threads
        self._carry += memoryview(data).tobytes()
        size = len(self._carry) // self._params.data_block_size * self._params.data_block_size
        if size:
            self._add(0, self._data_hash.hash_blocks(bytes(self._carry[:size])))
            del self._carry[:size]

    def update_file(self, fd: int, offset: int, count: int, threads: int) -> None:
        """Append blocks of a file."""
        self._check_boundary()
        self._add(0, self._data_hash.hash_file(fd, offset, count, threads))

    def begin_file(self, fd: int, offset: int, count: int, threads: int) -> None:
        """See _core.Tree; nothing is done yet."""
        self._begun = fd, offset, count
        del threads

    def end_file(self, threads: int) -> None:
        """Append the blocks of a file, and drain what was there before."""
        self.drain()
        self.update_file(*self._begun, threads)

    def update_zeros(self, count: int) -> None:
        """Append blocks of zeros, of which one is hashed."""
        self._check_boundary()
        self._add(0, self._data_hash.hash_blocks(bytes(self._params.data_block_size)) * count)

    def final(self, threads: int) -> bytes:
        """End the data; the root hash."""
        del threads
        self._check_boundary()
        if not self._digests:
            raise OSError(errno.ENODATA, "no data")
        level = 0
        while (
            self._start[level]
            or self._ready[level]
            or len(self._digests[level]) > (self._params.digest_size)
        ):
            self._add(level, bytearray(), last=True)
            level += 1
        root_hash = bytes(self._digests[level])
        del self._digests[level:]
        return root_hash

    @property
    def levels(self) -> int:
        """How many levels hold something."""
        return len(self._digests)

    def level(self, level: int) -> tuple[int, memoryview]:
        """The finished hash blocks of a level that were not drained, and where they start."""
        return self._start[level], memoryview(bytes(self._ready[level]))

    def drain(self) -> None:
        """Forget what level() shows."""
        for level in range(self.levels):
            self._start[level] += len(self._ready[level])
            self._ready[level].clear()
