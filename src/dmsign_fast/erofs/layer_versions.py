"""One tar, the images of several versions of mkfs.erofs and UUIDs, and its data hashed once.

Between versions mostly metadata differs, between UUIDs only the superblock. One version leads and
hashes the data. The others follow and only compare where their data comes from; see dmsign.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dmsign_fast import _core
from dmsign_fast.erofs.image_hasher import grow_tree
from dmsign_fast.erofs.layer import DigestSpool, check_trailing
from dmsign_fast.erofs.recipe import ImageLayout
from dmsign_fast.errors import DmsignError, FormatError
from dmsign_fast.verity.changed_tree import ChangedTree
from dmsign_fast.verity.tree import VerityHasher

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from typing_extensions import Buffer

    from dmsign_fast.erofs.recipe import Recipe

__all__ = ["LayerVersions", "VersionResult"]

_DIGEST = 32
_SUPERBLOCK = 1024
_CHECKSUM, _COMPAT, _UUID = (_SUPERBLOCK + at for at in (4, 8, 48))
_HAS_CHECKSUM = 1


class VersionResult(NamedTuple):
    """What a recipe makes of a layer.

    Attributes:
        recipe: what was asked for.
        uuid: of the image; None where there is none.
        root_hash: None if the recipe makes no image of this layer.
        problem: why not.
        again: True if the recipe needs a reading of its own, since its data is not the leader's.
    """

    recipe: Recipe
    uuid: UUID | None
    root_hash: bytes | None
    problem: str | None = None
    again: bool = False


class _Version:
    """A version of mkfs.erofs at work."""

    def __init__(self, version: str, builder: _core.LayerBuilder) -> None:
        self.version = version
        self.builder = builder
        self.error: DmsignError | None = None

    def update(self, data: Buffer, threads: int) -> None:
        if not self.error:
            try:
                self.builder.update(data, threads)
            except FormatError as error:
                self.error = error


class LayerVersions:
    """Hashes the images of recipes that differ in version and UUID alone; as LayerHasher is used.

    The hash tree's digest is SHA-256, its data blocks are no larger than those of the image.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        *,
        threads: int | None = None,
        lossy: bool = False,
        memory: int = 1 << 30,
    ) -> None:
        """Begin a layer; the first recipe's version leads. Other arguments as of LayerHasher."""
        self._recipes = recipes
        self._params, self._layout = recipes[0].params, recipes[0].layout
        self._threads, self._lossy = _core.thread_count(threads), lossy
        self._tar_size = 0
        params = self._params
        self._hash = _core.BlockHash(params.hash_type, params.salt, params.data_block_size)
        self._versions: list[_Version] = []
        self._by_name: dict[str, _Version] = {}
        for recipe in recipes:
            newest = recipe.mkfs_versions[-1]
            if newest not in self._by_name:
                builder = _core.LayerBuilder(
                    newest,
                    index=self._layout is ImageLayout.TAR_INDEX,
                    lossy=lossy,
                    block_hash=self._hash,
                    leader=self._versions[0].builder if self._versions else None,
                )
                self._by_name[newest] = _Version(newest, builder)
                self._versions.append(self._by_name[newest])
        self._tree = ChangedTree(params)
        self._memory, self._spooled = memory, 0
        self._spool = DigestSpool()

    def close(self) -> None:
        """Free memory and the temporary file."""
        self._versions.clear()
        self._by_name.clear()
        self._tree.close()
        self._spool.close()

    def update(self, data: Buffer) -> None:
        """Append bytes of the uncompressed layer; what a version fails with waits for the end."""
        for version in self._versions:
            version.update(data, self._threads)
        self._tar_size += memoryview(data).nbytes
        kept = (self._tar_size - self._spooled) // self._params.data_block_size
        if kept * _DIGEST > self._memory:
            for leaves in self._versions[0].builder.take_leaves():
                self._spool.append(leaves)
            self._spooled = self._tar_size

    def finalize(self, *, digest: str | None, diff_id: str | None) -> list[VersionResult]:
        """End the layer: what each recipe makes of it, in their order.

        Raises:
            ParameterError: a digest that a recipe needs is not given.
            StorageError: the temporary file cannot be written.
        """
        uuids = [one.image_uuid(digest=digest, diff_id=diff_id) for one in self._recipes]
        for version in self._versions:
            if not version.error:
                self._end(version, uuids[0])
        leader = self._versions[0]
        if not leader.error:
            self._grow(leader)
        return [
            self._result(recipe, uuid) for recipe, uuid in zip(self._recipes, uuids, strict=True)
        ]

    def _end(self, version: _Version, uuid: UUID) -> None:
        try:
            version.builder.final(uuid.bytes, self._threads)
            if self._layout is ImageLayout.TAR_INDEX and not self._lossy:
                check_trailing(self._tar_size, version.builder.about()[1])
        except FormatError as error:
            version.error = error

    def _blocks(self, version: _Version) -> int:
        size = version.builder.about()[0]
        if self._layout is ImageLayout.TAR_INDEX:
            size += self._tar_size
        return -(-size // self._params.data_block_size)

    def _grow(self, leader: _Version) -> None:
        """Make the leader's tree; the others are changes of it."""
        hasher = VerityHasher(self._params, threads=self._threads)

        def steps() -> Iterator[None]:
            hasher.update_digests(leader.builder.head_leaves)
            for spooled in self._spool.take():
                hasher.update_digests(spooled)
                yield
            for leaves in leader.builder.take_leaves():
                hasher.update_digests(leaves)
                yield

        self._leader_head = len(leader.builder.head_leaves) // _DIGEST
        self._leader_blocks = self._blocks(leader)
        grow_tree(hasher, steps(), self._leader_blocks, self._tree.hash_area)

    def _result(self, recipe: Recipe, uuid: UUID) -> VersionResult:
        version, leader = self._by_name[recipe.mkfs_versions[-1]], self._versions[0]
        if version.error:
            return VersionResult(recipe, uuid, None, str(version.error))
        if leader.error or version.builder.differs:
            return VersionResult(recipe, uuid, None, "its data differs", again=True)
        builder = version.builder
        leaves = bytes(builder.head_leaves)
        first = _with_uuid(bytes(builder.head), uuid, self._layout.block_size)
        hashed = self._hash.hash_blocks(first)
        leaves = bytes(hashed) + leaves[len(hashed) :]
        blocks = self._blocks(version)
        if version is leader:
            return VersionResult(recipe, uuid, self._tree.root_hash(leaves, blocks, b""))
        if self._layout is ImageLayout.TAR_INDEX:
            return VersionResult(recipe, uuid, self._of_tar_index(leaves, blocks))
        head, tail = leaves[: self._leader_head * _DIGEST], leaves[self._leader_head * _DIGEST :]
        end = blocks - len(tail) // _DIGEST
        return VersionResult(recipe, uuid, self._tree.root_hash(head, end, tail))

    def _of_tar_index(self, head: bytes, blocks: int) -> bytes:
        if len(head) // _DIGEST == self._leader_head:
            return self._tree.root_hash(head, blocks, b"")
        # the tar stands elsewhere, and so every hash block holds something else
        hasher = VerityHasher(self._params, threads=self._threads)
        hasher.update_digests(head)
        for leaves in self._tree.leaves(self._leader_head, self._leader_blocks):
            hasher.update_digests(leaves)
            for _ in hasher.drain():
                pass
        return hasher.finalize().root_hash


def _with_uuid(head: bytes, uuid: UUID, block_size: int) -> bytes:
    """The first bytes of an image with another UUID, and the checksum that follows.

    erofs-utils: erofs_enable_sb_chksum; the checksum is of the rest of block 0, or of 512 bytes.
    """
    changed = bytearray(head)
    changed[_UUID : _UUID + 16] = uuid.bytes
    if changed[_COMPAT] & _HAS_CHECKSUM:
        changed[_CHECKSUM : _CHECKSUM + 4] = bytes(4)
        size = block_size - _SUPERBLOCK if block_size > _SUPERBLOCK else block_size
        sum_ = _crc32c(changed[_SUPERBLOCK : _SUPERBLOCK + size])
        changed[_CHECKSUM : _CHECKSUM + 4] = sum_.to_bytes(4, "little")
    return bytes(changed)


def _crc32c(data: bytes | bytearray) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc
