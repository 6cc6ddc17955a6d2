"""What is pushed of a layer besides its signature, in a nameless file while the layer is read."""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.oci.descriptor import Digest
from dmsign_fast.outputs import storage_errors
from dmsign_fast.pipeline.forms import Part
from dmsign_fast.verity.hash_file import HashFile
from dmsign_fast.verity.superblock import Superblock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dmsign_fast.verity.params import VerityParams
    from dmsign_fast.verity.tree import HashTree

__all__ = ["LayerBlob", "LayerFile", "pieces_of_file"]

_PIECE = 1 << 20


@dataclass(frozen=True)
class LayerBlob:
    """Bytes that are pushed with the signature of a layer.

    Attributes:
        digest: of the bytes.
        size: how many there are.
        content: begins a new iteration over them.
    """

    digest: Digest
    size: int
    content: Callable[[], Iterator[bytes]] = field(compare=False, repr=False)


def pieces_of_file(fd: int, offset: int, size: int, where: str) -> Iterator[bytes]:
    """So many bytes of a file; fewer where it ends before. StorageError if it cannot be read."""
    end = offset + size
    while offset < end:
        with storage_errors("read", where):
            piece = os.pread(fd, min(_PIECE, end - offset), offset)
        if not piece:
            return
        offset += len(piece)
        yield piece


class LayerFile:
    """The metadata of a layer's tar index, then superblock and hash area, in one nameless file.

    It takes both while the layer is read, and is gone when no LayerBlob of it is left. ``head`` is
    the file descriptor that takes what stands before the tar; see hash_layer.
    """

    def __init__(self, params: VerityParams) -> None:
        """Make an empty file for a hash tree of such parameters; StorageError if it cannot be."""
        self._where = f"a temporary file in {tempfile.gettempdir()}"
        self._params = params
        with storage_errors("create", self._where), tempfile.TemporaryFile() as file:
            self.head = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.head)
        self._hash_file: HashFile | None = None
        self._metadata_size = self._hash_offset = 0

    def hash_area(self, data_blocks: int) -> Callable[[int, memoryview], object]:
        """Take the hash blocks; see erofs.image_hasher.HashArea."""
        size, block = os.fstat(self.head).st_size, self._params.hash_block_size
        self._hash_offset = size + -size % block
        area = self._params.hash_area(data_blocks, hash_offset=self._hash_offset)
        self._hash_file = HashFile(
            self.head, Path(self._where), hash_offset=self._hash_offset, area=area
        )
        self._metadata_size = size
        return self._hash_file.write

    def finish(self, tree: HashTree) -> dict[Part, LayerBlob]:
        """What there is to push, once the layer is read to its end."""
        assert self._hash_file  # noqa: S101
        superblock = Superblock.of(tree)
        self._hash_file.finish(
            self._params.hash_area(tree.data_blocks, hash_offset=self._hash_offset), superblock
        )
        end = os.fstat(self.head).st_size
        return {
            Part.METADATA: self._blob(0, self._metadata_size),
            Part.HASH_FILE: self._blob(self._hash_offset, end - self._hash_offset),
        }

    def _blob(self, offset: int, size: int) -> LayerBlob:
        def content() -> Iterator[bytes]:
            return pieces_of_file(self.head, offset, size, self._where)

        digest = hashlib.sha256()
        for piece in content():
            digest.update(piece)
        return LayerBlob(Digest(f"sha256:{digest.hexdigest()}"), size, content)
