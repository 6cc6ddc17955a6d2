"""The hash file as format writes it: levels as they grow, and the superblock last."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from typing import TYPE_CHECKING, Self

from dmsign_fast.errors import ParameterError, StorageError
from dmsign_fast.outputs import Outputs, storage_errors, write_all
from dmsign_fast.verity.superblock import SUPERBLOCK_SIZE, Superblock

if TYPE_CHECKING:
    from pathlib import Path

    from dmsign_fast.verity.params import HashArea, VerityParams
    from dmsign_fast.verity.source import Source

__all__ = ["HashFile"]

_COPY = 8 << 20


class HashFile:
    """An open hash file.

    Finished hash blocks go where they belong at once. Where that is not known yet (the data is a
    pipe), or the data stands in the same file and must not change before its end, they wait in
    nameless files beside it.

    Attributes:
        fd: the file, open for reading and writing.
        path: its name.
    """

    def __init__(
        self,
        fd: int,
        path: Path,
        *,
        hash_offset: int,
        area: HashArea | None,
        in_place: bool = False,
    ) -> None:
        """Begin a hash area in a file that is open for writing.

        Args:
            fd: the file.
            path: its name, for messages, and the place of nameless files.
            hash_offset: of the superblock.
            area: where the levels go; None if that is known only at the end.
            in_place: whether others can see the file already.
        """
        self.fd = fd
        self.path = path
        self._offset = hash_offset
        self._area = area
        self._in_place = in_place
        self._spools = contextlib.ExitStack()
        self._levels: list[int] = []  # of each spooled level, the descriptor
        self._ends: list[int] = []  # of each level, the bytes that were written

    @classmethod
    def open(
        cls,
        path: Path,
        source: Source,
        outputs: Outputs,
        *,
        hash_offset: int,
        data_end: int | None,
        area: HashArea | None,
    ) -> HashFile:
        """Open a file as one of ``outputs``.

        ``data_end``, the size of the data in bytes, and ``area`` are None if they are not known.

        Raises:
            ParameterError: it is the data, and the hash area would overlap it.
            StorageError: it cannot be written, or is a device without room for the hash area.
        """
        try:
            status = path.stat()
        except FileNotFoundError:
            return cls(outputs.open(path), path, hash_offset=hash_offset, area=area)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        same = os.path.samestat(source.status, status)
        if same and (data_end is None or hash_offset < data_end):
            raise ParameterError(
                f"the data in {path} ends at byte {data_end} and the hash area would overlap it: "
                f"give --hash-offset {data_end} or more, or --data-blocks if a hash area stands "
                "behind the data already"
            )
        in_place = same or bool(hash_offset) or not stat.S_ISREG(status.st_mode)
        fd = (outputs.open_in_place if in_place else outputs.open)(path)
        if area and stat.S_ISBLK(status.st_mode):
            size = os.lseek(fd, 0, os.SEEK_END)
            if size < area.end:
                raise StorageError(
                    f"{path} has {size} bytes and the hash area ends at byte {area.end}: use a "
                    "larger device"
                )
        where = None if same else area
        return cls(fd, path, hash_offset=hash_offset, area=where, in_place=in_place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spools.close()

    def write(self, level: int, blocks: memoryview) -> None:
        """Append finished hash blocks to a level."""
        with storage_errors("write", self.path):
            while level >= len(self._ends):
                self._ends.append(0)
                if self._area is None:
                    import tempfile

                    spool = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115
                    self._levels.append(self._spools.enter_context(spool).fileno())
            at = self._ends[level]
            if self._area is None:
                write_all(self._levels[level], blocks, at)
            else:
                write_all(self.fd, blocks, self._area.levels[level].offset + at)
        self._ends[level] += len(blocks)

    def finish(self, area: HashArea, superblock: Superblock | None) -> None:
        """Bring everything to its place."""
        with storage_errors("write", self.path):
            for spool, level in zip(self._levels, area.levels, strict=bool(self._levels)):
                at = 0
                while piece := os.pread(spool, _COPY, at):
                    write_all(self.fd, piece, level.offset + at)
                    at += len(piece)
            if superblock:
                # in place after all else is on the disk: it makes the hash area one
                if self._in_place:
                    os.fsync(self.fd)
                write_all(self.fd, superblock.pack(), self._offset)
                self._fill_last_block(superblock.params)

    def _fill_last_block(self, params: VerityParams) -> None:
        """Without a level the superblock ends the file: fill its block up, as veritysetup."""
        end = self._offset + SUPERBLOCK_SIZE
        end += -end % min(params.hash_block_size, mmap.PAGESIZE)
        status = os.fstat(self.fd)
        if stat.S_ISREG(status.st_mode) and status.st_size < end:
            os.ftruncate(self.fd, end)
