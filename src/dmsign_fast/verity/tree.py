"""Hash trees: from data to root hash."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dmsign_fast import _core
from dmsign_fast.arguments import NUMBER, takes
from dmsign_fast.errors import ParameterError
from dmsign_fast.verity.hashlib_tree import HashlibTree
from dmsign_fast.verity.params import PARAMS, VerityParams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Buffer

__all__ = ["HashTree", "VerityHasher"]


class HashTree(NamedTuple):
    """A finished tree.

    Attributes:
        params: what it was made with.
        data_blocks: how many data blocks it covers.
        root_hash: the digest of the top block, or of the data block if there is only one.
        hash_blocks: the hash blocks of each level, leaf level (0) first, as read-only views of
            the tree's own memory; empty if they were drained while the tree grew.
    """

    params: VerityParams
    data_blocks: int
    root_hash: bytes
    hash_blocks: tuple[memoryview, ...]

    @property
    def hash_area(self) -> bytes:
        """The levels as they stand in a hash file after the superblock: root level first."""
        return b"".join(reversed(self.hash_blocks))

    def level(self, level: int) -> npt.NDArray[np.uint8]:
        """The digests of a level (0: those of the data blocks), not copied.

        Returns an array of shape (hash blocks, hashes per block, digest size); slots beyond the
        last digest are zero.

        Raises:
            ParameterError: the hash blocks were drained.
        """
        import numpy as np

        params = self.params
        if len(self.hash_blocks[level]) != (
            params.hash_area(self.data_blocks).levels[level].blocks * params.hash_block_size
        ):
            raise ParameterError("the hash blocks of this tree were drained while it grew")
        blocks = np.frombuffer(self.hash_blocks[level], np.uint8)
        used = blocks.reshape(-1, params.hash_block_size)
        used = used[:, : params.hashes_per_block * params.slot_size]
        slots = used.reshape(len(used), params.hashes_per_block, params.slot_size)
        return slots[:, :, : params.digest_size]

    @property
    def levels(self) -> tuple[npt.NDArray[np.uint8], ...]:
        """Every level as level() gives it, leaf level first."""
        return tuple(self.level(level) for level in range(len(self.hash_blocks)))

    def differences(self, other: HashTree) -> npt.NDArray[np.int64]:
        """The numbers of the data blocks whose digests differ, in rising order.

        Raises:
            ParameterError: the trees were made with other parameters or sizes.
        """
        import numpy as np

        if (self.params, self.data_blocks) != (other.params, other.data_blocks):
            raise ParameterError(
                "only trees of the same parameters and number of data blocks can be compared"
            )
        if not self.hash_blocks:
            return np.flatnonzero([self.root_hash != other.root_hash])
        return np.flatnonzero((self.level(0) != other.level(0)).any(axis=2))


class VerityHasher:
    """Builds a tree while data arrives, in the manner of hashlib.

    >>> hasher = VerityHasher(VerityParams(salt=b""))
    >>> hasher.update(bytes(8192))
    >>> hasher.finalize().root_hash.hex()[:16]
    '90b10db56173e2e7'
    """

    @takes(params=PARAMS.or_none, threads=NUMBER.or_none)
    def __init__(self, params: VerityParams | None = None, *, threads: int | None = None) -> None:
        """Begin an empty tree; ``threads`` defaults to every core."""
        self.params = params or VerityParams()
        self.threads = _core.thread_count(threads)
        self._bytes = 0
        self._growing: _core.Tree | HashlibTree | None
        if self.params.hash_algorithm == "sha256":
            self._growing = _core.Tree(
                self.params.hash_type,
                self.params.salt,
                self.params.data_block_size,
                self.params.hash_block_size,
            )
        else:
            self._growing = HashlibTree(self.params)

    @property
    def _tree(self) -> _core.Tree | HashlibTree:
        if self._growing is None:
            raise ParameterError("this hasher is finalized: begin a new one")
        return self._growing

    def update(self, data: Buffer) -> None:
        """Append bytes of any number, from any contiguous buffer, which is not copied if large."""
        self._tree.update(data, self.threads)
        self._bytes += memoryview(data).nbytes

    def update_file(
        self,
        fd: int,
        offset: int,
        blocks: int,
        *,
        meanwhile: Callable[[int, memoryview], object] | None = None,
    ) -> None:
        """Append ``blocks`` data blocks of a file from byte ``offset`` on.

        With ``meanwhile``, the hash blocks that were finished before are drained: it gets each
        level and its hash blocks, while other threads read and hash.

        Raises:
            StorageError: the file ends or cannot be read; the message has the byte offset.
        """
        if meanwhile is None:
            self._tree.update_file(fd, offset, blocks, self.threads)
        else:
            self._tree.begin_file(fd, offset, blocks, self.threads)
            try:
                for level, _, finished in self._finished():
                    meanwhile(level, finished)
            finally:
                self._tree.end_file(self.threads)
        self._bytes += blocks * self.params.data_block_size

    def update_zeros(self, blocks: int) -> None:
        """Append ``blocks`` data blocks of zeros, which costs next to nothing."""
        self._tree.update_zeros(blocks)
        self._bytes += blocks * self.params.data_block_size

    def update_digests(self, digests: Buffer) -> None:
        """Append data blocks of which only the SHA-256 digests, 32 bytes each, are known."""
        if isinstance(self._tree, HashlibTree):
            raise ParameterError("only SHA-256 trees take digests instead of data")
        self._tree.update_digests(digests, self.threads)
        blocks = memoryview(digests).nbytes // _core.DIGEST_SIZE
        self._bytes += blocks * self.params.data_block_size

    def _finished(self) -> Iterator[tuple[int, int, memoryview]]:
        for level in range(self._tree.levels):
            start, blocks = self._tree.level(level)
            if blocks:
                with blocks:
                    yield level, start, blocks

    def drain(self) -> Iterator[tuple[int, int, memoryview]]:
        """Take out the finished hash blocks: (level, byte offset in it, hash blocks).

        Each view can be used until the next step of the iterator, and the blocks leave memory at
        its end.
        """
        yield from self._finished()
        self._tree.drain()

    def finalize(self) -> HashTree:
        """End the data; the hasher cannot be used afterwards.

        Raises:
            ParameterError: there was no data, or it does not end on a block boundary.
        """
        block = self.params.data_block_size
        if not self._bytes:
            raise ParameterError(
                "there is no data to hash: a dm-verity device has at least one data block"
            )
        if self._bytes % block:
            raise ParameterError(
                f"the data has {self._bytes} bytes, not a multiple of the data block size, "
                f"{block}: pad it with {-self._bytes % block} zero bytes"
            )
        tree = self._tree
        self._growing = None
        root_hash = tree.final(self.threads)
        levels = tuple(tree.level(level)[1] for level in range(tree.levels))
        return HashTree(self.params, self._bytes // block, root_hash, levels)
