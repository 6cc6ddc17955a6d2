"""A reader of EROFS images as the recipes make them: uncompressed, on a device of their own.

Linux: fs/erofs/erofs_fs.h, inode.c, dir.c, data.c. An image may be damaged where it is read to say
what is damaged, and strangers make images: what cannot be read is told and passed over, each inode
is read once, and neither directories and chunk indexes nor all that belongs to files take more
bytes than the image has: in our images nothing stands in the same place as another.
"""

from __future__ import annotations

import enum
import os
import stat
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from dmsign_fast.erofs.bounds import MAX_READ_DEPTH
from dmsign_fast.errors import FormatError, NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Entry", "ErofsReader", "Extent", "Inode", "Kind", "Read"]

Read = Callable[[int, int], bytes]
"""Gets a byte offset and a size, and returns so many bytes; StorageError where there are none."""

_SUPERBLOCK_AT = 1024
# magic, log2 of the block size, number of the root inode, first block of metadata, incompatible
# features, compression algorithms, extra devices, slot of the first of these
_SUPERBLOCK = struct.Struct("<I8xBxH24xI36xIHHH38x")
_MAGIC = 0xE0F5E1E2
_DEVICE_TABLE = 8
_DEVICE_SLOT = 128
_DEVICE = struct.Struct("<64xII56x")  # blocks; address of the first among those of the image
_SLOT = 32
_COMPACT = struct.Struct("<HHHHI4xI12x")  # format, xattr count, mode, links, size, union
_EXTENDED = struct.Struct("<HHH2xQI44x")  # the same without links
_DIRENT = struct.Struct("<QHBx")  # number of the inode, offset of the name, type
_CHUNK = struct.Struct("<HHI")  # nothing, device, block
_XATTR_HEADER, _XATTR_SLOT = 12, 4
_NO_BLOCK = 0xFFFFFFFF
_PLAIN, _INLINE, _CHUNKS = 0, 2, 4
_CHUNK_BITS, _CHUNK_INDEXES = 0x1F, 0x20
_MAX_NAME = 255
_NAMES = ": 'dmsign-fast verity explain IMAGE' lists what it has"


class Kind(enum.StrEnum):
    """What bytes of an image are."""

    SUPERBLOCK = "superblock"
    INODE = "inode"
    XATTRS = "xattrs"
    CHUNK_INDEX = "chunk index"
    DIRECTORY = "directory"
    SYMLINK = "symlink target"
    DATA = "data"
    TAR_HEADER = "tar header"
    TAR_END = "end of the tar"
    PADDING = "hole or padding"
    UNREADABLE = "unreadable"


class Entry:
    """A name in the tree of files; ``path`` is made when somebody asks, since trees are deep."""

    __slots__ = ("depth", "name", "parent")

    def __init__(self, name: bytes, parent: Entry | None) -> None:
        """Take a name and the directory that it stands in; None for the root's own."""
        self.name, self.parent = name, parent
        self.depth: int = parent.depth + 1 if parent else 0

    @property
    def path(self) -> str:
        """From the root on, such as ``/usr/bin/env``."""
        names: list[bytes] = []
        entry: Entry | None = self
        while entry is not None and entry.parent is not None:
            names.append(entry.name)
            entry = entry.parent
        return os.fsdecode(b"/" + b"/".join(reversed(names)))


class Extent(NamedTuple):
    """Bytes of an image and what they are.

    Attributes:
        offset: of the first, in the image.
        size: how many.
        kind: what they are.
        entry: the file or directory that they belong to; None for what belongs to none.
        at: for data, where in the file they stand, bytes.
        problem: of what is unreadable, why.
    """

    offset: int
    size: int
    kind: Kind
    entry: Entry | None = None
    at: int = 0
    problem: str | None = None


