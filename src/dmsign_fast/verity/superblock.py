"""The dm-verity superblock (cryptsetup: struct verity_sb in lib/verity/verity.c)."""

from __future__ import annotations

import struct
import uuid
from typing import TYPE_CHECKING, NamedTuple

from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.verity.params import SUPERBLOCK_SIZE, VerityParams

if TYPE_CHECKING:
    from dmsign_fast.verity.tree import HashTree

__all__ = ["SUPERBLOCK_SIZE", "Superblock"]

_SIGNATURE = b"verity\0\0"
# signature, version, hash type, uuid, algorithm, data and hash block size, data blocks, salt size,
# padding, salt, padding: little endian
_LAYOUT = struct.Struct("<8sII16s32sIIQH6x256s168x")


class Superblock(NamedTuple):
    """What stands in front of a hash area; 512 bytes."""

    params: VerityParams
    data_blocks: int
    uuid: uuid.UUID

    @classmethod
    def of(cls, tree: HashTree) -> Superblock:
        """The superblock of a tree, whose UUID is made of the root hash: always the same."""
        identity = uuid.uuid5(uuid.NAMESPACE_URL, f"dm-verity:{tree.root_hash.hex()}")
        return cls(params=tree.params, data_blocks=tree.data_blocks, uuid=identity)

    def pack(self) -> bytes:
        """The 512 bytes."""
        params = self.params
        return _LAYOUT.pack(
            _SIGNATURE,
            1,
            params.hash_type,
            self.uuid.bytes,
            params.hash_algorithm.encode(),
            params.data_block_size,
            params.hash_block_size,
            self.data_blocks,
            len(params.salt),
            params.salt,
        )

    @classmethod
    def unpack(cls, data: bytes, where: str = "the superblock") -> Superblock:
        """Parse 512 bytes; ``where`` names their place in messages.

        Raises:
            FormatError: not a superblock, or one with values outside their limits.
        """
        if len(data) < SUPERBLOCK_SIZE:
            raise FormatError(
                f"{where} is cut short, {len(data)} of {SUPERBLOCK_SIZE} bytes: is this the hash "
                "file, and is --hash-offset right?"
            )
        (
            signature,
            version,
            hash_type,
            uuid_bytes,
            algorithm,
            data_block_size,
            hash_block_size,
            data_blocks,
            salt_size,
            salt,
        ) = _LAYOUT.unpack_from(data)
        if signature != _SIGNATURE:
            raise FormatError(
                f"{where} has no dm-verity signature: is this the hash file, and is --hash-offset "
                "right? (a hash file without one needs --no-superblock and all parameters)"
            )
        if version != 1:
            raise FormatError(f"{where} has version {version}: only version 1 is known")
        if salt_size > len(salt):
            raise FormatError(
                f"{where} says that its salt has {salt_size} bytes: the limit is {len(salt)}"
            )
        name = algorithm.rstrip(b"\0").decode("latin-1")
        if not name.isascii() or not all(char.isprintable() for char in name):
            raise FormatError(f"{where} is corrupt: {name!r} names no hash algorithm")
        try:
            params = VerityParams(
                hash_algorithm=name,
                hash_type=hash_type,
                data_block_size=data_block_size,
                hash_block_size=hash_block_size,
                salt=salt[:salt_size],
            )
            params.hash_area(data_blocks)
        except ParameterError as error:
            raise FormatError(f"{where} cannot be used: {error}") from error
        return cls(params=params, data_blocks=data_blocks, uuid=uuid.UUID(bytes=uuid_bytes))
