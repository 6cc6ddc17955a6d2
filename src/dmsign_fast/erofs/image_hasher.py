"""What every hasher of a layer's image shares: how it ends, and the hash tree over an image."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsign_fast.errors import ParameterError
from dmsign_fast.outputs import storage_errors
from dmsign_fast.verity.tree import HashTree, VerityHasher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from typing_extensions import Buffer

    from dmsign_fast.erofs.recipe import Recipe

__all__ = ["HashArea", "HashedImage", "ImageHasher", "grow_tree", "hash_image", "no_hash_area"]

_SPAN = 64 << 20

HashArea = Callable[[int], Callable[[int, memoryview], object]]
"""Gets the number of data blocks, and returns what takes the finished hash blocks of each level in
order: (level, hash blocks). The hash blocks can be used until that call returns."""


def no_hash_area(_: int) -> Callable[[int, memoryview], object]:
    """A HashArea that drops the hash blocks, for callers that want the root hash alone."""
    return lambda _level, _blocks: None


@dataclass(frozen=True)
class HashedImage:
    """The EROFS image of a layer and its hash tree.

    Attributes:
        recipe: what decides the image.
        uuid: of the image; None for a layer that is an EROFS image already.
        image_size: bytes, before zeros fill the last data block of the tree.
        inodes: of the image; None if mkfs.erofs made it or the layer is an EROFS image already.
        tree: without hash blocks if a HashArea took them.
    """

    recipe: Recipe
    uuid: UUID | None
    image_size: int
    inodes: int | None
    tree: HashTree

    @property
    def root_hash(self) -> bytes:
        """What the node gives to its kernel for this layer."""
        return self.tree.root_hash


class ImageHasher(ABC):
    """Hashes the image that a node makes of a layer, in the manner of hashlib."""

    def __init__(self, recipe: Recipe) -> None:
        """Begin a layer; ``recipe`` decides the image."""
        self.recipe = recipe
        self._ended = False

    def update(self, data: Buffer) -> None:
        """Append bytes of the uncompressed layer, of any number, from any contiguous buffer.

        Raises:
            FormatError: the node would fail with this layer, or lose a part of it; the message
                names the entry.
            StorageError: the image or a temporary file cannot be written.
            ParameterError: the hasher is finalized or closed.
        """
        self._check_open()
        self._append(memoryview(data))

    def finalize(
        self,
        *,
        digest: str | None = None,
        diff_id: str | None = None,
        hash_area: HashArea | None = None,
    ) -> HashedImage:
        """End the layer; the hasher cannot be used afterwards.

        Args:
            digest: of the layer as the manifest names it, for recipes that make the UUID of it.
            diff_id: of the uncompressed tar, for recipes that make the UUID of it.
            hash_area: takes the hash blocks as they are finished, instead of the tree.

        Raises:
            ParameterError: the digest that the recipe needs is not given (the hasher stays as it
                is), or the hasher is finalized or closed.
            FormatError, StorageError: as update().
        """
        uuid = self._image_uuid(digest, diff_id)
        self._check_open()
        try:
            return self._finish(uuid, hash_area)
        finally:
            self.close()

    def close(self) -> None:
        """Free memory and temporary files; needed for a hasher that is not finalized."""
        if not self._ended:
            self._ended = True
            self._release()

    def _check_open(self) -> None:
        if self._ended:
            raise ParameterError("this hasher is finalized: begin a new one")

    def _image_uuid(self, digest: str | None, diff_id: str | None) -> UUID | None:
        return self.recipe.image_uuid(digest=digest, diff_id=diff_id)

    @abstractmethod
    def _release(self) -> None: ...

    @abstractmethod
    def _append(self, data: memoryview) -> None: ...

    @abstractmethod
    def _finish(self, uuid: UUID | None, hash_area: HashArea | None) -> HashedImage: ...


def grow_tree(
    hasher: VerityHasher, steps: Iterator[None], blocks: int, hash_area: HashArea | None
) -> HashTree:
    """Finish a tree of ``blocks`` data blocks that ``steps`` fill.

    ``hash_area`` gets the finished hash blocks after each step.
    """
    take = hash_area(blocks) if hash_area else None
    for _ in steps:
        if take:
            for level, _, hash_blocks in hasher.drain():
                take(level, hash_blocks)
    tree = hasher.finalize()
    if take:
        for level, hash_blocks in enumerate(tree.hash_blocks):
            take(level, hash_blocks)
    return tree


def hash_image(
    fd: int, size: int, recipe: Recipe, *, threads: int | None, hash_area: HashArea | None = None
) -> HashTree:
    """The tree of an image in a file, which grows to a whole number of data blocks first."""
    block = recipe.params.data_block_size
    blocks = -(-size // block)
    hasher = VerityHasher(recipe.params, threads=threads)
    with storage_errors("write", "the image"):
        os.ftruncate(fd, blocks * block)
    most = max(1, _SPAN // block)

    def steps() -> Iterator[None]:
        for first in range(0, blocks, most):
            hasher.update_file(fd, first * block, min(most, blocks - first))
            yield

    return grow_tree(hasher, steps(), blocks, hash_area)
