"""The door to error correction in the C core (csrc/dmsign.h, dmsign_fec_*); see _core."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsign_fast._core import DIGEST_SIZE, BlockHash, Implementations
from dmsign_fast._dmsign import ffi, lib
from dmsign_fast.errors import ParameterError, StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "FEC",
    "MAX_ROOTS",
    "MIN_ROOTS",
    "SYMBOLS",
    "FecCode",
    "FecPart",
]

SYMBOLS = 255
MIN_ROOTS = 2
MAX_ROOTS = 24


FEC = Implementations("FEC", "dmsign_fec_impl", "DMSIGN_FEC_IMPL")


@dataclass(frozen=True)
class FecPart:
    """``size`` bytes of a file from byte ``offset`` on, that stand at ``start`` of the message."""

    fd: int
    path: Path
    offset: int
    start: int
    size: int


class FecCode:
    """The Reed-Solomon code of a message; any number of threads may use one."""

    def __init__(self, roots: int, row_size: int, parts: Sequence[FecPart]) -> None:
        """Describe a message: its parts in rising order, zeros elsewhere.

        Args:
            roots: parity bytes of a codeword, 2 to 24.
            row_size: bytes of each of the 255 - roots rows, a multiple of 512.
            parts: their descriptors must stay open.

        Raises:
            ParameterError: out of these limits.
        """
        described = [(part.fd, part.offset, part.start, part.size) for part in parts]
        pointer = lib.dmsign_fec_new(roots, row_size, described, len(described))
        if pointer == ffi.NULL:
            if ffi.errno == errno.ENOMEM:
                raise MemoryError
            raise ParameterError(f"FEC of {roots} roots and {row_size} bytes: beyond its limits")
        self._code = ffi.gc(pointer, lib.dmsign_fec_free)
        self._parts = tuple(parts)
        self.roots = roots
        self.rows = SYMBOLS - roots
        self.row_size = row_size

    def encode(
        self,
        first: int,
        columns: int,
        parity: bytearray,
        threads: int,
        block_hash: BlockHash | None = None,
    ) -> bytearray:
        """Add the parity of ``columns`` columns from ``first`` on to ``parity``.

        With ``block_hash`` the blocks of the first part are hashed on the way: the digests, in an
        array of shape (rows, columns / block size, 32), zero where that part has no whole block.

        Raises:
            StorageError: a file ends or cannot be read.
        """
        digests = bytearray()
        if block_hash is not None:
            digests = bytearray(self.rows * (columns // block_hash.block_size) * DIGEST_SIZE)
        at = ffi.new("uint64_t *")
        result = lib.dmsign_fec_encode(
            self._code,
            first,
            columns,
            ffi.from_buffer("uint8_t[]", parity),
            ffi.NULL if block_hash is None else block_hash.pointer,
            ffi.from_buffer("uint8_t[]", digests),
            threads,
            at,
        )
        self._check(result, at[0])
        return digests

    def decode(
        self,
        first: int,
        columns: int,
        parity: FecPart,
        rows: Sequence[int],
        threads: int,
        *,
        erased: bool,
    ) -> tuple[bytearray, int, int]:
        """Decode ``columns`` columns from ``first`` on, whose parity is in the file ``parity``.

        Args:
            first: column, a multiple of 512.
            columns: how many, a multiple of 512.
            parity: of the whole message.
            rows: that are wanted.
            threads: how many to use.
            erased: whether these rows, at most ``roots`` then, are known to be bad: they are
                not read.

        Returns:
            The rows one behind another, ``columns`` bytes each; how many symbols were wrong (in
            other rows and the parity, if ``erased``); and how many columns have too many errors.

        Raises:
            StorageError: a file ends or cannot be read.
        """
        out = bytearray(len(rows) * columns)
        errors, failed, at = (ffi.new("uint64_t *") for _ in range(3))
        result = lib.dmsign_fec_decode(
            self._code,
            first,
            columns,
            parity.fd,
            parity.offset,
            bytes(rows),
            len(rows),
            erased,
            ffi.from_buffer("uint8_t[]", out),
            errors,
            failed,
            threads,
            at,
        )
        self._check(result, at[0], parity)
        return out, errors[0], failed[0]

    def _check(self, result: int, at: int, parity: FecPart | None = None) -> None:
        if not result:
            return
        if result == -errno.ENOMEM:
            raise MemoryError
        why = "the file ends here" if result == -errno.ENODATA else os.strerror(-result)
        behind = self.rows * self.row_size
        parts = list(self._parts)
        if parity:
            parts.append(
                FecPart(parity.fd, parity.path, parity.offset, behind, self.roots * self.row_size)
            )
        for part in parts:
            if part.start <= at < part.start + part.size:
                where = part.offset + at - part.start
                raise StorageError(f"cannot read {part.path} at byte {where}: {why}")
        raise OSError(-result, os.strerror(-result))
