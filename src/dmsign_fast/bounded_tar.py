"""The members of a tar from strangers: headers of any size are not read into memory."""

from __future__ import annotations

import tarfile
import zlib
from typing import IO, TYPE_CHECKING

from dmsign_fast.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["tar_members"]

_HEADERS_LIMIT = 1 << 20  # bytes: of the PAX, GNU and sparse headers before one member
_MOST_MEMBERS = 100_000


class _Headers:
    """A file that gives out a bounded number of bytes between two members, and in all."""

    def __init__(self, file: IO[bytes], what: str, limit: int | None) -> None:
        self._file, self._what, self._limit = file, what, limit
        self._left = _HEADERS_LIMIT

    def begin(self) -> None:
        self._left = _HEADERS_LIMIT

    def read(self, size: int = -1) -> bytes:
        self._left -= size
        if size < 0 or self._left < 0:
            raise FormatError(f"{self._what} has headers of more than {_HEADERS_LIMIT} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        if self._limit is not None and offset > self._limit:
            raise FormatError(f"{self._what} has more than {self._limit >> 20} MiB")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def tar_members(file: IO[bytes], what: str, limit: int | None = None) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar; their bytes begin at ``offset_data`` in the file.

    Args:
        file: not compressed, or what decompresses it.
        what: names it in messages.
        limit: bytes of the tar, for one that is decompressed.

    Raises:
        FormatError: no tar, damaged, more than 100,000 members, or more than a MiB of headers
            before one of them.
    """
    headers = _Headers(file, what, limit)
    try:
        with tarfile.open(fileobj=headers, mode="r:") as tar:  # type: ignore[call-overload]
            for _ in range(_MOST_MEMBERS):
                headers.begin()
                member = tar.next()
                if member is None:
                    return
                if member.size < 0:
                    raise FormatError(f"{what} has a member of {member.size} bytes")
                yield member
                tar.members.clear()  # it would keep them all
        raise FormatError(f"{what} has more than {_MOST_MEMBERS} members")
    except FormatError:
        raise
    except (tarfile.TarError, zlib.error, ValueError, OverflowError, EOFError) as error:
        raise FormatError(f"{what} is no whole tar: {error}") from error
    except RecursionError:  # by tarfile, of headers that stand before headers
        raise FormatError(f"{what} has very many headers before one member") from None
