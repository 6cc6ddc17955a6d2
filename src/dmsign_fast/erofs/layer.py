"""A layer's tar to the root hash of its EROFS image, while it streams."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsign_fast import _core
from dmsign_fast.erofs.recipe import ImageLayout, Recipe
from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.outputs import storage_errors, write_all
from dmsign_fast.verity.tree import HashTree, VerityHasher

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator
    from typing import IO

    from typing_extensions import Buffer

__all__ = ["HashArea", "HashedImage", "LayerHasher", "hash_image", "no_hash_area", "write_levels"]

_PIECE = 1 << 20
_TAKEN = 4 << 20
_SPAN = 64 << 20
# What the node's converter reads of a tar behind its end: the buffer of a pipe (Linux: pipe(7)).
_TRAILING = 64 << 10

HashArea = Callable[[int], Callable[[int, memoryview], object]]
"""Told the number of data blocks, gives what takes finished hash blocks of each level in order:
(level, hash blocks), which can be used until it returns."""


def no_hash_area(_: int) -> Callable[[int, memoryview], object]:
    """A HashArea that drops the hash blocks: for those who want the root hash alone."""
    return lambda _level, _blocks: None


@dataclass(frozen=True)
class HashedImage:
    """The EROFS image of a layer and its hash tree.

    Attributes:
        recipe: what the image was made by.
        uuid: of the image; None if it came as it is.
        image_size: bytes, before zeros fill the last data block of the tree.
        inodes: of the image; None if it was not made here.
        tree: its hash blocks are empty if they were taken while it grew.
    """

    recipe: Recipe
    uuid: uuid.UUID | None
    image_size: int
    inodes: int | None
    tree: HashTree

    @property
    def root_hash(self) -> bytes:
        """What a kernel is to be told of the layer."""
        return self.tree.root_hash


class _Spool:
    """Digests in the order they came, in a nameless file."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._size = 0

    def append(self, digests: memoryview) -> None:
        with storage_errors("write a temporary file in", tempfile.gettempdir()):
            if not self._file:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
            write_all(self._file.fileno(), digests, self._size)
        self._size += len(digests)

    def take(self) -> Iterator[bytes]:
        for at in range(0, self._size, _TAKEN):
            assert self._file  # noqa: S101
            with storage_errors("read a temporary file in", tempfile.gettempdir()):
                digests = os.pread(self._file.fileno(), _TAKEN, at)
            yield digests

    def close(self) -> None:
        if self._file:
            self._file.close()


def write_levels(tree: HashTree, take: Callable[[int, memoryview], object]) -> None:
    """Hand over the hash blocks that a finished tree holds."""
    for level, blocks in enumerate(tree.hash_blocks):
        take(level, blocks)


def _grow(
    hasher: VerityHasher, steps: Iterator[None], blocks: int, hash_area: HashArea | None
) -> HashTree:
    """Take the steps that fill a tree of so many data blocks, and its hash blocks out meanwhile."""
    take = hash_area(blocks) if hash_area else None
    for _ in steps:
        if take:
            for level, _, hash_blocks in hasher.drain():
                take(level, hash_blocks)
    tree = hasher.finalize()
    if take:
        write_levels(tree, take)
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

    return _grow(hasher, steps(), blocks, hash_area)


