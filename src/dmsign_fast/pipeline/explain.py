"""What stands in given blocks of an EROFS image, for people who have to mend or judge it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsign_fast.erofs.places import Place, extents_of, map_of, places_of
from dmsign_fast.erofs.reader import ErofsReader, Kind
from dmsign_fast.errors import FormatError, StorageError
from dmsign_fast.verity.blocks import read_exactly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dmsign_fast.erofs.reader import Read
    from dmsign_fast.verity.source import Source

__all__ = ["Explained", "explain", "explain_map"]


@dataclass(frozen=True)
class Explained:
    """What stands in ranges of an image.

    Attributes:
        size: bytes of the image that were looked at.
        block_size: bytes of a block of EROFS; None if the image cannot be read.
        tar: whether the image is metadata in front of a tar.
        problem: why nothing can be said: no EROFS image, or its superblock is damaged.
        places: what stands in each range, in their order, cut at the ranges' borders.
    """

    size: int
    block_size: int | None
    tar: bool
    problem: str | None
    places: tuple[Place, ...]

    def cut(self, offset: int, size: int) -> list[Place]:
        """The places in some of the bytes that were asked for, cut at their borders."""
        end, found = offset + size, []
        for one in self.places:
            start, stop = max(offset, one.offset), min(end, one.offset + one.size)
            if start < stop:
                at = one.at + start - one.offset if one.kind is Kind.DATA else one.at
                found.append(one._replace(offset=start, size=stop - start, at=at))
        return found


def explain(source: Source, size: int, ranges: Sequence[tuple[int, int]]) -> Explained:
    """Say what stands in ranges (offset, size) of an image of ``size`` bytes.

    The ranges rise and do not overlap. The image may be damaged: what a damaged directory or inode
    leads to is not known, and stands as a hole or padding beside what is unreadable.
    """
    read = _reading(source)
    try:
        image = ErofsReader(read, size)
    except (FormatError, StorageError) as error:
        return Explained(size, None, False, str(error), ())
    places = places_of(extents_of(image, read), ranges)
    return Explained(size, image.block_size, bool(image.tar), None, tuple(places))


def explain_map(source: Source, size: int, step: int) -> list[dict[Kind, int]]:
    """Bytes of each kind in each ``step`` bytes of an image; nothing if it cannot be read."""
    read = _reading(source)
    try:
        return map_of(extents_of(ErofsReader(read, size), read), size, step)
    except (FormatError, StorageError):
        return []


def _reading(source: Source) -> Read:
    return lambda offset, size: read_exactly(source.fd, offset, size)
