"""From the tar of a layer, while it streams, to the root hash of its EROFS image."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from dmsign_fast import _core
from dmsign_fast.arguments import NUMBER, takes
from dmsign_fast.erofs.bounds import MAX_TRAILING
from dmsign_fast.erofs.image_hasher import HashedImage, ImageHasher, grow_tree, hash_image
from dmsign_fast.erofs.recipe import RECIPE, ImageLayout
from dmsign_fast.errors import FormatError
from dmsign_fast.outputs import storage_errors, write_all
from dmsign_fast.verity.tree import VerityHasher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO
    from uuid import UUID

    from dmsign_fast.erofs.image_hasher import HashArea
    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.verity.tree import HashTree

__all__ = ["DigestSpool", "LayerHasher", "check_trailing"]

_PIECE = 1 << 20
_TAKEN = 4 << 20


def check_trailing(tar_size: int, parsed: int) -> None:
    """FormatError if more follows the end of the archive than a node may append."""
    trailing = tar_size - parsed
    if trailing > MAX_TRAILING:
        raise FormatError(
            f"{trailing} bytes follow the end of the archive at byte {parsed} of the tar, and "
            f"a node may append no more than {MAX_TRAILING} of them to the image: make the "
            "layer again without them"
        )


class DigestSpool:
    """Keeps digests in a nameless file, in their order."""

    def __init__(self) -> None:
        """Begin empty; the file is made when it is needed."""
        self._file: IO[bytes] | None = None
        self._size = 0

    def append(self, digests: memoryview) -> None:
        """Add digests; StorageError if there is no room."""
        with storage_errors("write a temporary file in", tempfile.gettempdir()):
            if not self._file:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
            write_all(self._file.fileno(), digests, self._size)
        self._size += len(digests)

    def take(self) -> Iterator[bytes]:
        """All of them, in pieces."""
        for at in range(0, self._size, _TAKEN):
            assert self._file  # noqa: S101
            with storage_errors("read a temporary file in", tempfile.gettempdir()):
                digests = os.pread(self._file.fileno(), _TAKEN, at)
            yield digests

    def close(self) -> None:
        """Free the file."""
        if self._file:
            self._file.close()


class LayerHasher(ImageHasher):
    """Builds the image of a layer from its uncompressed tar, in the manner of hashlib.

    Nobody needs to write the image: its data blocks are hashed as they arrive, and only names,
    inodes and digests are kept.

    >>> from dmsign_fast.erofs.recipe import Recipe
    >>> hasher = LayerHasher(Recipe.parse("osguard"))
    >>> hasher.update(bytes(1024))  # the end of an archive
    >>> hasher.finalize().root_hash.hex()[:16]
    '3b8bc65c542dd6a0'
    """

    @takes(recipe=RECIPE, threads=NUMBER.or_none, memory=NUMBER)
    def __init__(
        self,
        recipe: Recipe,
        *,
        threads: int | None = None,
        lossy: bool = False,
        memory: int = 1 << 30,
        image: int | None = None,
        head: int | None = None,
    ) -> None:
        """Begin a layer.

        Args:
            recipe: decides the image.
            threads: every core by default.
            lossy: do what the node does where it silently loses something, instead of failing.
            memory: bytes of digests; more go to a temporary file.
            image: a new file, open for reading and writing, for the image, with holes for zeros.
                It is complete when finalize() returns.
            head: a new file for the part of the image before the data: all metadata of a tar
                index. It is complete before a HashArea is called.
        """
        super().__init__(recipe)
        self.threads = _core.thread_count(threads)
        self._lossy = lossy
        self._tar_size = 0
        self._scratch: IO[bytes] | None = None
        params, layout = recipe.params, recipe.layout
        # where a block begins that is larger than the image's blocks is known only at the end
        self._streams = (
            params.hash_algorithm == "sha256" and params.data_block_size <= layout.block_size
        )
        if image is None and not self._streams:
            self._scratch = tempfile.TemporaryFile()  # noqa: SIM115
            image = self._scratch.fileno()
        self._image, self._head = image, head
        block_hash = (
            _core.BlockHash(params.hash_type, params.salt, params.data_block_size)
            if self._streams
            else None
        )
        self._memory = memory
        self._spooled = 0  # bytes of the tar whose digests went to the spool
        self._spool = DigestSpool()
        self._layer = _core.LayerBuilder(
            recipe.mkfs_version,
            index=layout is ImageLayout.TAR_INDEX,
            lossy=lossy,
            block_hash=block_hash,
            fd=-1 if image is None else image,
            head_fd=-1 if head is None else head,
        )

    def _release(self) -> None:
        del self._layer
        self._spool.close()
        if self._scratch:
            self._scratch.close()

    def _append(self, data: memoryview) -> None:
        self._layer.update(data, self.threads)
        self._tar_size += data.nbytes
        kept = (self._tar_size - self._spooled) // self.recipe.params.data_block_size
        if kept * _core.DIGEST_SIZE > self._memory:
            for leaves in self._layer.take_leaves():
                self._spool.append(leaves)
            self._spooled = self._tar_size

    def _finish(self, uuid: UUID | None, hash_area: HashArea | None) -> HashedImage:
        assert uuid  # noqa: S101
        self._layer.final(uuid.bytes, self.threads)
        image_size, parsed, inodes = self._layer.about()
        layout = self.recipe.layout
        tar_index = layout is ImageLayout.TAR_INDEX
        if tar_index and not self._lossy:
            check_trailing(self._tar_size, parsed)
        if self._head is not None:  # what is zero at its end was never written
            with storage_errors("write", "the metadata"):
                os.ftruncate(self._head, image_size if tar_index else layout.block_size)
        if self._image is not None:
            self._write_image(self._image, image_size)
        if tar_index:
            image_size += self._tar_size
        if self._streams:
            tree = self._tree(image_size, hash_area)
        else:
            assert self._image is not None  # noqa: S101
            tree = hash_image(
                self._image, image_size, self.recipe, threads=self.threads, hash_area=hash_area
            )
        return HashedImage(self.recipe, uuid, image_size, inodes, tree)

    def _write_image(self, fd: int, image_size: int) -> None:
        with storage_errors("write", "the image"):
            head = self._layer.head
            if self.recipe.layout is ImageLayout.TAR_INDEX:
                _move_up(fd, self._tar_size, len(head))
                image_size += self._tar_size
            write_all(fd, head, 0)
            os.ftruncate(fd, image_size)

    def _tree(self, size: int, hash_area: HashArea | None) -> HashTree:
        hasher = VerityHasher(self.recipe.params, threads=self.threads)

        def steps() -> Iterator[None]:
            hasher.update_digests(self._layer.head_leaves)
            for spooled in self._spool.take():
                hasher.update_digests(spooled)
                yield
            for leaves in self._layer.take_leaves():
                hasher.update_digests(leaves)
                yield

        return grow_tree(hasher, steps(), -(-size // self.recipe.params.data_block_size), hash_area)


def _move_up(fd: int, size: int, by: int) -> None:
    """Move the first ``size`` bytes of a file up, from the last, since both places overlap."""
    for end in range(size, 0, -_PIECE):
        start = max(0, end - _PIECE)
        piece = os.pread(fd, end - start, start)
        if piece != os.pread(fd, end - start, start + by):  # zeros over a hole leave it one
            write_all(fd, piece, start + by)
