"""Repair data and hash area by their parity, or tell what could be."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

from dmsign_fast import _core
from dmsign_fast._core_fec import FecCode, FecPart
from dmsign_fast.arguments import BYTES, FUNCTION, NUMBER, PATH, takes
from dmsign_fast.errors import FormatError, ParameterError, UnrepairedError
from dmsign_fast.outputs import Outputs, storage_errors, write_all
from dmsign_fast.verity.blocks import LevelBlocks, block_hash
from dmsign_fast.verity.fec import FEC_DEVICE, FecArea, FecDevice, is_same_file, message_parts
from dmsign_fast.verity.params import PARAMS
from dmsign_fast.verity.report import BadBlocks, Repaired
from dmsign_fast.verity.source import Source, open_source
from dmsign_fast.verity.verify import read_superblock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dmsign_fast.verity.fec_decode import Decoder, Stage
    from dmsign_fast.verity.params import HashArea, VerityParams

__all__ = ["repair_file"]

_COPY = 1 << 20


class _Files:
    """The files as they are read, and where mended blocks go: by default, nowhere.

    Attributes:
        data: is read; a copy if one is made.
        hashes: the same; mended hash blocks must be read again, so it is always one to write to.
        data_fd: gets mended data blocks; None for none.
    """

    def __init__(self, stack: contextlib.ExitStack, data: Source, hashes: Source) -> None:
        self._stack = stack
        self.data, self.hashes = data, hashes
        self.data_fd: int | None = None
        self._same = os.path.samestat(data.status, hashes.status)
        self._ours = False

    def in_place(self) -> None:
        """Mend the files themselves."""
        self.data_fd = self._open(self.data.path)
        hash_fd = self.data_fd if self._same else self._open(self.hashes.path)
        self.hashes, self._ours = Source(self.hashes.path, hash_fd), True

    def _open(self, path: Path) -> int:
        with storage_errors("write", path):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._stack.callback(os.close, fd)
        return fd

    def copy(self, output: Path, hash_output: Path | None, outputs: Outputs) -> None:
        """Mend copies of them."""
        self.data_fd = outputs.open(output)
        _copy(self.data, self.data_fd, 0, output)
        self.data = Source(output, self.data_fd)
        if self._same:
            self.hashes, self._ours = self.data, True
        elif hash_output:
            hash_fd = outputs.open(hash_output)
            _copy(self.hashes, hash_fd, 0, hash_output)
            self.hashes, self._ours = Source(hash_output, hash_fd), True

    def keep_hashes(self, start: int) -> None:
        """Mend a nameless copy of the hash area, if no file is there to be mended."""
        if not self._ours:
            spool = tempfile.TemporaryFile()  # noqa: SIM115
            self._stack.enter_context(spool)
            _copy(self.hashes, spool.fileno(), start, self.hashes.path)
            self.hashes = Source(self.hashes.path, spool.fileno())


def _copy(source: Source, fd: int, start: int, path: Path) -> None:
    """Copy a file from ``start`` on; holes, and what cannot be read, become holes."""
    size, unit = source.seekable_size("repairing"), 4096
    os.ftruncate(fd, size)

    def copy(at: int, end: int) -> None:
        for piece in range(at, end, _COPY):
            with storage_errors("write", path):
                write_all(fd, _readable(source.fd, piece, min(_COPY, end - piece)), piece)

    first = start // unit
    for number, count, hole in source.extents(first, max(0, size // unit - first), unit):
        if not hole:
            copy(number * unit, (number + count) * unit)
    copy(size // unit * unit, size)


def _readable(fd: int, at: int, size: int) -> bytes:
    """What can be read, with zeros where that is not possible."""
    with contextlib.suppress(OSError):
        return os.pread(fd, size, at).ljust(size, b"\0")
    if size <= 512:
        return bytes(size)
    half = size // 1024 * 512 or 512
    return _readable(fd, at, half) + _readable(fd, at + half, size - half)


def _stages(
    params: VerityParams, area: HashArea, layout: FecArea, files: _Files, *, writes: bool
) -> list[Stage]:
    from dmsign_fast.verity.fec_decode import Stage

    size, hashing = params.data_block_size, block_hash(params, params.data_block_size)

    def present(source: Source, offset: int, blocks: int) -> int:
        return max(0, min(blocks, ((source.size or 0) - offset) // size))

    data = layout.data_blocks
    stages = [
        Stage(
            LevelBlocks(None, files.data, 0, data, hashing),
            present(files.data, 0, data),
            0,
            files.data_fd if writes else None,
        )
    ]
    for number, level in enumerate(area.levels):
        stages.append(
            Stage(
                LevelBlocks(number, files.hashes, level.offset, level.blocks, hashing),
                present(files.hashes, level.offset, level.blocks),
                data + (level.offset - area.start) // size,
                files.hashes.fd,
            )
        )
    return stages


@takes(
    data=PATH,
    hash_file=PATH,
    root_hash=BYTES,
    fec=FEC_DEVICE,
    output=PATH.or_none,
    hash_output=PATH.or_none,
    params=PARAMS.or_none,
    data_blocks=NUMBER.or_none,
    hash_offset=NUMBER,
    threads=NUMBER.or_none,
    progress=FUNCTION,
)
def repair_file(
    data: Path,
    hash_file: Path,
    root_hash: bytes,
    fec: FecDevice,
    *,
    output: Path | None = None,
    hash_output: Path | None = None,
    in_place: bool = False,
    params: VerityParams | None = None,
    data_blocks: int | None = None,
    hash_offset: int = 0,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Repaired:
    """Bring bad blocks back by the parity that format_file or ``veritysetup format`` wrote.

    A block is written only if it has the digest that the tree, up to the root hash, holds for it.
    Without ``output`` and ``in_place`` nothing is written, and what could be repaired is told.

    Args:
        data: a file or block device; what it lacks at its end counts as bad blocks.
        hash_file: a file or block device, maybe the same.
        root_hash: its bytes.
        fec: where the parity is.
        output: a new file, the data repaired (and the hash area, if it is in the same file). It
            appears only if every block was repaired.
        hash_output: the same for the hash file.
        in_place: repair the files themselves. What can be repaired is, even if more cannot.
        params: None to take them from the superblock; else there is none.
        data_blocks: without a superblock, how many; by default all of ``data``.
        hash_offset: bytes before the superblock, or without one, before the hash area.
        threads: every core by default.
        progress: called with the number of data bytes judged since its last call.

    Raises:
        UnrepairedError: something stays bad; its ``report`` names every such block.
        FormatError: no superblock, or an FEC device that ends before the parity does.
        ParameterError: a value is outside its limits.
        StorageError: something cannot be read or written.
    """
    from dmsign_fast.verity.fec_decode import Decoder

    if in_place and (output or hash_output):
        raise ParameterError("repair in place or to a new file, not both")
    if hash_output and not output:
        raise ParameterError("a file for hashes needs one for the data: give --output")
    with contextlib.ExitStack() as stack:
        outputs = stack.enter_context(Outputs())
        read, hashes, parity_file = (
            stack.enter_context(open_source(path)) for path in (data, hash_file, fec.path)
        )
        for path in (data, hash_file, fec.path):
            outputs.protect(path)
        size = read.seekable_size("repairing")
        superblock = params is None
        if params is None:
            known = read_superblock(hashes, hash_offset)
            params, blocks = known.params, known.data_blocks
        else:
            blocks = size // params.data_block_size if data_blocks is None else data_blocks
        params.check_root_hash(root_hash)
        area = params.hash_area(blocks, hash_offset=hash_offset, superblock=superblock)
        hash_size = hashes.seekable_size("reading a hash area")
        layout = FecArea.of(
            params,
            fec,
            blocks,
            area,
            hash_file_size=hash_size,
            shared=is_same_file(fec.path, hash_file),
        )
        if parity_file.seekable_size("reading parity") < layout.end:
            raise FormatError(
                f"{fec.path} has {parity_file.size} bytes and its parity should end at byte "
                f"{layout.end}: it is cut short, or --fec-roots and --fec-offset are not its own"
            )
        files = _Files(stack, read, hashes)
        if in_place:
            files.in_place()
        elif output:
            files.copy(output, hash_output, outputs)
        files.keep_hashes(area.start)
        parts = message_parts(
            layout, files.data, (files.hashes.fd, files.hashes.path, hash_size), area
        )
        stages = _stages(params, area, layout, files, writes=in_place or output is not None)
        decoder = Decoder(
            params,
            layout,
            stages,
            root_hash,
            FecCode(layout.roots, layout.row_size, parts),
            FecPart(parity_file.fd, fec.path, fec.offset, 0, 0),
            _core.thread_count(threads),
        )
        counted = decoder.count_errors() if not in_place and not output else None
        decoder.run(progress)
        if in_place:
            for fd in {stage.fd for stage in stages if stage.fd is not None}:
                os.fsync(fd)
        else:
            read.check_unchanged()
        report = _report(decoder, stages, blocks, root_hash, counted or decoder.errors)
        if report.unrepaired:
            raise UnrepairedError(_summary(report), report)
        in_hashes = [bad for bad in report.repaired if bad.level is not None]
        if output and in_hashes and not hash_output and not is_same_file(data, hash_file):
            raise ParameterError(
                f"blocks of {hash_file} are bad too: give --hash-output for a repaired copy"
            )
        return report


def _report(
    decoder: Decoder, stages: list[Stage], data_blocks: int, root_hash: bytes, errors: int
) -> Repaired:
    repaired: list[BadBlocks] = []
    unrepaired: list[BadBlocks] = []
    for at, stage in enumerate(stages):
        lost = decoder.unverifiable(at)
        for found, numbers, reason in (
            (repaired, stage.mended, "digest"),
            (unrepaired, stage.bad, "digest"),
            (unrepaired, lost, "unverifiable"),
        ):
            if len(numbers):
                found.append(stage.bad_blocks(numbers, reason))
    return Repaired(data_blocks, root_hash, tuple(repaired), tuple(unrepaired), errors)


def _summary(report: Repaired) -> str:
    blocks = sum(bad.blocks for bad in report.unrepaired)
    return (
        f"{blocks} block(s) cannot be repaired: too many are bad together, or the parity is of "
        "other data or another hash area"
    )
