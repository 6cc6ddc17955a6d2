"""Where data comes from: a file, a block device, or a pipe."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.errors import ParameterError, StorageError
from dmsign_fast.outputs import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Source", "open_source"]


class Source:
    """An open input.

    Attributes:
        path: as the user gave it; ``-`` is standard input.
        fd: its file descriptor.
        size: bytes of a file or block device; None for a pipe, which has no positions either.
    """

    def __init__(self, path: Path, fd: int) -> None:
        """Take over an open descriptor; storage_errors applies."""
        self.path = path
        self.fd = fd
        self.size: int | None = None
        self.status = os.fstat(fd)
        mode = self.status.st_mode
        if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            self.size = os.lseek(fd, 0, os.SEEK_END)
        elif stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    def seekable_size(self, what: str) -> int:
        """The size in bytes; ParameterError that says ``what`` needs it if this is a pipe."""
        if self.size is None:
            raise ParameterError(
                f"{self.path} is a pipe, and {what} needs a file or a block device"
            )
        return self.size

    def _check_size(self, size: int) -> None:
        now = os.lseek(self.fd, 0, os.SEEK_END)
        if now < size:
            raise StorageError(f"cannot read {self.path} at byte {now}: the file ends here")

    def check_unchanged(self) -> None:
        """StorageError if a file was written to since it was opened.

        Whoever may write may set mtime back, but not ctime.
        """
        now = os.fstat(self.fd)
        if self.size is not None and any(
            getattr(now, name) != getattr(self.status, name)
            for name in ("st_size", "st_mtime_ns", "st_ctime_ns")
        ):
            raise StorageError(
                f"{self.path} was changed while it was read: hash it when nobody writes to it"
            )

    def extents(self, first: int, blocks: int, block_size: int) -> Iterator[tuple[int, int, bool]]:
        """Runs of blocks in ``blocks`` from ``first`` on: (first block, blocks, is a hole).

        A hole is what the file system knows to be zeros (SEEK_HOLE); a block that is not wholly
        in one counts as data.
        """
        at, size = first * block_size, (first + blocks) * block_size
        while at < size:
            try:
                data = os.lseek(self.fd, at, os.SEEK_DATA)
                hole = os.lseek(self.fd, data, os.SEEK_HOLE)
            except OSError as error:
                # ENXIO: nothing but a hole is left; else the file system does not know holes
                data, hole = (size, size) if error.errno == errno.ENXIO else (at, size)
                self._check_size(size)
            data = min(data, size) // block_size * block_size
            hole = min(-(-hole // block_size) * block_size, size)
            if data > at:
                yield at // block_size, (data - at) // block_size, True
            if hole > data:
                yield data // block_size, (hole - data) // block_size, False
            at = max(data, hole)

    def pieces(self, size: int) -> Iterator[memoryview]:
        """A pipe's bytes to its end, ``size`` at a time; each piece until the next is taken."""
        buffer = memoryview(bytearray(size))
        have = 0
        at = 0
        while True:
            try:
                got = os.readv(self.fd, [buffer[have:]])
            except OSError as error:
                raise StorageError(
                    f"cannot read {self.path} at byte {at}: {error.strerror}"
                ) from error
            at += got
            have += got
            if have == size or (not got and have):
                yield buffer[:have]
                have = 0
            if not got:
                return


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open an input for reading; StorageError if that is not possible."""
    with storage_errors("read", path):
        fd = os.dup(0) if str(path) == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with storage_errors("read", path):
            source = Source(path, fd)
        yield source
    finally:
        os.close(fd)
