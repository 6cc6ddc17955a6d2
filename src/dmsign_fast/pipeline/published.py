"""Metadata and hash areas that an artifact publishes: whether a signed root hash is theirs.

The root hash covers the whole hash area, and so the digests of the blocks of metadata. That is why
both are checked without a look at the layer.
"""

from __future__ import annotations

import os
import struct
import tempfile
from typing import TYPE_CHECKING

from dmsign_fast.erofs.image_hasher import grow_tree
from dmsign_fast.errors import FormatError, VerificationError
from dmsign_fast.outputs import storage_errors
from dmsign_fast.pipeline.artifact import blobs_of
from dmsign_fast.pipeline.forms import Part
from dmsign_fast.pipeline.layer_file import LayerFile, pieces_of_file
from dmsign_fast.verity.blocks import block_hash
from dmsign_fast.verity.superblock import SUPERBLOCK_SIZE, Superblock
from dmsign_fast.verity.tree import VerityHasher

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dmsign_fast.oci.descriptor import Descriptor
    from dmsign_fast.oci.manifest import Manifest
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.artifact import LayerSignature
    from dmsign_fast.pipeline.forms import Form

__all__ = ["check_parts", "check_published"]

# https://erofs.docs.kernel.org/en/latest/ondisk/core_ondisk.html: magic, log2 of the size of a
# block, blocks
_EROFS, _EROFS_AT, _EROFS_MAGIC = struct.Struct("<I8xB23xI"), 1024, 0xE0F5E1E2
_HEAD = _EROFS_AT + _EROFS.size


def check_published(
    store: Store, form: Form, manifest: Manifest, signatures: Sequence[LayerSignature]
) -> None:
    """Check what an artifact has of each layer besides its signature; most forms have nothing.

    Raises:
        FormatError: a hash area has no superblock, or one with values outside their limits.
        VerificationError: a hash area or metadata is not what the root hash covers.
        StorageError, RegistryError: the store cannot tell, or there is no room in TMPDIR.
    """
    roots = {one.layer: one.root_hash for one in signatures}
    for layer, parts in blobs_of(form, manifest, roots).items():
        if not parts:
            continue
        try:
            check_parts(store, parts, roots[layer])
        except (FormatError, VerificationError) as error:
            raise type(error)(f"layer {layer}: {error}") from error


def check_parts(store: Store, parts: Mapping[Part, Descriptor], root_hash: bytes) -> None:
    """Check metadata and hash area of one layer; errors as check_published."""
    metadata, hash_file = parts[Part.METADATA], parts[Part.HASH_FILE]
    where = f"a temporary file in {tempfile.gettempdir()}"
    with storage_errors("write", where), tempfile.TemporaryFile() as file:
        for piece in store.fetch(hash_file):
            file.write(piece)
        file.flush()
        fd = file.fileno()
        superblock = Superblock.unpack(os.pread(fd, SUPERBLOCK_SIZE, 0), "the hash area")
        params = superblock.params
        area = params.hash_area(superblock.data_blocks)
        if params.hash_algorithm != "sha256" or not area.levels or area.end != hash_file.size:
            raise VerificationError(
                f"the hash area of {hash_file.size} bytes is not of {superblock.data_blocks} "
                "blocks hashed by SHA-256, as its superblock says"
            )
        leaves = area.levels[0].offset
        hasher, ours = VerityHasher(params), LayerFile(params)

        def steps() -> Iterator[None]:
            size = superblock.data_blocks * params.digest_size
            for piece in pieces_of_file(fd, leaves, size, where):
                hasher.update_digests(piece)
                yield

        tree = grow_tree(hasher, steps(), superblock.data_blocks, ours.hash_area)
        if tree.root_hash != root_hash:
            raise VerificationError("the published hash area does not lead to the signed root hash")
        made = ours.finish(tree)[Part.HASH_FILE]
        theirs = pieces_of_file(fd, 0, hash_file.size, where)
        if made.size != hash_file.size or not _same_behind(made.content(), theirs):
            raise VerificationError(
                "a level of the published hash area does not lead to the signed root hash"
            )
        hashing = block_hash(params, params.data_block_size)
        at, head = 0, b""
        for blocks in _whole_blocks(store.fetch(metadata), params.data_block_size):
            digests = hashing.hash_blocks(blocks)
            if bytes(digests) != os.pread(fd, len(digests), leaves + at):
                raise VerificationError("the metadata is not what the signed root hash covers")
            at += len(digests)
            head += bytes(blocks[: max(0, _HEAD - len(head))])
        _check_end(head, metadata.size)


def _check_end(head: bytes, size: int) -> None:
    """VerificationError unless the EROFS superblock says that the metadata ends here."""
    magic, log2, blocks = _EROFS.unpack_from(head, _EROFS_AT) if len(head) == _HEAD else (0, 0, 0)
    if magic != _EROFS_MAGIC or size != blocks << log2:
        raise VerificationError("the metadata is cut short, or is not EROFS")


def _same_behind(ours: Iterable[bytes], theirs: Iterable[bytes]) -> bool:
    """Whether all behind the superblock is the same; both come in pieces of the same sizes."""
    start = SUPERBLOCK_SIZE
    for mine, other in zip(ours, theirs, strict=True):
        if mine[start:] != other[start:]:
            return False
        start = 0
    return True


def _whole_blocks(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    left = b""
    for piece in pieces:
        data = left + piece
        whole = len(data) - len(data) % size
        left = data[whole:]
        if whole:
            yield data[:whole]
    if left:
        raise VerificationError(f"the metadata is not a whole number of blocks of {size} bytes")
