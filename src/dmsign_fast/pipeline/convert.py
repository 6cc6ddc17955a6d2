"""From a layer to the files of a node: EROFS image, hash area, root hash."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dmsign_fast.erofs.image_hasher import no_hash_area
from dmsign_fast.errors import ParameterError
from dmsign_fast.outputs import Outputs, storage_errors
from dmsign_fast.pipeline.layers import Conversion, Expected, HashedLayer, hash_layer
from dmsign_fast.verity.hash_file import HashFile
from dmsign_fast.verity.superblock import Superblock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Buffer

    from dmsign_fast.erofs.recipe import Recipe

__all__ = ["VERITY_MODES", "ConvertedLayer", "convert_layer"]

VERITY_MODES = ("append", "separate", "none")


@dataclass(frozen=True)
class ConvertedLayer:
    """What convert_layer wrote.

    Attributes:
        layer: the layer, its image and root hash.
        image: the file of the image, filled up with zeros to a whole data block.
        hash_file: holds superblock and hash area; the image itself if they are appended to it.
        hash_offset: of the superblock in hash_file.
        sidecar: containerd's file beside the image; None unless the hash area is appended.
    """

    layer: HashedLayer
    image: Path
    hash_file: Path | None
    hash_offset: int
    sidecar: Path | None


def convert_layer(
    stream: BinaryIO | Iterable[Buffer],
    image: Path,
    recipe: Recipe,
    expected: Expected | None = None,
    conversion: Conversion | None = None,
    *,
    verity: str = "append",
    protect: Iterable[Path] = (),
    progress: Callable[[int], object] = lambda _: None,
) -> ConvertedLayer:
    """Write the EROFS image of a layer with its hash area, all files or none.

    ``append`` is what containerd does (internal/dmverity, FormatLayer): superblock and hash area
    stand behind the image, and ``IMAGE.dmverity`` tells the root hash and where. ``separate``
    writes them to ``IMAGE.verity`` and the root hash as text to ``IMAGE.roothash``; ``none``
    writes the image alone. The superblock's UUID is made of the root hash, so that the same layer
    gives the same bytes.

    Args:
        stream: see hash_layer.
        image: the file to write.
        recipe: see hash_layer.
        expected: see hash_layer.
        conversion: see hash_layer.
        verity: where the hash area goes, one of VERITY_MODES.
        protect: inputs that must not be overwritten.
        progress: see hash_layer.

    Raises:
        DmsignError: as hash_layer; nothing was written.
    """
    if verity not in VERITY_MODES:
        raise ParameterError(f"{verity!r}: the hash area can be {', '.join(VERITY_MODES)}")
    params = recipe.params
    with Outputs() as outputs, contextlib.ExitStack() as stack:
        for path in protect:
            outputs.protect(path)
        fd = outputs.open(image)
        hash_path, hash_fd = image, fd
        if verity == "separate":
            hash_path = Path(f"{image}.verity")
            hash_fd = outputs.open(hash_path)
        opened: list[HashFile] = []

        def hash_area(data_blocks: int) -> Callable[[int, memoryview], object]:
            offset = data_blocks * params.data_block_size if verity == "append" else 0
            area = params.hash_area(data_blocks, hash_offset=offset)
            hash_file = HashFile(hash_fd, hash_path, hash_offset=offset, area=area)
            opened.append(stack.enter_context(hash_file))
            return hash_file.write

        layer = hash_layer(
            stream,
            recipe,
            expected,
            conversion,
            image=fd,
            hash_area=no_hash_area if verity == "none" else hash_area,
            progress=progress,
        )
        tree = layer.image.tree
        root_hash = tree.root_hash.hex()
        end = tree.data_blocks * params.data_block_size
        if verity != "append":
            with storage_errors("write", image):
                os.ftruncate(fd, end)
        offset = end if verity == "append" else 0
        for hash_file in opened:
            area = params.hash_area(tree.data_blocks, hash_offset=offset)
            hash_file.finish(area, Superblock.of(tree))
        sidecar = Path(f"{image}.dmverity") if verity == "append" else None
        if sidecar:
            known = {"roothash": root_hash, "hashoffset": end}
            outputs.write(sidecar, json.dumps(known, indent=2).encode())
        if verity == "separate":
            outputs.write(Path(f"{image}.roothash"), root_hash.encode())
    return ConvertedLayer(layer, image, hash_path if opened else None, offset, sidecar)
