"""From a layer to the files of a node: EROFS image, hash area, root hash."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dmsign_fast.arguments import FUNCTION, PATH, PATHS, TEXT, takes
from dmsign_fast.erofs.image_hasher import no_hash_area
from dmsign_fast.erofs.recipe import RECIPE
from dmsign_fast.errors import ParameterError
from dmsign_fast.outputs import Outputs, storage_errors
from dmsign_fast.pipeline.layers import (
    CONVERSION,
    EXPECTED,
    Conversion,
    Expected,
    HashedLayer,
    hash_layer,
)
from dmsign_fast.verity.hash_file import HashFile
from dmsign_fast.verity.superblock import Superblock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Buffer

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.verity.params import VerityParams
    from dmsign_fast.verity.tree import HashTree

__all__ = ["VERITY_MODES", "ConvertedLayer", "DeviceFiles", "convert_layer", "sidecar_of"]

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


class DeviceFiles:
    """The image of a layer and its hash area, in open files, while the layer is read.

    The hash area stands behind the image if both are the same file.
    """

    def __init__(
        self, params: VerityParams, image: tuple[Path, int], hash_file: tuple[Path, int]
    ) -> None:
        """Take two empty files, each with its name and open for reading and writing."""
        self._params = params
        self._image, self.fd = image
        self._hash_path, self._hash_fd = hash_file
        self._behind = self.fd == self._hash_fd
        self._hash_file: HashFile | None = None
        self.hash_offset = 0

    def hash_area(self, data_blocks: int) -> Callable[[int, memoryview], object]:
        """Take the hash blocks; see erofs.image_hasher.HashArea."""
        if self._behind:
            self.hash_offset = data_blocks * self._params.data_block_size
        area = self._params.hash_area(data_blocks, hash_offset=self.hash_offset)
        self._hash_file = HashFile(
            self._hash_fd, self._hash_path, hash_offset=self.hash_offset, area=area
        )
        return self._hash_file.write

    def finish(self, tree: HashTree) -> None:
        """Fill the image up to whole blocks, and write the superblock, if there is a hash area.

        The superblock's UUID is made of the root hash, so that the same layer gives the same bytes.
        """
        if self._hash_file is None or not self._behind:
            with storage_errors("write", self._image):
                os.ftruncate(self.fd, tree.data_blocks * self._params.data_block_size)
        if self._hash_file:
            area = self._params.hash_area(tree.data_blocks, hash_offset=self.hash_offset)
            self._hash_file.finish(area, Superblock.of(tree))


def sidecar_of(root_hash: bytes, hash_offset: int) -> bytes:
    """What containerd has in ``IMAGE.dmverity`` (internal/dmverity, FormatLayer)."""
    return json.dumps({"roothash": root_hash.hex(), "hashoffset": hash_offset}, indent=2).encode()


@takes(
    image=PATH,
    recipe=RECIPE,
    expected=EXPECTED.or_none,
    conversion=CONVERSION.or_none,
    verity=TEXT,
    protect=PATHS,
    progress=FUNCTION,
)
def convert_layer(
    stream: Path | str | BinaryIO | Iterable[Buffer],
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
    writes the image alone.

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
    with Outputs() as outputs:
        for path in protect:
            outputs.protect(path)
        fd = outputs.open(image)
        hash_path, hash_fd = image, fd
        if verity == "separate":
            hash_path = Path(f"{image}.verity")
            hash_fd = outputs.open(hash_path)
        files = DeviceFiles(recipe.params, (image, fd), (hash_path, hash_fd))
        layer = hash_layer(
            stream,
            recipe,
            expected,
            conversion,
            image=fd,
            hash_area=no_hash_area if verity == "none" else files.hash_area,
            progress=progress,
        )
        files.finish(layer.image.tree)
        root_hash = layer.image.root_hash
        sidecar = Path(f"{image}.dmverity") if verity == "append" else None
        if sidecar:
            outputs.write(sidecar, sidecar_of(root_hash, files.hash_offset))
        if verity == "separate":
            outputs.write(Path(f"{image}.roothash"), root_hash.hex().encode())
    hash_file = None if verity == "none" else hash_path
    return ConvertedLayer(layer, image, hash_file, files.hash_offset, sidecar)
