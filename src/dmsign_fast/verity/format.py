"""Hash a file or device, and write the hash area beside or behind it."""

from __future__ import annotations

import contextlib
import os
import uuid
from typing import TYPE_CHECKING, NamedTuple

from dmsign_fast import _core
from dmsign_fast.arguments import FUNCTION, NUMBER, PATH, Kind, instance, takes
from dmsign_fast.errors import ParameterError, StorageError
from dmsign_fast.outputs import Outputs
from dmsign_fast.verity.blocks import block_hash
from dmsign_fast.verity.hash_file import HashFile
from dmsign_fast.verity.params import PARAMS, HashArea, VerityParams
from dmsign_fast.verity.reading import hash_source
from dmsign_fast.verity.source import Source, open_source
from dmsign_fast.verity.superblock import Superblock
from dmsign_fast.verity.tree import HashTree, VerityHasher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dmsign_fast.verity.fec import FecArea, FecDevice
    from dmsign_fast.verity.fec_file import FecFile

__all__ = ["Formatted", "format_file"]


class Formatted(NamedTuple):
    """What format_file made.

    Attributes:
        superblock: None if there is none.
        hash_area: where the levels stand in the hash file.
        fec: where the parity stands and what it covers, if there is any.
    """

    params: VerityParams
    data_blocks: int
    root_hash: bytes
    hash_area: HashArea
    superblock: Superblock | None
    fec: FecArea | None = None


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
        leave_out = f", or leave the last {size % block} bytes out with --data-blocks "
        raise ParameterError(
            f"{source.path} has {size} bytes, not a multiple of the data block size, {block}: "
            f"pad it with zeros (truncate -s %{block} FILE)"
            + (f"{leave_out}{size // block}" if size > block else "")
        )
    if not size:
        raise ParameterError(
            f"{source.path} is empty: a dm-verity device has at least one data block"
        )
    return size // block


def _open_parity(
    fec: FecDevice,
    source: Source,
    hash_file: HashFile,
    area: HashArea,
    hasher: VerityHasher,
    blocks: int,
    outputs: Outputs,
) -> FecFile:
    from dmsign_fast.verity.fec import FecArea, is_same_file
    from dmsign_fast.verity.fec_file import FecFile

    layout = FecArea.of(
        hasher.params,
        fec,
        blocks,
        area,
        hash_file_size=os.lseek(hash_file.fd, 0, os.SEEK_END),
        shared=is_same_file(fec.path, hash_file.path),
    )
    return FecFile.open(fec, layout, source, hash_file.fd, outputs, hasher.threads)


def _hash(
    source: Source,
    blocks: int | None,
    hasher: VerityHasher,
    hash_file: HashFile | None,
    parity: FecFile | None,
    progress: Callable[[int], object],
) -> HashTree:
    def take(level: int, hash_blocks: memoryview) -> None:
        if hash_file:
            hash_file.write(level, hash_blocks)

    hashing = block_hash(hasher.params, hasher.params.data_block_size)
    if parity and isinstance(hashing, _core.BlockHash):
        # one reading for both: the rows of the message side by side
        parity.add_data(source, hashing, progress)
        for digests in parity.digests():
            hasher.update_digests(digests)
            for level, _, hash_blocks in hasher.drain():
                take(level, hash_blocks)
    else:
        hash_source(source, blocks, hasher, take, progress)
    tree = hasher.finalize()
    for level, hash_blocks in enumerate(tree.hash_blocks):
        take(level, hash_blocks)
    return tree


@takes(
    data=PATH,
    hash_file=PATH.or_none,
    params=PARAMS.or_none,
    data_blocks=NUMBER.or_none,
    hash_offset=NUMBER,
    superblock_uuid=instance(uuid.UUID, "a uuid.UUID").or_none,
    threads=NUMBER.or_none,
    progress=FUNCTION,
    fec=Kind("a FecDevice", lambda value: hasattr(value, "roots")).or_none,
)
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
    fec: FecDevice | None = None,
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
        fec: where parity for error correction goes; a new file appears as the hash file does.

    Raises:
        ParameterError: a value is outside its limits, or the data is no whole number of blocks;
            or with ``fec``, there is no hash file, or the data is a pipe.
        StorageError: something cannot be read or written; nothing is left half-written.
    """
    params = params or VerityParams()
    if fec and hash_file is None:
        raise ParameterError("error correction covers the hash area: give HASH for it")
    superblock = superblock and hash_file is not None
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(data))
        if outputs is None:
            outputs = stack.enter_context(Outputs())
        outputs.protect(data)
        if fec:
            source.seekable_size("error correction")
        blocks = _data_blocks(source, params, data_blocks)

        def area_of(blocks: int) -> HashArea:
            return params.hash_area(blocks, hash_offset=hash_offset, superblock=superblock)

        area = area_of(blocks or 1)
        opened = None
        if hash_file is not None:
            opened = stack.enter_context(
                HashFile.open(
                    hash_file,
                    source,
                    outputs,
                    hash_offset=hash_offset,
                    data_end=None if blocks is None else blocks * params.data_block_size,
                    area=None if blocks is None else area,
                )
            )
        hasher = VerityHasher(params, threads=threads)
        parity = None
        if fec and opened and blocks:
            parity = stack.enter_context(
                _open_parity(fec, source, opened, area, hasher, blocks, outputs)
            )
        tree = _hash(source, blocks, hasher, opened, parity, progress)
        source.check_unchanged()
        area = area_of(tree.data_blocks)
        written = None
        if superblock:
            written = Superblock(params, tree.data_blocks, superblock_uuid or uuid.uuid4())
        if opened:
            opened.finish(area, written)
            if parity:
                parity.finish(source, opened, area)
        layout = parity.layout if parity else None
        return Formatted(params, tree.data_blocks, tree.root_hash, area, written, layout)
