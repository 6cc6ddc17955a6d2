"""The path of digests from a data block to the root hash."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dmsign_fast.verity.blocks import block_hash, read_exactly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dmsign_fast.verity.params import HashArea, VerityParams

__all__ = ["Step", "blocks_above", "digest_path", "slot_of"]


class Step(NamedTuple):
    """A block on the way from the data to the root hash.

    Attributes:
        level: of the hash area, 0 is the leaf level; None: the data block.
        block: its number on that level.
        offset: where it stands in its file, bytes.
        computed: its digest as it stands.
        wanted: its digest as the level above has it; of the top block, the root hash.
    """

    level: int | None
    block: int
    offset: int
    computed: bytes
    wanted: bytes

    @property
    def good(self) -> bool:
        """Whether the level above stands for this block as it is."""
        return self.computed == self.wanted


def blocks_above(params: VerityParams, blocks: Sequence[int]) -> list[int]:
    """The numbers of the hash blocks with the digests of such blocks; both rise."""
    return list(dict.fromkeys(block // params.hashes_per_block for block in blocks))


def slot_of(params: VerityParams, hash_block: bytes, number: int) -> bytes:
    """The digest of block ``number`` of the level below, in the hash block that has it."""
    at = number % params.hashes_per_block * params.slot_size
    return hash_block[at : at + params.digest_size]


def digest_path(
    data_fd: int,
    hash_fd: int,
    params: VerityParams,
    area: HashArea,
    root_hash: bytes | None,
    block: int,
) -> list[Step]:
    """Every step from a data block up to the root hash; without one, to what the top block gives.

    Raises:
        StorageError: a block cannot be read.
    """
    size = params.data_block_size
    level, offset, content = None, block * size, read_exactly(data_fd, block * size, size)
    steps: list[Step] = []
    for above, place in enumerate(area.levels):
        up = block // params.hashes_per_block
        up_offset = place.offset + up * params.hash_block_size
        up_content = read_exactly(hash_fd, up_offset, params.hash_block_size)
        computed = bytes(block_hash(params, len(content)).hash_blocks(content))
        steps.append(Step(level, block, offset, computed, slot_of(params, up_content, block)))
        level, block, offset, content = above, up, up_offset, up_content
    computed = bytes(block_hash(params, len(content)).hash_blocks(content))
    return [*steps, Step(level, block, offset, computed, root_hash or computed)]
