"""What error correction covers and where its parity stands (kernel: drivers/md/dm-verity-fec.c).

The message is the data blocks, then the hash area without its superblock, then what stands behind
the hash area in its file (up to the parity, if that is there too): cryptsetup and Linux take it
in. It is dealt out to ``rounds`` rounds: block i * rounds + n of the message is symbol i of each of
the codewords of round n, and of these codeword j holds byte j of the blocks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsign_fast._core_fec import MAX_ROOTS, MIN_ROOTS, SYMBOLS, FecPart
from dmsign_fast.arguments import NUMBER, PATH, instance, takes
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    from pathlib import Path

    from dmsign_fast.verity.params import HashArea, VerityParams
    from dmsign_fast.verity.source import Source

__all__ = ["FEC_DEVICE", "FecArea", "FecDevice", "is_same_file", "message_parts"]

_SECTOR = 512
_MAX_FILE = (1 << 63) - 1


@takes(path=PATH, offset=NUMBER, roots=NUMBER)
@dataclass(frozen=True)
class FecDevice:
    """Where parity is, or goes, as ``veritysetup --fec-device`` and its like say it.

    Attributes:
        path: a file or block device; maybe that of the data or of the hash area.
        offset: bytes before the parity, a multiple of 512. Linux needs a multiple of the block
            size.
        roots: parity bytes of a codeword of 255 bytes, 2 to 24.

    Raises:
        ParameterError: one of them is outside its limits.
    """

    path: Path
    offset: int = 0
    roots: int = MIN_ROOTS

    def __post_init__(self) -> None:
        if not MIN_ROOTS <= self.roots <= MAX_ROOTS:
            raise ParameterError(
                f"{self.roots} FEC roots: use {MIN_ROOTS} to {MAX_ROOTS} parity bytes of 255"
            )
        if not 0 <= self.offset <= _MAX_FILE or self.offset % _SECTOR:
            raise ParameterError(f"FEC offset {self.offset} is not a multiple of {_SECTOR}")


FEC_DEVICE = instance(FecDevice, "a FecDevice")


@dataclass(frozen=True)
class FecArea:
    """The parity of one tree.

    Attributes:
        roots: parity bytes of a codeword.
        block_size: of data and hash blocks alike, bytes.
        offset: where the parity stands in its file, bytes.
        data_blocks: of the message.
        blocks: of the message in all.
        shared: whether the parity stands in the file of the hash area.
    """

    roots: int
    block_size: int
    offset: int
    data_blocks: int
    blocks: int
    shared: bool

    @classmethod
    def of(
        cls,
        params: VerityParams,
        fec: FecDevice,
        data_blocks: int,
        area: HashArea,
        *,
        hash_file_size: int,
        shared: bool,
    ) -> FecArea:
        """The parity of a tree whose hash file has, or will have, so many bytes.

        Raises:
            ParameterError: the block sizes differ, or areas in one file overlap.
        """
        size = params.data_block_size
        if params.hash_block_size != size:
            raise ParameterError(
                f"error correction needs one block size: data has {size} and hashes "
                f"{params.hash_block_size}"
            )
        if shared and fec.offset < area.end:
            raise ParameterError(
                f"the hash area in {fec.path} ends at byte {area.end} and the parity would overlap "
                f"it: give --fec-offset {area.end} or more"
            )
        covered_end = fec.offset if shared else max(hash_file_size, area.end)
        behind_data = max(0, covered_end // size - area.start // size)
        made = cls(fec.roots, size, fec.offset, data_blocks, data_blocks + behind_data, shared)
        if made.end > _MAX_FILE:
            raise ParameterError(f"the parity would end at byte {made.end}, beyond 2^63")
        return made

    @property
    def rows(self) -> int:
        """Symbols of data in a codeword."""
        return SYMBOLS - self.roots

    @property
    def rounds(self) -> int:
        """Blocks of each row of the message."""
        return -(-self.blocks // self.rows)

    @property
    def row_size(self) -> int:
        """Bytes of a row, which are as many codewords."""
        return self.rounds * self.block_size

    @property
    def parity_blocks(self) -> int:
        """Blocks that the parity takes."""
        return self.rounds * self.roots

    @property
    def end(self) -> int:
        """The byte after the parity."""
        return self.offset + self.parity_blocks * self.block_size


def is_same_file(path: Path, other: Path) -> bool:
    """Whether two names are, or would become, those of one file or device."""
    try:
        return path.samefile(other)
    except FileNotFoundError:
        return os.path.realpath(path) == os.path.realpath(other)


def message_parts(
    layout: FecArea, data: Source, hashes: tuple[int, Path, int], area: HashArea
) -> tuple[FecPart, FecPart]:
    """The message as it stands in the files.

    Args:
        layout: what it is made of.
        data: the data; blocks that it does not have count as zeros.
        hashes: descriptor, name and size in bytes of the hash file.
        area: where the hash area is in it.
    """
    fd, path, size = hashes
    data_size = layout.data_blocks * layout.block_size
    present = data_size if data.size is None else min(data_size, data.size)
    behind = (layout.blocks - layout.data_blocks) * layout.block_size
    return (
        FecPart(data.fd, data.path, 0, 0, present),
        FecPart(fd, path, area.start, data_size, max(0, min(behind, size - area.start))),
    )
