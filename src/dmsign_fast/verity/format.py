"""Hash a file or device, and write the hash area beside or behind it."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsign_fast.errors import ParameterError, StorageError
from dmsign_fast.outputs import Outputs, storage_errors, write_all
from dmsign_fast.verity.params import HashArea, VerityParams
from dmsign_fast.verity.source import Source, open_source
from dmsign_fast.verity.superblock import Superblock
from dmsign_fast.verity.tree import HashTree, VerityHasher

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Formatted", "format_file"]

# What is hashed between two looks at signals, progress and the hash area that has grown: long
# against the start of threads, short against a person's patience.
_SPAN = 128 << 20
_SPAN_BLOCKS = 1 << 18
_PIPE_PIECE = 8 << 20


@dataclass(frozen=True)
class Formatted:
    """What format_file made.

    Attributes:
        superblock: None if there is none.
        hash_area: where the levels stand in the hash file.
    """

    params: VerityParams
    data_blocks: int
    root_hash: bytes
    hash_area: HashArea
    superblock: Superblock | None


class _LevelWriter:
    """Writes finished hash blocks where they belong, or spools them until that is known."""

    def __init__(self, path: Path, fd: int, area: HashArea | None) -> None:
        self._path = path
        self._fd = fd
        self._area = area
        self._spools = contextlib.ExitStack()
        self._levels: list[int] = []  # of the spooled levels, their descriptors
        self._ends: list[int] = []  # of each level, the bytes that it has

    def write(self, level: int, blocks: memoryview) -> None:
        while level >= len(self._ends):
            self._ends.append(0)
            if self._area is None:
                spool = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115
                self._levels.append(self._spools.enter_context(spool).fileno())
        at = self._ends[level]
        with storage_errors("write", self._path):
            if self._area is None:
                write_all(self._levels[level], blocks, at)
            else:
                write_all(self._fd, blocks, self._area.levels[level].offset + at)
        self._ends[level] += len(blocks)

    def finish(self, area: HashArea) -> None:
        if self._area is not None:
            return
        with self._spools, storage_errors("write", self._path):
            for spool, level in zip(self._levels, area.levels, strict=True):
                at = 0
                while piece := os.pread(spool, _PIPE_PIECE, at):
                    write_all(self._fd, piece, level.offset + at)
                    at += len(piece)


def _spans(source: Source, blocks: int, block_size: int) -> Iterator[tuple[int, int, bool]]:
    """The first ``blocks`` blocks of a source in units of work: (first block, blocks, a hole)."""
    most = min(max(1, _SPAN // block_size), _SPAN_BLOCKS)
    for first, count, hole in source.extents(0, blocks, block_size):
        # zeros cost nothing to hash: their unit is bound by the digests it makes
        step = _SPAN_BLOCKS if hole else most
        for at in range(first, first + count, step):
            yield at, min(step, first + count - at), hole


def _data_blocks(source: Source, params: VerityParams, data_blocks: int | None) -> int | None:
    """How many blocks to hash; None if only the end of a pipe will tell."""
    size, block = source.size, params.data_block_size
    if data_blocks is not None:
        if size is not None and size < data_blocks * block:
            raise StorageError(
                f"{source.path} has {size} bytes, fewer than {data_blocks} blocks of {block}: "
                "give fewer --data-blocks"
            )
        return data_blocks
    if size is None:
        return None
    if size % block:
        raise ParameterError(
            f"{source.path} has {size} bytes, not a multiple of the data block size, {block}: "
            f"pad it with zeros (truncate -s %{block} FILE), or leave the last {size % block} "
            f"bytes out with --data-blocks {size // block}"
        )
    if not size:
        raise ParameterError(
            f"{source.path} is empty: a dm-verity device has at least one data block"
        )
    return size // block


def _open_hash_file(
    source: Source, hash_file: Path, outputs: Outputs, hash_offset: int, data_end: int | None
) -> tuple[int, bool, bool]:
    """The descriptor of the hash file; is it changed in place; is it the data's own file."""
    try:
        status = hash_file.stat()
    except FileNotFoundError:
        return outputs.open(hash_file), False, False
    except OSError as error:
        raise StorageError(f"cannot write {hash_file}: {error.strerror}") from error
    same = os.path.samestat(source.status, status)
    if same and (data_end is None or hash_offset < data_end):
        raise ParameterError(
            f"the data in {hash_file} ends at byte {data_end} and the hash area would overlap it: "
            f"give --hash-offset {data_end} or more, or --data-blocks if a hash area stands "
            "behind the data already"
        )
    if same or hash_offset or not stat.S_ISREG(status.st_mode):
        return outputs.open_in_place(hash_file), True, same
    return outputs.open(hash_file), False, False


