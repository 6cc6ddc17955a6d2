"""Layers of images to measure with, cut out of larger ones, made once and kept."""

from __future__ import annotations

import tarfile
import tempfile
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING

from layer_inputs import Layer, compressed, make_tar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Five are an image. Another shares four of them, and has the sixth.
_COUNT = 6
_SIZE, _QUICK_SIZE = 410 * 10**6, 45 * 10**6


def image_layers(directory: Path, quick: bool) -> list[Layer]:
    """Six layers by gzip; what is there already is taken as it is."""
    tars = [directory / f"image-{number + 1}.tar" for number in range(_COUNT)]
    if not all(tar.exists() for tar in tars):
        sources = [make_tar(directory, name, quick) for name in ("debian", "python")]
        with tempfile.TemporaryDirectory(prefix="image.", dir=directory) as scratch:
            parts = [Path(scratch, tar.name) for tar in tars]
            split(sources, parts, _QUICK_SIZE if quick else _SIZE)
            for part, tar in zip(parts, tars, strict=True):
                part.rename(tar)
    return [compressed(tar, "tar.gz", quick) for tar in tars]


def split(sources: Sequence[Path], parts: Sequence[Path], size: int) -> None:
    """Whole members in their order; what is left over is left out."""
    members = chain.from_iterable(map(_members, sources))
    for part in parts:
        with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as archive:
            for info, content in members:
                archive.addfile(info, content)
                if archive.offset >= size:
                    break


def _members(source: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """All but hard links, which may lead into another part."""
    with tarfile.open(source, "r:") as archive:
        for info in archive:
            if not info.islnk():
                yield info, archive.extractfile(info) if info.isfile() else None
