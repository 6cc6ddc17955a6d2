"""The parity as format writes it: of the data while it is hashed, then of the hash area."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from typing import TYPE_CHECKING, Self

from dmsign_fast import _core
from dmsign_fast._core_fec import FecCode, FecPart
from dmsign_fast.errors import ParameterError, StorageError
from dmsign_fast.outputs import Outputs, storage_errors, write_all
from dmsign_fast.verity.blocks import read_exactly
from dmsign_fast.verity.fec import message_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dmsign_fast.verity.fec import FecArea, FecDevice
    from dmsign_fast.verity.hash_file import HashFile
    from dmsign_fast.verity.params import HashArea
    from dmsign_fast.verity.source import Source

__all__ = ["FecFile"]

# Read between two looks at signals, as in format.py.
_SPAN = 128 << 20
_COPY = 8 << 20
_DIGEST = _core.DIGEST_SIZE


class FecFile:
    """An open file that gets parity.

    Rows are read side by side, so the digests of blocks come out of order: they wait in a nameless
    file beside it. So does the parity if it goes into the file of the data, which must not change
    before all of it was read.
    """

    def __init__(
        self, fd: int, device: FecDevice, layout: FecArea, *, waits: bool, threads: int
    ) -> None:
        """Begin with no parity; ``waits``: fd may not be written to before finish()."""
        self._fd = fd
        self._path = device.path
        self.layout = layout
        self._threads = threads
        self._spools = contextlib.ExitStack()
        self._digests = self._spool()
        self._work, self._at = (self._spool(), 0) if waits else (fd, layout.offset)
        self._begun = False

    @classmethod
    def open(
        cls,
        device: FecDevice,
        layout: FecArea,
        source: Source,
        hash_fd: int,
        outputs: Outputs,
        threads: int,
    ) -> FecFile:
        """Open it as one of ``outputs``, unless it is the hash file.

        Raises:
            ParameterError: it is the data, and the parity would overlap it.
            StorageError: it cannot be written, or is a device without room for the parity.
        """
        path = device.path
        data_end = layout.data_blocks * layout.block_size
        in_data = path.exists() and os.path.samestat(path.stat(), source.status)
        if in_data and device.offset < data_end:
            raise ParameterError(
                f"the data in {path} ends at byte {data_end} and the parity would overlap it: give "
                f"--fec-offset {data_end} or more, and --data-blocks if more stands behind the data"
            )
        if layout.shared:
            fd = hash_fd
        elif in_data or (path.exists() and (device.offset or not path.is_file())):
            fd = outputs.open_in_place(path)
        else:
            fd = outputs.open(path)
        if stat.S_ISBLK(os.fstat(fd).st_mode):
            size = os.lseek(fd, 0, os.SEEK_END)
            if size < layout.end:
                raise StorageError(
                    f"{path} has {size} bytes and the parity ends at byte {layout.end}: use a "
                    "larger device"
                )
        return cls(fd, device, layout, waits=in_data, threads=threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spools.close()

    def _spool(self) -> int:
        with storage_errors("write", self._path):
            spool = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115
        return self._spools.enter_context(spool).fileno()

    def add_data(
        self, data: Source, block_hash: _core.BlockHash, progress: Callable[[int], object]
    ) -> None:
        """Add the parity of the data, and hash its blocks, for digests().

        Raises:
            StorageError: something cannot be read or written.
        """
        size = self.layout.data_blocks * self.layout.block_size
        self._add([FecPart(data.fd, data.path, 0, 0, size)], block_hash, progress)

    def _add(
        self,
        parts: Sequence[FecPart],
        block_hash: _core.BlockHash | None = None,
        progress: Callable[[int], object] = lambda _: None,
    ) -> None:
        layout = self.layout
        code = FecCode(layout.roots, layout.row_size, parts)
        unit = layout.block_size
        step = max(unit, _SPAN // layout.rows // unit * unit)
        told = 0
        for first in range(0, layout.row_size, step):
            columns = min(step, layout.row_size - first)
            size, at = columns * layout.roots, self._at + first * layout.roots
            parity = bytearray(read_exactly(self._work, at, size) if self._begun else size)
            digests = code.encode(first, columns, parity, self._threads, block_hash)
            with storage_errors("write", self._path):
                write_all(self._work, parity, at)
                if block_hash:
                    self._keep(digests, first // unit, columns // unit)
            done = parts[0].size * (first + columns) // layout.row_size
            progress(done - told)
            told = done
        self._begun = True

    def _keep(self, digests: bytearray, first: int, blocks: int) -> None:
        view = memoryview(digests)
        for row in range(self.layout.rows):
            number = row * self.layout.rounds + first
            count = min(blocks, self.layout.data_blocks - number)
            if count <= 0:
                break
            at = row * blocks * _DIGEST
            write_all(self._digests, view[at : at + count * _DIGEST], number * _DIGEST)

    def digests(self) -> Iterator[bytes]:
        """The digests of all data blocks in order, in pieces, once add_data() hashed them."""
        size = self.layout.data_blocks * _DIGEST
        for at in range(0, size, _COPY):
            yield read_exactly(self._digests, at, min(_COPY, size - at))

    def finish(self, data: Source, hash_file: HashFile, area: HashArea) -> None:
        """Add the parity of what was not added yet, and bring it to its place.

        Raises:
            StorageError: something cannot be read or written.
        """
        hashes = hash_file.fd, hash_file.path, os.lseek(hash_file.fd, 0, os.SEEK_END)
        parts = message_parts(self.layout, data, hashes, area)
        self._add(parts[1:] if self._begun else parts)
        if self._work == self._fd:
            return
        at, size = 0, self.layout.end - self.layout.offset
        with storage_errors("write", self._path):
            while at < size:
                piece = os.pread(self._work, min(_COPY, size - at), at)
                write_all(self._fd, piece, self.layout.offset + at)
                at += len(piece)
