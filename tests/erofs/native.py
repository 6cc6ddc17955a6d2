"""Our conversion, for comparisons: a tar in, an image out."""

from __future__ import annotations

import os
from itertools import chain, repeat
from uuid import UUID

from dmsign_fast._core import LayerBuilder


def convert(
    tar: bytes, version: str, layout: str, uuid: str, lossy: bool = False, pieces=None
) -> bytes:
    """The image (layout D: its metadata). `pieces`: lengths to feed the tar in."""
    image = os.memfd_create("image")
    try:
        layer = LayerBuilder(version, index=layout == "D", lossy=lossy, block_hash=None, fd=image)
        at = 0
        for size in chain(pieces or [], repeat(len(tar) or 1)):
            if at >= len(tar):
                break
            layer.update(tar[at : at + size], 1)
            at += size
        layer.final(UUID(uuid).bytes, 1)
        if layout == "D":
            os.ftruncate(image, len(tar))
            assert os.pread(image, len(tar), 0) == tar
            return bytes(layer.head)
        size, _, _ = layer.about()
        os.ftruncate(image, size)
        os.pwrite(image, layer.head, 0)
        return os.pread(image, size, 0)
    finally:
        os.close(image)