class LayerHasher:
    """Builds the image of a layer from its uncompressed tar, in the manner of hashlib.

    The image need not exist anywhere: its data blocks are hashed as they arrive, and nothing is
    kept but names, inodes and digests.

    >>> from dmsign_fast.erofs.recipe import Recipe
    >>> hasher = LayerHasher(Recipe.parse("osguard"))
    >>> hasher.update(bytes(1024))  # the end of an archive
    >>> hasher.finalize().root_hash.hex()[:16]
    '3b8bc65c542dd6a0'
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        threads: int | None = None,
        lossy: bool = False,
        memory: int = 1 << 30,
        image: int | None = None,
    ) -> None:
        """Begin a layer.

        Args:
            recipe: what decides the image.
            threads: every core by default.
            lossy: do what the node does where it silently loses something, instead of failing.
            memory: bytes of digests that are kept before they go to a temporary file.
            image: a new file, open for reading and writing, that the image is written to, with
                holes for zeros. It is complete when finalize() returns.
        """
        self.recipe = recipe
        self.threads = _core.thread_count(threads)
        self._lossy = lossy
        self._tar_size = 0
        self._scratch: IO[bytes] | None = None
        params, layout = recipe.params, recipe.layout
        # blocks larger than the image's cannot be hashed before it is known where they begin
        self._streams = (
            params.hash_algorithm == "sha256" and params.data_block_size <= layout.block_size
        )
        if image is None and not self._streams:
            self._scratch = tempfile.TemporaryFile()  # noqa: SIM115
            image = self._scratch.fileno()
        self._image = image
        block_hash = (
            _core.BlockHash(params.hash_type, params.salt, params.data_block_size)
            if self._streams
            else None
        )
        self._memory = memory
        self._spooled = 0  # bytes of the tar whose digests went to the spool
        self._spool = _Spool()
        self._layer: _core.LayerBuilder | None = _core.LayerBuilder(
            recipe.mkfs_version,
            index=layout is ImageLayout.TAR_INDEX,
            lossy=lossy,
            block_hash=block_hash,
            fd=-1 if image is None else image,
        )

    @property
    def _growing(self) -> _core.LayerBuilder:
        if self._layer is None:
            raise ParameterError("this hasher is finalized: begin a new one")
        return self._layer

    def update(self, data: Buffer) -> None:
        """Append bytes of the tar, of any number, from any contiguous buffer.

        Raises:
            FormatError: the node would fail with this layer, or lose a part of it; the message
                names the entry.
            StorageError: the image or a temporary file cannot be written.
        """
        self._growing.update(data, self.threads)
        self._tar_size += memoryview(data).nbytes
        kept = (self._tar_size - self._spooled) // self.recipe.params.data_block_size
        if kept * _core.DIGEST_SIZE > self._memory:
            for leaves in self._growing.take_leaves():
                self._spool.append(leaves)
            self._spooled = self._tar_size

    def finalize(
        self,
        *,
        digest: str | None = None,
        diff_id: str | None = None,
        hash_area: HashArea | None = None,
    ) -> HashedImage:
        """End the tar; the hasher cannot be used afterwards.

        Args:
            digest: of the layer as the manifest names it, for recipes that make the UUID of it.
            diff_id: of the uncompressed tar, the same.
            hash_area: takes the hash blocks as they are finished, instead of the tree.

        Raises:
            ParameterError: the digest that the recipe needs is not given.
            FormatError, StorageError: as update().
        """
        uuid = self.recipe.image_uuid(digest=digest, diff_id=diff_id)
        layer = self._growing
        self._layer = None
        try:
            layer.final(uuid.bytes, self.threads)
            image_size, parsed, inodes = layer.about()
            if self.recipe.layout is ImageLayout.TAR_INDEX:
                self._check_trailing(parsed)
            if self._image is not None:
                self._write_image(self._image, layer, image_size)
            if self.recipe.layout is ImageLayout.TAR_INDEX:
                image_size += self._tar_size
            if self._streams:
                tree = self._tree(layer, image_size, hash_area)
            else:
                assert self._image is not None  # noqa: S101
                tree = hash_image(
                    self._image,
                    image_size,
                    self.recipe,
                    threads=self.threads,
                    hash_area=hash_area,
                )
        finally:
            self.close()
        return HashedImage(self.recipe, uuid, image_size, inodes, tree)

    def close(self) -> None:
        """Forget everything; for a hasher that is not finalized."""
        self._layer = None
        self._spool.close()
        if self._scratch:
            self._scratch.close()

    def _check_trailing(self, parsed: int) -> None:
        # containerd pipes the tar to mkfs.erofs and appends what it could pipe: mkfs.erofs stops
        # reading at the archive's end, so what no pipe holds is cut off at a random place
        trailing = self._tar_size - parsed
        if trailing > _TRAILING and not self._lossy:
            raise FormatError(
                f"{trailing} bytes follow the end of the archive at byte {parsed} of the tar, and "
                "a node appends only a part of them to the image: make the layer again without "
                "them"
            )

    def _write_image(self, fd: int, layer: _core.LayerBuilder, image_size: int) -> None:
        with storage_errors("write", "the image"):
            head = layer.head
            if self.recipe.layout is ImageLayout.TAR_INDEX:
                _move_up(fd, self._tar_size, len(head))
                image_size += self._tar_size
            write_all(fd, head, 0)
            os.ftruncate(fd, image_size)

    def _tree(self, layer: _core.LayerBuilder, size: int, hash_area: HashArea | None) -> HashTree:
        hasher = VerityHasher(self.recipe.params, threads=self.threads)

        def steps() -> Iterator[None]:
            hasher.update_digests(layer.head_leaves)
            for spooled in self._spool.take():
                hasher.update_digests(spooled)
                yield
            for leaves in layer.take_leaves():
                hasher.update_digests(leaves)
                yield

        return _grow(hasher, steps(), -(-size // self.recipe.params.data_block_size), hash_area)


def _move_up(fd: int, size: int, by: int) -> None:
    """Move the first ``size`` bytes of a file, last ones first, since both places overlap."""
    for end in range(size, 0, -_PIECE):
        start = max(0, end - _PIECE)
        piece = os.pread(fd, end - start, start)
        if piece != os.pread(fd, end - start, start + by):  # zeros over a hole leave it one
            write_all(fd, piece, start + by)
