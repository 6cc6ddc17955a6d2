"""Salted digests of blocks: SHA-256 from the C core, everything else from hashlib."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dmsign_fast import _core
from dmsign_fast.errors import StorageError
from dmsign_fast.verity.params import VerityParams, new_digest

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from dmsign_fast.verity.source import Source

__all__ = [
    "BlockHash",
    "HashlibBlockHash",
    "LevelBlocks",
    "block_hash",
    "pack_hash_blocks",
    "read_exactly",
    "read_into",
]

_PIECE = 1 << 20


class BlockHash(Protocol):
    """Digests of blocks of one size."""

    digest_size: int
    block_size: int

    def hash_blocks(self, blocks: Buffer, threads: int = 1) -> bytearray:
        """Digests of contiguous blocks, without gaps."""

    def hash_file(self, fd: int, offset: int, count: int, threads: int = 1) -> bytearray:
        """Digests of ``count`` blocks of a file from ``offset`` on; StorageError if it ends."""


def block_hash(params: VerityParams, block_size: int) -> BlockHash:
    """The fastest that serves these parameters."""
    if params.hash_algorithm == "sha256":
        return _core.BlockHash(params.hash_type, params.salt, block_size)
    return HashlibBlockHash(params, block_size)


def pack_hash_blocks(params: VerityParams, digests: bytearray) -> bytearray:
    """Digests without gaps as whole hash blocks: slots and the rest of each block filled up."""
    size, slot = params.digest_size, params.slot_size
    used = slot * params.hashes_per_block
    if size == slot and used == params.hash_block_size:
        return digests + bytes(-len(digests) % params.hash_block_size)
    view = memoryview(digests)
    count = len(view) // size
    packed = bytearray(-(-count // params.hashes_per_block) * params.hash_block_size)
    for i in range(count):
        block, at = divmod(i, params.hashes_per_block)
        place = block * params.hash_block_size + at * slot
        packed[place : place + size] = view[i * size : (i + 1) * size]
    return packed


def read_into(fd: int, offset: int, buffer: bytearray | memoryview) -> None:
    """Fill a buffer from byte ``offset`` on; StorageError if the file ends or cannot be read."""
    view = memoryview(buffer)
    while view:
        try:
            got = os.preadv(fd, [view], offset)
        except OSError as error:
            raise StorageError(f"cannot read at byte {offset}: {error.strerror}") from error
        if not got:
            raise StorageError(f"cannot read at byte {offset}: the file ends here")
        offset += got
        view = view[got:]


def read_exactly(fd: int, offset: int, size: int) -> bytes:
    """``size`` bytes from ``offset`` on; errors as read_into."""
    buffer = bytearray(size)
    read_into(fd, offset, buffer)
    return bytes(buffer)


class LevelBlocks(NamedTuple):
    """The blocks of one level where they stand; level None is the data."""

    level: int | None
    source: Source
    offset: int
    blocks: int
    hash: BlockHash

    def digests(self, first: int, count: int, threads: int) -> bytearray:
        """Digests of some of them, without gaps."""
        digests = bytearray()
        size = self.hash.block_size
        shift = self.offset // size
        for at, blocks, hole in self.source.extents(first + shift, count, size):
            if hole:
                digests += self.hash.hash_blocks(bytes(size)) * blocks
            else:
                digests += self.hash.hash_file(self.source.fd, at * size, blocks, threads)
        return digests


class HashlibBlockHash:
    """Any algorithm of hashlib, in threads (hashlib frees the GIL for large blocks)."""

    def __init__(self, params: VerityParams, block_size: int) -> None:
        """Take algorithm, hash type and salt of ``params``."""
        self._prefix = new_digest(params.hash_algorithm)
        if params.hash_type == 1:
            self._prefix.update(params.salt)
        self._suffix = params.salt if params.hash_type == 0 else b""
        self.digest_size = self._prefix.digest_size
        self.block_size = block_size

    def _digest(self, block: memoryview) -> bytes:
        digest = self._prefix.copy()
        digest.update(block)
        digest.update(self._suffix)
        return digest.digest()

    def hash_blocks(self, blocks: Buffer, threads: int = 1) -> bytearray:
        """See BlockHash."""
        del threads
        view = memoryview(blocks).cast("B")
        starts = range(0, len(view), self.block_size)
        return bytearray(b"".join(self._digest(view[at : at + self.block_size]) for at in starts))

    def hash_file(self, fd: int, offset: int, count: int, threads: int = 1) -> bytearray:
        """See BlockHash."""
        from concurrent.futures import ThreadPoolExecutor

        piece = max(1, _PIECE // self.block_size)

        def hash_piece(first: int) -> bytearray:
            size = min(piece, count - first) * self.block_size
            return self.hash_blocks(read_exactly(fd, offset + first * self.block_size, size))

        with ThreadPoolExecutor(max(1, threads)) as pool:
            return bytearray(b"".join(pool.map(hash_piece, range(0, count, piece))))
