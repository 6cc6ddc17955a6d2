"""What given bytes of an image are: which part of which file, or of the metadata."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, NamedTuple

from dmsign_fast.erofs.reader import Extent, Kind
from dmsign_fast.erofs.tar_headers import tar_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dmsign_fast.erofs.reader import ErofsReader, Read

__all__ = ["Place", "extents_of", "map_of", "places_of"]


class Place(NamedTuple):
    """Bytes of an image and what they are.

    Attributes:
        offset: of the first, in the image.
        size: how many.
        kind: what they are.
        path: of the file that they belong to; None for what belongs to none.
        at: for data, where in the file they begin, bytes.
        problem: of what is unreadable, why.
    """

    offset: int
    size: int
    kind: Kind
    path: str | None = None
    at: int = 0
    problem: str | None = None


def extents_of(image: ErofsReader, read: Read) -> Iterator[Extent]:
    """Everything in an image that has a meaning, in no order; of a tar index also the headers."""
    yield from image.walk()
    if image.tar:
        start, size = image.tar
        yield from tar_headers(read, start, start + size)


def places_of(extents: Iterable[Extent], ranges: Sequence[tuple[int, int]]) -> list[Place]:
    """What stands in each of the ranges (offset, size), which rise and do not overlap.

    The places have the order of the image; what no extent covers is a hole or padding. Memory is
    for what overlaps a range, not for all.
    """
    if not ranges:
        return []
    ends = [offset + size for offset, size in ranges]
    found: list[Extent] = []
    for extent in extents:
        end = extent.offset + extent.size
        for number in range(bisect.bisect_right(ends, extent.offset), len(ranges)):
            first, last = ranges[number][0], ends[number]
            if first >= end:
                break
            start = max(first, extent.offset)
            at = extent.at + start - extent.offset if extent.kind is Kind.DATA else extent.at
            found.append(extent._replace(offset=start, size=min(last, end) - start, at=at))
    found.sort(key=lambda one: (one.offset, -one.size))
    places: list[Place] = []
    number = 0
    for offset, size in ranges:
        done, end = offset, offset + size
        while number < len(found) and found[number].offset < end:
            one = found[number]
            number += 1
            if one.offset > done:
                places.append(Place(done, one.offset - done, Kind.PADDING))
            path = one.entry.path if one.entry else None
            places.append(Place(one.offset, one.size, one.kind, path, one.at, one.problem))
            done = max(done, one.offset + one.size)
        if done < end:
            places.append(Place(done, end - done, Kind.PADDING))
    return places


def map_of(extents: Iterable[Extent], size: int, step: int) -> list[dict[Kind, int]]:
    """Bytes of each kind in each ``step`` bytes of an image of ``size``."""
    found: list[dict[Kind, int]] = [{} for _ in range(-(-size // step))]
    for extent in extents:
        end = min(size, extent.offset + extent.size)
        for number in range(extent.offset // step, -(-end // step)):
            part = min(end, (number + 1) * step) - max(extent.offset, number * step)
            cell = found[number]
            cell[extent.kind] = cell.get(extent.kind, 0) + part
    return found
