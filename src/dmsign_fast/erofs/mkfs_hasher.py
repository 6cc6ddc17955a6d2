"""Hashers of layers that the program mkfs.erofs converts, alone or beside our conversion."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from dmsign_fast.erofs.image_hasher import HashedImage, ImageHasher, hash_image
from dmsign_fast.erofs.recipe import ImageLayout
from dmsign_fast.errors import ParameterError, VerificationError
from dmsign_fast.outputs import storage_errors, write_all

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from dmsign_fast.erofs.image_hasher import HashArea
    from dmsign_fast.erofs.layer import LayerHasher
    from dmsign_fast.erofs.mkfs import MkfsErofs
    from dmsign_fast.erofs.recipe import Recipe

__all__ = ["MkfsHasher", "TwinHasher"]

_PIECE = 1 << 20


class MkfsHasher(ImageHasher):
    """Keeps the tar in a temporary file, which mkfs.erofs converts at the end."""

    def __init__(
        self,
        recipe: Recipe,
        mkfs: MkfsErofs,
        *,
        options: Sequence[str] = (),
        threads: int | None = None,
        time_limit: float = 3600,
        image: int | None = None,
    ) -> None:
        """Begin a layer.

        Args:
            recipe: decides the image.
            mkfs: the program, of a version that makes the recipe's images.
            options: further options of mkfs.erofs, which make another image.
            threads: for hashing, every core by default.
            time_limit: seconds for the program.
            image: a new file, open for reading and writing, that the image is written to.

        Raises:
            ParameterError: the program has another version than the recipe.
        """
        if mkfs.version not in recipe.mkfs_versions:
            raise ParameterError(
                f"mkfs.erofs is version {mkfs.version}, and the recipe is for "
                f"{' or '.join(recipe.mkfs_versions)}: give "
                f"--recipe {recipe.name}@{mkfs.version} if the nodes have that version"
            )
        super().__init__(recipe)
        self._mkfs = mkfs
        self._options = options
        self._threads = threads
        self._time_limit = time_limit
        # with a name: mkfs.erofs before 1.9 takes the realpath of its source
        self._tar = tempfile.NamedTemporaryFile(prefix=".dmsign-")  # noqa: SIM115
        self._scratch = tempfile.TemporaryFile() if image is None else None  # noqa: SIM115
        self._image = self._scratch.fileno() if image is None and self._scratch else image or 0
        self._size = 0

    def _release(self) -> None:
        self._tar.close()
        if self._scratch:
            self._scratch.close()

    def _append(self, data: memoryview) -> None:
        with storage_errors("write a temporary file in", tempfile.gettempdir()):
            write_all(self._tar.fileno(), data, self._size)
        self._size += data.nbytes

    def _finish(self, uuid: UUID | None, hash_area: HashArea | None) -> HashedImage:
        assert uuid  # noqa: S101
        image = self._image
        self._mkfs.convert(
            self._tar.fileno(),
            image,
            self.recipe.mkfs_arguments,
            uuid,
            timeout=self._time_limit,
            options=self._options,
        )
        with storage_errors("write", "the image"):
            size = os.fstat(image).st_size
            if self.recipe.layout is ImageLayout.TAR_INDEX:
                for at in range(0, self._size, _PIECE):
                    write_all(image, os.pread(self._tar.fileno(), _PIECE, at), size + at)
                size += self._size
        tree = hash_image(image, size, self.recipe, threads=self._threads, hash_area=hash_area)
        return HashedImage(self.recipe, uuid, size, None, tree)


class TwinHasher(ImageHasher):
    """Converts a layer in both ways, which must agree."""

    def __init__(self, native: LayerHasher, mkfs: MkfsHasher) -> None:
        """Begin a layer with two hashers of one recipe."""
        super().__init__(native.recipe)
        self._native = native
        self._mkfs = mkfs

    def _release(self) -> None:
        self._native.close()
        self._mkfs.close()

    def _append(self, data: memoryview) -> None:
        self._native.update(data)
        self._mkfs.update(data)

    def _finish(self, uuid: UUID | None, hash_area: HashArea | None) -> HashedImage:
        native = self._native._finish(uuid, hash_area)
        mkfs = self._mkfs._finish(uuid, None)
        if native.root_hash != mkfs.root_hash:
            raise VerificationError(
                f"the root hash is {native.root_hash.hex()} and that of mkfs.erofs "
                f"{mkfs.root_hash.hex()} ({_difference(native, mkfs)}): please report this layer"
            )
        return native


def _difference(native: HashedImage, mkfs: HashedImage) -> str:
    if native.image_size != mkfs.image_size:
        return f"images of {native.image_size} and {mkfs.image_size} bytes"
    try:
        first = native.tree.differences(mkfs.tree)[0]
    except ParameterError:  # the hash blocks of a tree were taken while it grew
        return "images of one size"
    return f"images differ first in data block {first}"
