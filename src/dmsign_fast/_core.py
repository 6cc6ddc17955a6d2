"""The one door to the C core (csrc/dmsign.h): buffers in, errno values out as exceptions."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from dmsign_fast._dmsign import ffi, lib
from dmsign_fast.errors import ParameterError, StorageError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "DIGEST_SIZE",
    "MAX_THREADS",
    "BlockHash",
    "Tree",
    "implementation",
    "implementations",
    "select_implementation",
    "thread_count",
]

DIGEST_SIZE = 32
MAX_THREADS = 256


def thread_count(threads: int | None) -> int:
    """How many threads to use when a caller asks for that many; None or 0: every core.

    Raises:
        ParameterError: that many cannot be.
    """
    if threads is not None and not 0 <= threads <= MAX_THREADS:
        raise ParameterError(f"{threads} threads: give 1 to {MAX_THREADS}, or 0 for every core")
    return threads or min(len(os.sched_getaffinity(0)), MAX_THREADS)


def implementations() -> dict[str, bool]:
    """The SHA-256 implementations of this build, best first, and whether they run here."""
    names: dict[str, bool] = {}
    while (name := lib.dmsign_impl_name(len(names))) != ffi.NULL:
        names[_text(name)] = bool(lib.dmsign_impl_supported(len(names)))
    return names


def implementation() -> str:
    """The one that objects made from now on use."""
    return _text(lib.dmsign_impl())


def select_implementation(name: str | None) -> None:
    """Choose an implementation by name, or the best that this processor has.

    Raises:
        ParameterError: there is none of that name, or this processor cannot run it.
    """
    result = lib.dmsign_impl_select(ffi.NULL if name is None else name.encode())
    if result:
        usable = ", ".join(known for known, supported in implementations().items() if supported)
        why = "is unknown" if result == -errno.EINVAL else "needs another processor"
        raise ParameterError(
            f"SHA-256 implementation {name!r} {why}: set DMSIGN_IMPL to one of {usable}"
        )


def _text(name: Any) -> str:
    text = ffi.string(name)
    return text.decode() if isinstance(text, bytes) else str(text)


def _check(result: int, failed_at: int | None = None) -> None:
    if not result:
        return
    if result == -errno.ENOMEM:
        raise MemoryError
    if failed_at is not None:
        why = "the file ends here" if result == -errno.ENODATA else os.strerror(-result)
        raise StorageError(f"cannot read at byte {failed_at}: {why}")
    raise OSError(-result, os.strerror(-result))


def _made(pointer: Any, free: Any) -> Any:
    if pointer == ffi.NULL:
        if ffi.errno == errno.ENOMEM:
            raise MemoryError
        raise ParameterError("hash type, salt or block size outside the limits of the C core")
    return ffi.gc(pointer, free)


class BlockHash:
    """Salted SHA-256 of blocks; any number of threads may use one."""

    digest_size = DIGEST_SIZE

    def __init__(self, hash_type: int, salt: bytes, block_size: int) -> None:
        """See VerityParams for the limits of the arguments (ParameterError)."""
        pointer = lib.dmsign_block_hash_new(hash_type, salt, len(salt), block_size)
        self._hash = _made(pointer, lib.dmsign_block_hash_free)
        self.block_size = block_size

    def hash_blocks(self, blocks: Buffer, threads: int = 1) -> bytearray:
        """Digests, 32 bytes each, of contiguous whole blocks."""
        data = ffi.from_buffer("uint8_t[]", blocks)
        count, rest = divmod(len(data), self.block_size)
        if rest:
            raise ParameterError(
                f"{len(data)} bytes are not a multiple of the block size, {self.block_size}"
            )
        digests = bytearray(count * DIGEST_SIZE)
        out = ffi.from_buffer("uint8_t[]", digests)
        _check(lib.dmsign_hash_blocks(self._hash, data, count, out, threads))
        return digests

    def hash_file(self, fd: int, offset: int, count: int, threads: int = 1) -> bytearray:
        """Digests, 32 bytes each, of ``count`` blocks of a file from byte ``offset`` on.

        Raises:
            StorageError: the file ends or cannot be read; the message has the byte offset.
        """
        digests = bytearray(count * DIGEST_SIZE)
        out = ffi.from_buffer("uint8_t[]", digests)
        at = ffi.new("uint64_t *", offset)
        _check(lib.dmsign_hash_file(self._hash, fd, offset, count, out, threads, at), at[0])
        return digests


class _Keeper:
    """A destructor that does nothing, and keeps an object alive until it is called."""

    def __init__(self, kept: object) -> None:
        self._kept = kept

    def __call__(self, _: object) -> None:
        pass


class Tree:
    """A SHA-256 hash tree that grows as data arrives; one call at a time."""

    def __init__(
        self, hash_type: int, salt: bytes, data_block_size: int, hash_block_size: int
    ) -> None:
        """See VerityParams for the limits of the arguments (ParameterError)."""
        pointer = lib.dmsign_tree_new(hash_type, salt, len(salt), data_block_size, hash_block_size)
        self._tree = _made(pointer, lib.dmsign_tree_free)

    def update(self, data: Buffer, threads: int) -> None:
        """Append bytes of any number."""
        view = ffi.from_buffer("uint8_t[]", data)
        _check(lib.dmsign_tree_update(self._tree, view, len(view), threads))

    def update_file(self, fd: int, offset: int, count: int, threads: int) -> None:
        """Append ``count`` data blocks of a file; StorageError as BlockHash.hash_file."""
        at = ffi.new("uint64_t *", offset)
        _check(lib.dmsign_tree_update_file(self._tree, fd, offset, count, threads, at), at[0])

    def update_zeros(self, count: int) -> None:
        """Append ``count`` data blocks of zeros without hashing them."""
        _check(lib.dmsign_tree_update_zeros(self._tree, count))

    def final(self, threads: int) -> bytes:
        """End the data; the root hash. The data must be one or more whole blocks."""
        root_hash = ffi.new("uint8_t[]", DIGEST_SIZE)
        _check(lib.dmsign_tree_final(self._tree, root_hash, threads))
        return bytes(ffi.buffer(root_hash))

    @property
    def levels(self) -> int:
        """How many levels hold something; after final, how many the hash area has."""
        return int(lib.dmsign_tree_levels(self._tree))

    def level(self, level: int) -> tuple[int, memoryview]:
        """The finished hash blocks of a level that were not drained, and where they start in it.

        The memory belongs to the tree: it is valid until the tree's next call, and the view keeps
        the tree alive.
        """
        start, size = ffi.new("uint64_t *"), ffi.new("size_t *")
        pointer = lib.dmsign_tree_level(self._tree, level, start, size)
        if not size[0]:
            return start[0], memoryview(b"")
        owner = ffi.gc(pointer, _Keeper(self._tree))
        return start[0], memoryview(ffi.buffer(owner, size[0])).toreadonly()

    def drain(self) -> None:
        """Forget what level() shows, on all levels."""
        lib.dmsign_tree_drain(self._tree)


select_implementation(os.environ.get("DMSIGN_IMPL") or None)