def _check_room(hash_file: Path, fd: int, area: HashArea) -> None:
    if not stat.S_ISBLK(os.fstat(fd).st_mode):
        return
    size = os.lseek(fd, 0, os.SEEK_END)
    if size < area.end:
        raise StorageError(
            f"{hash_file} has {size} bytes and the hash area ends at byte {area.end}"
        )


def _hash(
    source: Source,
    blocks: int | None,
    hasher: VerityHasher,
    writer: _LevelWriter | None,
    progress: Callable[[int], object],
) -> HashTree:
    block_size = hasher.params.data_block_size

    def grown(size: int) -> None:
        for level, _, hash_blocks in hasher.drain():
            if writer:
                writer.write(level, hash_blocks)
        progress(size)

    if source.size is None:
        left = None if blocks is None else blocks * block_size
        for piece in source.pieces(_PIPE_PIECE):
            taken = piece if left is None else piece[:left]
            hasher.update(taken)
            grown(len(taken))
            if left is not None:
                left -= len(taken)
                if not left:
                    break
        if left:
            raise StorageError(
                f"{source.path} ends {left} bytes before {blocks} blocks of {block_size}"
            )
    else:
        for first, count, hole in _spans(source, blocks or 0, block_size):
            if hole:
                hasher.update_zeros(count)
            else:
                hasher.update_file(source.fd, first * block_size, count)
            grown(count * block_size)
    tree = hasher.finalize()
    if writer:
        for level, hash_blocks in enumerate(tree.hash_blocks):
            writer.write(level, hash_blocks)
    return tree


def format_file(
    data: Path,
    hash_file: Path | None = None,
    params: VerityParams | None = None,
    *,
    data_blocks: int | None = None,
    hash_offset: int = 0,
    superblock: bool = True,
    superblock_uuid: uuid.UUID | None = None,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
    outputs: Outputs | None = None,
) -> Formatted:
    """Hash ``data`` and write superblock and hash area, as ``veritysetup format``.

    Args:
        data: a file, a block device or a pipe; ``-`` is standard input.
        hash_file: where to; None for the root hash alone. A new file appears by rename when it is
            complete. ``data`` itself, a block device, and with a ``hash_offset`` an existing file,
            are changed in place.
        params: see VerityParams.
        data_blocks: how many to hash; by default all.
        hash_offset: bytes before the superblock.
        superblock: whether there is one.
        superblock_uuid: its UUID, random by default.
        threads: every core by default.
        progress: called with the number of bytes hashed since its last call.
        outputs: files that are to appear together with the hash file.

    Raises:
        ParameterError: a value is outside its limits, or the data is no whole number of blocks.
        StorageError: something cannot be read or written; nothing is left half-written.
    """
    params = params or VerityParams()
    superblock = superblock and hash_file is not None
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(data))
        if outputs is None:
            outputs = stack.enter_context(Outputs())
        blocks = _data_blocks(source, params, data_blocks)
        area = params.hash_area(blocks or 1, hash_offset=hash_offset, superblock=superblock)
        writer = None
        fd, in_place, same = -1, False, False
        if hash_file is not None:
            data_end = None if blocks is None else blocks * params.data_block_size
            fd, in_place, same = _open_hash_file(source, hash_file, outputs, hash_offset, data_end)
            _check_room(hash_file, fd, area)
            writer = _LevelWriter(hash_file, fd, None if blocks is None else area)
        tree = _hash(source, blocks, VerityHasher(params, threads=threads), writer, progress)
        if not same:
            source.check_unchanged()
        area = params.hash_area(tree.data_blocks, hash_offset=hash_offset, superblock=superblock)
        written = None
        if hash_file is not None and writer is not None:
            writer.finish(area)
            if superblock:
                identity = {} if superblock_uuid is None else {"uuid": superblock_uuid}
                written = Superblock(params=params, data_blocks=tree.data_blocks, **identity)
                # last, and in place after all else is on the disk: it makes the hash area one
                with storage_errors("write", hash_file):
                    if in_place:
                        os.fsync(fd)
                    write_all(fd, written.pack(), hash_offset)
        return Formatted(params, tree.data_blocks, tree.root_hash, area, written)