class Inode(NamedTuple):
    """An inode as it stands.

    Attributes:
        nid: its number.
        offset: in the image, bytes.
        head: bytes of itself, without xattrs.
        xattrs: bytes of its xattrs.
        mode: type and permissions.
        size: bytes of its data.
        layout: how its data is kept.
        union: first block of its data, or format of its chunks.
    """

    nid: int
    offset: int
    head: int
    xattrs: int
    mode: int
    size: int
    layout: int
    union: int


class ErofsReader:
    """An image, read by position.

    Attributes:
        block_size: bytes of its blocks: 4096 of a full conversion, 512 of a tar index.
        tar: of a tar index, offset of the tar in the image and bytes up to the archive's end.
        size: bytes of the image that is read, with what stands behind it.
    """

    def __init__(self, read: Read, size: int) -> None:
        """Read the superblock of an image of ``size`` bytes.

        Raises:
            FormatError: no EROFS image, or one that no recipe makes.
            StorageError: as of ``read``.
        """
        self._read, self.size = read, size
        self._left = size  # bytes of directories and chunk indexes that may be read yet
        self._unclaimed = size  # bytes that may belong to files yet
        if size < _SUPERBLOCK_AT + _SUPERBLOCK.size:
            raise FormatError("this is not an EROFS image: it is too small")
        magic, bits, root, meta, features, algorithms, devices, slot = _SUPERBLOCK.unpack(
            read(_SUPERBLOCK_AT, _SUPERBLOCK.size)
        )
        if magic != _MAGIC:
            raise FormatError("this is not an EROFS image, or its superblock is damaged")
        if bits not in (9, 12) or features & ~_DEVICE_TABLE or algorithms or devices > 1:
            raise FormatError(
                "no recipe makes such an EROFS image: only uncompressed ones with blocks of 4096 "
                "bytes, or of 512 and a tar, can be read"
            )
        self.block_size: int = 1 << bits
        self._root, self._meta = root, meta * self.block_size
        self._device = 0
        self.tar: tuple[int, int] | None = None
        self._super_end = _SUPERBLOCK_AT + _SUPERBLOCK.size
        if devices:
            at = slot * _DEVICE_SLOT
            blocks, first = _DEVICE.unpack(self._bytes(at, _DEVICE.size, "the table of devices"))
            self.tar = first * self.block_size, blocks * self.block_size
            if self.tar[0] + self.tar[1] > size:
                raise FormatError("the tar of this image is cut short, or its device table damaged")
            self._device = self.tar[0]
            self._super_end = max(self._super_end, at + _DEVICE.size)

    def _bytes(self, offset: int, size: int, what: str) -> bytes:
        if offset < 0 or offset + size > self.size:
            raise FormatError(f"{what} would stand at byte {offset}, outside the image")
        return self._read(offset, size)

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise FormatError("directories and chunk indexes have more bytes than the image")

    def inode(self, nid: int) -> Inode:
        """The inode of a number; FormatError if no recipe makes such a one."""
        # numbers below the first block of metadata wrap, and Linux wraps them back
        offset = (self._meta + nid * _SLOT) % (1 << 64)
        what = f"inode {nid}"
        head = self._bytes(offset, _COMPACT.size, what)
        form, count, mode, _, size, union = _COMPACT.unpack(head)
        length = _COMPACT.size
        if form & 1:
            length = _EXTENDED.size
            form, count, mode, size, union = _EXTENDED.unpack(self._bytes(offset, length, what))
        layout = form >> 1 & 7
        kind = stat.S_IFMT(mode)
        if form >> 4 or layout not in (_PLAIN, _INLINE, _CHUNKS):
            raise FormatError(f"{what} is damaged: no recipe makes its format {form:#x}")
        if kind not in _HAS_DATA and kind not in _NO_DATA:
            raise FormatError(f"{what} is damaged: its mode is {mode:#o}")
        xattrs = _XATTR_HEADER + _XATTR_SLOT * (count - 1) if count else 0
        if offset + length + xattrs > self.size:
            raise FormatError(f"{what} is damaged: its xattrs would end outside the image")
        return Inode(nid, offset, length, xattrs, mode, size, layout, union)

    def _chunks(self, inode: Inode) -> tuple[int, int, int]:
        """Where the index of chunks stands, how many there are, and bytes of each."""
        if not inode.union & _CHUNK_INDEXES:
            raise FormatError(f"inode {inode.nid} is damaged: it has no index of chunks")
        bits = (inode.union & _CHUNK_BITS) + self.block_size.bit_length() - 1
        at = inode.offset + inode.head + inode.xattrs
        at, count = at + -at % _CHUNK.size, -(-inode.size >> bits)
        if at + count * _CHUNK.size > self.size:
            raise FormatError(f"inode {inode.nid} is damaged: its chunks are too many")
        return at, count, 1 << bits

    def _pieces(self, inode: Inode) -> Iterator[tuple[int, int, int]]:
        """Where the data of an inode stands: (offset in the image, size, offset in the file)."""
        if stat.S_IFMT(inode.mode) in _NO_DATA or not inode.size:
            return
        if inode.layout == _CHUNKS:
            at, count, chunk = self._chunks(inode)
            self._spend(count * _CHUNK.size)
            for number in range(count):
                entry = self._bytes(at + number * _CHUNK.size, _CHUNK.size, "a chunk index")
                _, device, block = _CHUNK.unpack(entry)
                start = number * chunk
                size = min(chunk, inode.size - start)
                if block != _NO_BLOCK:
                    yield self._inside(self._start(device, block), size, inode), size, start
            return
        blocks = inode.size // self.block_size
        if inode.layout == _INLINE and not inode.size % self.block_size:
            blocks -= 1  # what Linux takes for the tail
        whole = inode.size if inode.layout == _PLAIN else blocks * self.block_size
        if whole and inode.union != _NO_BLOCK:
            yield self._inside(inode.union * self.block_size, whole, inode), whole, 0
        if tail := inode.size - whole:
            at = inode.offset + inode.head + inode.xattrs
            if at // self.block_size != (at + tail - 1) // self.block_size:
                raise FormatError(f"inode {inode.nid} is damaged: its tail crosses a block")
            yield self._inside(at, tail, inode), tail, whole

    def _start(self, device: int, block: int) -> int:
        if device > 1 or (device and not self.tar):
            raise FormatError(f"a chunk is on device {device}, which the image does not have")
        return (self._device if device else 0) + block * self.block_size

    def _inside(self, offset: int, size: int, inode: Inode) -> int:
        if offset + size > self.size:
            raise FormatError(
                f"inode {inode.nid} is damaged: its data would end at byte {offset + size} of an "
                f"image of {self.size}"
            )
        return offset

    def _entries(self, directory: Inode) -> Iterator[tuple[bytes, int]]:
        """Names and numbers of inodes in a directory, without itself and its parent."""
        self._spend(directory.size)
        for offset, size, _ in self._pieces(directory):
            for at in range(offset, offset + size, self.block_size):
                length = min(self.block_size, offset + size - at)
                yield from _names(self._bytes(at, length, "a directory"), directory)

    def lookup(self, path: bytes) -> Inode:
        """The inode that a path names, from the root on; symbolic links are not followed.

        Every name of a directory on the way is looked at: they must rise, or another reader could
        find another file by the same path.

        Raises:
            NotFoundError: there is none.
            FormatError: something on the way is damaged.
        """
        inode = self.inode(self._root)
        for name in (part for part in path.split(b"/") if part not in (b"", b".")):
            if not stat.S_ISDIR(inode.mode):
                raise NotFoundError(f"the image has no {os.fsdecode(path)}{_NAMES}")
            found, last = None, b""
            for other, nid in self._entries(inode):
                if other <= last:
                    raise FormatError("a directory is damaged: its names are not in order")
                last = other
                if other == name:
                    found = nid
            if found is None:
                raise NotFoundError(f"the image has no {os.fsdecode(path)}{_NAMES}")
            inode = self.inode(found)
        return inode

    def data(self, inode: Inode) -> Iterator[tuple[int, int, int]]:
        """Where the data of a file stands: (offset in the image, size, offset in the file).

        What no piece covers is zeros. FormatError if the inode is damaged.
        """
        return self._pieces(inode)

    def walk(self) -> Iterator[Extent]:
        """Everything in the image that has a meaning, directory by directory, but the tar's own.

        What cannot be read comes as an extent too, with its problem.
        """
        yield Extent(_SUPERBLOCK_AT, self._super_end - _SUPERBLOCK_AT, Kind.SUPERBLOCK)
        seen: set[int] = set()
        waiting = [(Entry(b"", None), self._root)]
        while waiting:
            entry, nid = waiting.pop()
            if nid in seen:
                continue
            seen.add(nid)
            inode = None
            try:
                inode = self.inode(nid)
                yield from self._own(inode, entry)
                if stat.S_ISDIR(inode.mode):
                    if entry.depth >= MAX_READ_DEPTH:
                        raise FormatError(f"directories are more than {MAX_READ_DEPTH} deep")
                    for name, child in self._entries(inode):
                        waiting.append((Entry(name, entry), child))
            except (FormatError, StorageError) as error:
                offset, size = (inode.offset, inode.head) if inode else self._slot(nid)
                yield Extent(offset, size, Kind.UNREADABLE, entry, problem=str(error))

    def _slot(self, nid: int) -> tuple[int, int]:
        """Where an inode should be that cannot be read; nowhere if that is outside the image."""
        offset = (self._meta + nid * _SLOT) % (1 << 64)
        return (offset, _SLOT) if offset + _SLOT <= self.size else (0, 0)

    def _own(self, inode: Inode, entry: Entry) -> Iterator[Extent]:
        for extent in self._claims(inode, entry):
            self._unclaimed -= extent.size
            if self._unclaimed < 0:
                raise FormatError("files share bytes, which no recipe makes")
            yield extent

    def _claims(self, inode: Inode, entry: Entry) -> Iterator[Extent]:
        yield Extent(inode.offset, inode.head, Kind.INODE, entry)
        if inode.xattrs:
            yield Extent(inode.offset + inode.head, inode.xattrs, Kind.XATTRS, entry)
        kind = _HAS_DATA.get(stat.S_IFMT(inode.mode))
        if kind is None:
            return
        if inode.layout == _CHUNKS and inode.size:
            at, count, _ = self._chunks(inode)
            yield Extent(at, count * _CHUNK.size, Kind.CHUNK_INDEX, entry)
        for offset, size, start in self._pieces(inode):
            yield Extent(offset, size, kind, entry, start)


_HAS_DATA = {
    stat.S_IFREG: Kind.DATA,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
}
_NO_DATA = (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)


def _names(block: bytes, directory: Inode) -> Iterator[tuple[bytes, int]]:
    """Names and numbers of inodes in one block of a directory (Linux: erofs_fill_dentries)."""
    damaged = FormatError(f"the directory of inode {directory.nid} is damaged")
    if len(block) < _DIRENT.size:
        raise damaged
    first = _DIRENT.unpack_from(block)[1]
    if not first or first % _DIRENT.size or first > len(block):
        raise damaged
    entries = [_DIRENT.unpack_from(block, at) for at in range(0, first, _DIRENT.size)]
    ends = [offset for _, offset, _ in entries[1:]] + [len(block)]
    for (nid, offset, _), end in zip(entries, ends, strict=True):
        name = block[offset:end] if first <= offset < end <= len(block) else b""
        if end == len(block):
            name = name.partition(b"\0")[0]
        if not name or len(name) > _MAX_NAME or b"/" in name or b"\0" in name:
            raise damaged
        if name not in (b".", b".."):
            yield name, nid
