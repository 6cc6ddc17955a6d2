"""Where the headers of a tar stand, in a tar that may be damaged.

POSIX.1-2008, pax, "ustar interchange format"; GNU tar's manual, "Basic Tar Format". As in
mkfs.erofs, bytes of data follow a header of any type that has a size.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dmsign_fast.erofs.reader import Entry, Extent, Kind
from dmsign_fast.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dmsign_fast.erofs.reader import Read

__all__ = ["BLOCK", "is_tar_header", "tar_headers"]

BLOCK = 512
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
_SUMMED = 500  # bytes, by mkfs.erofs
_EXTENSIONS = b"xgLK"
_MAX_EXTENSION = 1 << 20  # bytes that are read of one; bounds.h of the C core has the same
_ROOT = Entry(b"", None)


def tar_headers(read: Read, start: int, end: int) -> Iterator[Extent]:
    """Every entry's headers, with those of PAX and GNU, of a tar in bytes ``start`` to ``end``.

    A block that should be a header and is none comes as unreadable, and the next blocks are tried:
    what data looks like a header then is taken for one. The end of the archive comes too.
    """
    at = begun = start
    name, size = b"", None  # as an extension has them
    while at + BLOCK <= end:
        try:
            block = read(at, BLOCK)
        except StorageError as error:
            yield Extent(at, BLOCK, Kind.UNREADABLE, problem=str(error))
            at = begun = at + BLOCK
            continue
        if not any(block):
            if at + 2 * BLOCK > end or not any(read(at + BLOCK, BLOCK)):
                yield Extent(at, end - at, Kind.TAR_END)
                return
            at = begun = at + BLOCK
            continue
        length = _number(block[_SIZE])
        if length is None or not is_tar_header(block):
            yield Extent(at, BLOCK, Kind.UNREADABLE, problem="this is no header of a tar")
            at = begun = at + BLOCK
            continue
        kind = block[156:157]
        if kind in _EXTENSIONS and kind:
            stop = at + BLOCK + length + -length % BLOCK
            text = read(at + BLOCK, min(length, _MAX_EXTENSION, max(0, end - at - BLOCK)))
            if kind == b"L":
                name = text.rstrip(b"\0")
            elif kind == b"x":
                found = _pax(text)
                name = found.get(b"path", name)
                if found.get(b"size", b"").isdigit():
                    size = int(found[b"size"][:20])
            at = stop
            continue
        stop = min(at + BLOCK, end)
        yield Extent(begun, stop - begun, Kind.TAR_HEADER, _entry(name or _name(block)))
        length = length if size is None else size
        at = begun = at + BLOCK + length + -length % BLOCK
        name, size = b"", None


def _entry(path: bytes) -> Entry:
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    return Entry(b"/".join(parts), _ROOT)


def _number(field: bytes) -> int | None:
    if field[0] & 0x80:  # base 256; a negative size is none
        return int.from_bytes(field[1:]) if field[0] == 0x80 else None
    digits = field.strip(b" \0")
    return int(digits or b"0", 8) if re.fullmatch(rb"[0-7]*", digits) else None


def is_tar_header(block: bytes) -> bool:
    """Whether a block has the checksum of a header: of all bytes, or as mkfs.erofs wants it.

    mkfs.erofs leaves out the last 12 bytes, and takes the sum of signed bytes too.
    """
    if len(block) < BLOCK:
        return False
    said = _number(block[_CHECKSUM])
    summed = block[: _CHECKSUM.start] + 8 * b" " + block[_CHECKSUM.stop :]
    left_out = summed[_SUMMED:]
    total = sum(summed) - sum(left_out)
    signed = total - 256 * sum(byte >= 0x80 for byte in summed[:_SUMMED])
    return said in (sum(summed), total, signed)


def _name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0]
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


_RECORD = re.compile(rb"([0-9]{1,7}) ([^=\n]{1,300})=")


def _pax(text: bytes) -> dict[bytes, bytes]:
    """The records of a PAX header, a length, key and value each, up to the first damaged one."""
    found: dict[bytes, bytes] = {}
    at = 0
    while match := _RECORD.match(text, at):
        end = at + int(match[1])
        if end <= match.end() or end > len(text) or text[end - 1 : end] != b"\n":
            break
        found[match[2]] = text[match.end() : end - 1]
        at = end
    return found
