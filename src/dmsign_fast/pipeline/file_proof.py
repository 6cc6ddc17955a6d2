"""Proofs that a path of an image is a file of such contents, against a root hash alone."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsign_fast.erofs.reader import ErofsReader
from dmsign_fast.errors import FormatError, ParameterError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dmsign_fast.erofs.reader import Inode, Read
    from dmsign_fast.pipeline.proof import CheckedProof

__all__ = ["ProvenFile", "blocks_of_file", "proven_file"]

_PIECE = 1 << 20


@dataclass(frozen=True)
class ProvenFile:
    """A file as the image has it.

    Attributes:
        path: in the image.
        size: bytes of its contents.
        mode: type and permissions.
        sha256: of its contents, hex.
    """

    path: str
    size: int
    mode: int
    sha256: str


class _Recorder:
    """Notes which bytes of a device are read."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.ranges: list[tuple[int, int]] = []

    def __call__(self, offset: int, size: int) -> bytes:
        self.ranges.append((offset, size))
        return self._read(offset, size)


def _find(read: Read, size: int, path: bytes) -> tuple[Inode, list[tuple[int, int, int]]]:
    """The inode of a file and the pieces of its contents, without a gap."""
    image = ErofsReader(read, size)
    inode = image.lookup(path)
    if not stat.S_ISREG(inode.mode):
        raise ParameterError(
            f"{os.fsdecode(path)} is no regular file of the image: name a file itself, since links "
            "are not followed"
        )
    pieces = sorted(image.data(inode), key=lambda piece: piece[2])
    end = 0
    for _, length, at in pieces:
        if at != end:
            break
        end += length
    if end != inode.size:
        raise FormatError("the file has holes, which no recipe makes")
    return inode, pieces


def _runs(ranges: Iterable[tuple[int, int]], block: int) -> tuple[tuple[int, int], ...]:
    """The blocks of ranges of bytes as runs (first, how many), with a gap between two."""
    runs: list[tuple[int, int]] = []
    for offset, size in sorted(ranges):
        first, end = offset // block, -(-(offset + size) // block)
        if runs and first <= sum(runs[-1]):
            runs[-1] = runs[-1][0], max(end, sum(runs[-1])) - runs[-1][0]
        elif end > first:
            runs.append((first, end - first))
    return tuple(runs)


def blocks_of_file(read: Read, size: int, block: int, path: bytes) -> tuple[tuple[int, int], ...]:
    """The blocks of ``block`` bytes that show what a path of an image is: (first, how many).

    They are those of the superblock, of inodes and directories on the way, and of the contents.

    Args:
        read: the image's bytes.
        size: of the image.
        block: bytes of a block of the hash tree.
        path: of a regular file.

    Raises:
        NotFoundError: there is no such path.
        ParameterError: it is no regular file.
        FormatError: the image is damaged, or none that a recipe makes.
    """
    recorder = _Recorder(read)
    _, pieces = _find(recorder, size, path)
    return _runs([*recorder.ranges, *((offset, length) for offset, length, _ in pieces)], block)


def proven_file(proof: CheckedProof) -> ProvenFile:
    """The file that the path of a checked proof names, from the proven blocks alone.

    Raises:
        VerificationError: the proof lacks a block for that, or has others.
        NotFoundError, ParameterError, FormatError: as blocks_of_file.
    """
    statement = proof.statement
    path, block = statement.path, statement.params.data_block_size
    assert path is not None  # noqa: S101
    size = statement.data_blocks * block
    if blocks_of_file(proof.read, size, block, path) != statement.runs:
        raise VerificationError("the proof has other blocks than those that its path needs")
    inode, pieces = _find(proof.read, size, path)
    digest = hashlib.sha256()
    for piece in _contents(proof, pieces):
        digest.update(piece)
    return ProvenFile(os.fsdecode(path), inode.size, inode.mode, digest.hexdigest())


def _contents(proof: CheckedProof, pieces: Iterable[tuple[int, int, int]]) -> Iterator[bytes]:
    for offset, size, _ in pieces:
        for at in range(offset, offset + size, _PIECE):
            yield proof.read(at, min(_PIECE, offset + size - at))
