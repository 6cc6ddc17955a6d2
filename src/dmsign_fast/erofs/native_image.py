"""Layers that are EROFS images already: hashed as they are."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from dmsign_fast.erofs.image_hasher import HashedImage, ImageHasher, grow_tree
from dmsign_fast.errors import FormatError
from dmsign_fast.outputs import storage_errors, write_all
from dmsign_fast.verity.tree import VerityHasher

if TYPE_CHECKING:
    from uuid import UUID

    from dmsign_fast.erofs.image_hasher import HashArea
    from dmsign_fast.erofs.recipe import Recipe

__all__ = ["NativeImageHasher", "is_erofs"]

# struct erofs_super_block: magic, log2 of the block size, incompatible features, extra devices
_SUPERBLOCK_OFFSET = 1024
_SUPERBLOCK = struct.Struct("<I8xB67xI2xH40x")
_MAGIC = 0xE0F5E1E2
_DEVICE_TABLE = 8
_HEAD = _SUPERBLOCK_OFFSET + _SUPERBLOCK.size
_TAR_MAGIC = 257


def is_erofs(media_type: str | None, head: bytes) -> bool:
    """Whether a layer is an EROFS image: by its media type, else by its first bytes.

    Linux: fs/erofs/erofs_fs.h; containerd: internal/erofsutils, IsErofsMediaType.
    """
    if media_type is None:
        # a tar has the first file's contents there
        return _has_magic(head) and not head.startswith(b"ustar", _TAR_MAGIC)
    return media_type.startswith("application/vnd.erofs.layer")


def _has_magic(head: bytes) -> bool:
    return head.startswith(_MAGIC.to_bytes(4, "little"), _SUPERBLOCK_OFFSET)


def _check_superblock(head: bytes, block_size: int) -> None:
    """Raise FormatError unless a device of such blocks shows the image, and nothing but it."""
    if not _has_magic(head) or len(head) < _HEAD:
        raise FormatError("the layer is not an EROFS image: its superblock is missing")
    _, log2_block_size, features, devices = _SUPERBLOCK.unpack_from(head, _SUPERBLOCK_OFFSET)
    image_block = 1 << min(log2_block_size, 63)
    if image_block < block_size:
        raise FormatError(
            f"the image has blocks of {image_block} bytes and cannot be mounted from a device "
            f"of {block_size}: use a recipe or --data-block-size of at most {image_block}"
        )
    if features & _DEVICE_TABLE or devices:
        raise FormatError(
            f"the image keeps data on other devices ({devices} are named): whoever mounts it can "
            "choose them, and no signature of this image covers them; make an image that holds "
            "all its data"
        )


class NativeImageHasher(ImageHasher):
    """Hashes a layer that is an EROFS image, which no recipe gives a UUID."""

    def __init__(
        self, recipe: Recipe, *, threads: int | None = None, image: int | None = None
    ) -> None:
        """Begin an image; ``image`` is a file that it is copied to."""
        super().__init__(recipe)
        self._hasher = VerityHasher(recipe.params, threads=threads)
        self._image = image
        self._head = b""
        self._size = 0

    def _image_uuid(self, digest: str | None, diff_id: str | None) -> UUID | None:
        return None

    def _release(self) -> None:
        del self._hasher

    def _append(self, data: memoryview) -> None:
        if len(self._head) < _HEAD:
            self._head += bytes(data[: _HEAD - len(self._head)])
        self._hasher.update(data)
        if self._image is not None:
            with storage_errors("write", "the image"):
                write_all(self._image, data, self._size)
        self._size += data.nbytes

    def _finish(self, uuid: UUID | None, hash_area: HashArea | None) -> HashedImage:
        block = self.recipe.params.data_block_size
        _check_superblock(self._head, block)
        if self._image is not None:
            with storage_errors("write", "the image"):
                os.ftruncate(self._image, self._size)
        self._hasher.update(bytes(-self._size % block))
        tree = grow_tree(self._hasher, iter(()), -(-self._size // block), hash_area)
        return HashedImage(self.recipe, uuid, self._size, None, tree)
