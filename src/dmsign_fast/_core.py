"""The one door to the C core (csrc/dmsign.h): buffers in, errno values out as exceptions.

Buffers of callers are released before an exception leaves: the garbage collector of CPython before
3.12.7 crashes on a memoryview that a traceback holds exported (CPython issue 77894).
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from dmsign_fast._dmsign import ffi, lib
from dmsign_fast.errors import DmsignError, FormatError, ParameterError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from typing_extensions import Buffer

__all__ = [
    "DIGEST_SIZE",
    "MAX_THREADS",
    "SHA256",
    "BlockHash",
    "Implementations",
    "LayerBuilder",
    "Sha256Stream",
    "Tree",
    "mkfs_groups",
    "streams_in_step",
    "text",
    "thread_count",
    "update_in_step",
]

# csrc/build_core.py computes it from the declarations that a core was built with.
_DECLARATIONS = 0x6A6B17D3
DIGEST_SIZE = 32
MAX_THREADS = 256

if getattr(lib, "DMSIGN_DECLARATIONS", 0) != _DECLARATIONS:
    raise DmsignError(
        "the C core is of another version than the Python files: run pip install -e . (it has "
        f"the declarations {getattr(lib, 'DMSIGN_DECLARATIONS', 0):#x} and not {_DECLARATIONS:#x})"
    )


def thread_count(threads: int | None) -> int:
    """How many threads to use when a caller asks for that many; None or 0: every core.

    Raises:
        ParameterError: that many cannot be.
    """
    if threads is not None and not 0 <= threads <= MAX_THREADS:
        raise ParameterError(f"{threads} threads: give 1 to {MAX_THREADS}, or 0 for every core")
    return threads or min(len(os.sched_getaffinity(0)), MAX_THREADS)


def text(name: Any) -> str:
    """A string of the C core."""
    found = ffi.string(name)
    return found.decode() if isinstance(found, bytes) else str(found)


class Implementations:
    """The implementations of some arithmetic in this build, best first, of which one is chosen."""

    def __init__(self, what: str, functions: str, variable: str) -> None:
        """Choose by an environment variable, or else the best.

        Args:
            what: they implement.
            functions: what their names in csrc/dmsign.h begin with.
            variable: of the environment.

        Raises:
            ParameterError: as select().
        """
        self._what, self._variable = what, variable
        self._chosen, self._name, self._supported, self._select = (
            getattr(lib, functions + end) for end in ("", "_name", "_supported", "_select")
        )
        self._wanted: str | None = None
        self.select(os.environ.get(variable) or None)

    def __iter__(self) -> Iterator[str]:
        index = 0
        while (name := self._name(index)) != ffi.NULL:
            yield text(name)
            index += 1

    @property
    def usable(self) -> list[str]:
        """Those that this processor runs."""
        return [name for index, name in enumerate(self) if self._supported(index)]

    @property
    def chosen(self) -> str:
        """The one that objects made from now on use."""
        return text(self._chosen())

    def select(self, name: str | None) -> None:
        """Choose by name, or the best that this processor has.

        Raises:
            ParameterError: there is none of that name, or this processor cannot run it.
        """
        result = self._select(ffi.NULL if name is None else name.encode())
        if result:
            why = "is unknown" if result == -errno.EINVAL else "needs another processor"
            raise ParameterError(
                f"{self._what} implementation {name!r} {why}: set {self._variable} to one of "
                f"{', '.join(self.usable)}"
            )
        self._wanted = name

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """Choose for a while."""
        before = self._wanted
        self.select(name)
        try:
            yield
        finally:
            self.select(before)


SHA256 = Implementations("SHA-256", "dmsign_impl", "DMSIGN_IMPL")


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
        raise ParameterError(
            "hash type, salt, block size or version outside the limits of the C core"
        )
    return ffi.gc(pointer, free)


class BlockHash:
    """Salted SHA-256 of blocks; any number of threads may use one."""

    digest_size = DIGEST_SIZE

    def __init__(self, hash_type: int, salt: bytes, block_size: int) -> None:
        """See VerityParams for the limits of the arguments (ParameterError)."""
        pointer = lib.dmsign_block_hash_new(hash_type, salt, len(salt), block_size)
        self.pointer = _made(pointer, lib.dmsign_block_hash_free)
        self.block_size = block_size

    def hash_blocks(self, blocks: Buffer, threads: int = 1) -> bytearray:
        """Digests, 32 bytes each, of contiguous whole blocks."""
        with ffi.from_buffer("uint8_t[]", blocks) as data:
            count, rest = divmod(len(data), self.block_size)
            if rest:
                raise ParameterError(
                    f"{len(data)} bytes are not a multiple of the block size, {self.block_size}"
                )
            digests = bytearray(count * DIGEST_SIZE)
            out = ffi.from_buffer("uint8_t[]", digests)
            _check(lib.dmsign_hash_blocks(self.pointer, data, count, out, threads))
        return digests

    def hash_file(self, fd: int, offset: int, count: int, threads: int = 1) -> bytearray:
        """Digests, 32 bytes each, of ``count`` blocks of a file from byte ``offset`` on.

        Raises:
            StorageError: the file ends or cannot be read; the message has the byte offset.
        """
        digests = bytearray(count * DIGEST_SIZE)
        out = ffi.from_buffer("uint8_t[]", digests)
        at = ffi.new("uint64_t *", offset)
        _check(lib.dmsign_hash_file(self.pointer, fd, offset, count, out, threads, at), at[0])
        return digests


class _Keeper:
    """A destructor that does nothing, and keeps an object alive until it is called."""

    def __init__(self, kept: object) -> None:
        self._kept = kept

    def __call__(self, _: object) -> None:
        pass


def _view(pointer: Any, size: int, owner: object) -> memoryview:
    """Memory of a C object, which the view keeps alive."""
    if not size:
        return memoryview(b"")
    return memoryview(ffi.buffer(ffi.gc(pointer, _Keeper(owner)), size)).toreadonly()


def streams_in_step() -> int:
    """How many SHA-256 streams this processor digests in step; 0: use hashlib."""
    return int(lib.dmsign_streams_in_step())


class Sha256Stream:
    """SHA-256 of a stream, as of hashlib, that update_in_step() appends to."""

    def __init__(self) -> None:
        """Begin; only where streams_in_step() is not 0."""
        self.pointer = _made(lib.dmsign_stream_new(), lib.dmsign_stream_free)

    def hexdigest(self) -> str:
        """The digest of all bytes so far."""
        digest = bytearray(DIGEST_SIZE)
        with ffi.from_buffer("uint8_t[]", digest) as out:
            lib.dmsign_stream_digest(self.pointer, out)
        return digest.hex()


def update_in_step(pieces: Mapping[Sha256Stream, Sequence[Buffer]]) -> None:
    """Append pieces to each of several streams, at most streams_in_step()."""
    with ExitStack() as released:
        views = [
            released.enter_context(ffi.from_buffer("uint8_t[]", piece))
            for some in pieces.values()
            for piece in some
        ]
        sizes = [len(view) for view in views]
        counts = [len(some) for some in pieces.values()]
        pointers = [stream.pointer for stream in pieces]
        _check(lib.dmsign_streams_update(pointers, len(pointers), views, sizes, counts))


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
        with ffi.from_buffer("uint8_t[]", data) as view:
            _check(lib.dmsign_tree_update(self._tree, view, len(view), threads))

    def update_file(self, fd: int, offset: int, count: int, threads: int) -> None:
        """Append ``count`` data blocks of a file; StorageError as BlockHash.hash_file."""
        at = ffi.new("uint64_t *", offset)
        _check(lib.dmsign_tree_update_file(self._tree, fd, offset, count, threads, at), at[0])

    def begin_file(self, fd: int, offset: int, count: int, threads: int) -> None:
        """Begin what end_file ends: what level() shows can be read meanwhile, and nothing else."""
        self._offset = offset
        _check(lib.dmsign_tree_begin_file(self._tree, fd, offset, count, threads))

    def end_file(self, threads: int) -> None:
        """Append the data blocks of a file that were begun, and drain what was there before.

        StorageError as BlockHash.hash_file.
        """
        at = ffi.new("uint64_t *", self._offset)
        _check(lib.dmsign_tree_end_file(self._tree, threads, at), at[0])

    def update_zeros(self, count: int) -> None:
        """Append ``count`` data blocks of zeros without hashing them."""
        _check(lib.dmsign_tree_update_zeros(self._tree, count))

    def update_digests(self, digests: Buffer, threads: int) -> None:
        """Append data blocks of which only the digests, 32 bytes each, are known."""
        with ffi.from_buffer("uint8_t[]", digests) as view:
            count = len(view) // DIGEST_SIZE
            _check(lib.dmsign_tree_update_digests(self._tree, view, count, threads))

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
        return start[0], _view(pointer, size[0], self._tree)

    def drain(self) -> None:
        """Forget what level() shows, on all levels."""
        lib.dmsign_tree_drain(self._tree)


def mkfs_groups() -> dict[str, tuple[str, ...]]:
    """The groups of mkfs.erofs versions that make the same images, oldest first."""
    groups: dict[str, tuple[str, ...]] = {}
    versions = ffi.new("const char **")
    while (name := lib.dmsign_mkfs_group(len(groups), versions)) != ffi.NULL:
        groups[text(name)] = tuple(text(versions[0]).split())
    return groups


_NO_HEADER = "bad header checksum"
# what to do about reasons of the parser of tars, which has seen so many bytes
_ADVICE = dict.fromkeys(
    ("truncated archive", "no end-of-archive blocks"),
    ": it ends at byte {}, so fetch or make it again",
) | {_NO_HEADER: ": it is damaged before or there, so fetch or make it again"}


class LayerBuilder:
    """A layer's tar on its way to an EROFS image; one call at a time.

    The image is [head][data][tail]; the digests of its data are made as the tar comes in.
    """

    def __init__(
        self,
        mkfs_version: str,
        *,
        index: bool,
        lossy: bool,
        block_hash: BlockHash | None,
        fd: int = -1,
        head_fd: int = -1,
        leader: LayerBuilder | None = None,
    ) -> None:
        """Begin an image as mkfs.erofs of that version makes it.

        Args:
            mkfs_version: one of mkfs_groups().
            index: a tar index instead of a full conversion.
            lossy: go on where mkfs.erofs silently drops something.
            block_hash: of the data's blocks; None for no digests.
            fd: a new file that gets the data too, -1 for none.
            head_fd: a new file that gets the head too, -1 for none.
            leader: a layer that gets the same pieces, each just before this one, which then
                hashes no data; head and tail together are its head.
        """
        seed = int.from_bytes(os.urandom(8), "little")
        kept = ffi.NULL if block_hash is None else block_hash.pointer
        leads: Any = ffi.NULL if leader is None else leader._layer
        pointer = lib.dmsign_layer_new(
            mkfs_version.encode(), index, lossy, kept, seed, fd, head_fd, leads
        )
        self._leader = leader  # must not be freed before this
        self._layer: Any = _made(pointer, lib.dmsign_layer_free)
        self._hash = block_hash
        self._fed = 0  # bytes of the tar

    def update(self, tar: Buffer, threads: int) -> None:
        """Append bytes of the tar.

        Raises:
            FormatError: an entry cannot be what it says, or mkfs.erofs would fail or lose it.
            StorageError: the file of the data cannot be written.
        """
        with ffi.from_buffer("uint8_t[]", tar) as view:
            self._fed += len(view)
            self._check(lib.dmsign_layer_update(self._layer, view, len(view), threads))

    def final(self, uuid: bytes, threads: int) -> None:
        """End the tar; errors as update."""
        self._check(lib.dmsign_layer_final(self._layer, uuid, threads))

    def _check(self, result: int) -> None:
        if not result:
            return
        reason, entry = ffi.new("const char **"), ffi.new("const char **")
        offset = ffi.new("uint64_t *")
        failed = lib.dmsign_layer_error(self._layer, reason, entry, offset)
        if result == -errno.ENOMEM:
            raise MemoryError
        if failed:
            raise StorageError(f"cannot write the image: {os.strerror(failed)}")
        name, why = os.fsdecode(ffi.string(entry[0])), text(reason[0])
        if why == _NO_HEADER and not offset[0]:
            raise FormatError(
                f"the layer is not a tar, {why} at its first byte: give a tar, plain or compressed "
                "by gzip or zstd, or an EROFS image"
            )
        where = f"the entry {name!r} at byte {offset[0]} of the tar" if name else "the tar"
        advice = _ADVICE.get(why, "").format(self._fed)
        if result == -errno.ENOTSUP:
            advice = "; --allow-lossy does as mkfs.erofs does"
        raise FormatError(f"{where} cannot be converted: {why}{advice}")

    def take_leaves(self) -> Iterator[memoryview]:
        """Take out the digests of data blocks that were hashed since the last time.

        Each view can be used until the next step of the iterator, when the digests leave memory.
        """
        size = ffi.new("size_t *")
        while (pointer := lib.dmsign_layer_leaves(self._layer, size)) != ffi.NULL:
            with _view(pointer, size[0], self._layer) as leaves:
                yield leaves
            lib.dmsign_layer_drain(self._layer)

    @property
    def head_leaves(self) -> memoryview:
        """After final: the digests of the head's blocks."""
        size = ffi.new("size_t *")
        pointer = lib.dmsign_layer_head_leaves(self._layer, size)
        return _view(pointer, size[0], self._layer)

    @property
    def differs(self) -> bool:
        """Whether this may have other data than its leader, whose leaves then are not its own."""
        return bool(lib.dmsign_layer_differs(self._layer))

    @property
    def head(self) -> memoryview:
        """After final: what stands before the data; without a file the first 4096 bytes of it."""
        size = ffi.new("size_t *")
        pointer = lib.dmsign_layer_head(self._layer, size)
        return _view(pointer, size[0], self._layer)

    def about(self) -> tuple[int, int, int]:
        """After final: bytes of the image, of the tar up to the archive's end, and inodes.

        The image of a tar index is without the tar.
        """
        numbers = [ffi.new("uint64_t *") for _ in range(3)]
        lib.dmsign_layer_about(self._layer, *numbers)
        return numbers[0][0], numbers[1][0], numbers[2][0]
