"""What decides a hash tree, and where its levels stand (cryptsetup: lib/verity/verity_hash.c)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, Self, SupportsIndex

from dmsign_fast.arguments import check_type, instance
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    import hashlib

__all__ = [
    "MAX_BLOCK_SIZE",
    "MIN_BLOCK_SIZE",
    "PARAMS",
    "HashArea",
    "Level",
    "VerityParams",
    "new_digest",
]

MIN_BLOCK_SIZE = 512
MAX_BLOCK_SIZE = 512 << 10
MAX_SALT_SIZE = 256
SUPERBLOCK_SIZE = 512
_MAX_FILE = (1 << 63) - 1
# Names that dm-verity (the kernel's crypto API) and hashlib spell differently.
_HASHLIB_NAMES = {"blake2b-512": "blake2b", "blake2s-256": "blake2s", "rmd160": "ripemd160"}


def new_digest(algorithm: str) -> hashlib._Hash:
    """A hashlib object for an algorithm as dm-verity names it.

    Raises:
        ParameterError: unknown here, or without a fixed digest size.
    """
    import hashlib  # the C core has SHA-256, and needs none of it

    name = _HASHLIB_NAMES.get(algorithm, algorithm.replace("sha3-", "sha3_"))
    try:
        digest = hashlib.new(name)
    except (ValueError, TypeError):  # the latter for a NUL in the name
        digest = None
    if digest is None or not digest.digest_size:
        raise ParameterError(
            f"hash algorithm {algorithm!r} is not supported: Python's hashlib, which hashes all "
            "but sha256, does not have it; use sha256, sha512, sha1, sha3-256 or blake2b-512, or "
            "else veritysetup itself"
        )
    return digest


class Level(NamedTuple):
    """One level of the hash area: ``blocks`` hash blocks from byte ``offset`` of the file on."""

    offset: int
    blocks: int


class HashArea(NamedTuple):
    """Where the levels stand in the hash file, leaf level (0) first; ``end`` is the byte after."""

    levels: tuple[Level, ...]
    start: int
    end: int

    @property
    def blocks(self) -> int:
        """Hash blocks of all levels."""
        return sum(level.blocks for level in self.levels)


class _Fields(NamedTuple):
    hash_algorithm: str
    hash_type: int
    data_block_size: int
    hash_block_size: int
    salt: bytes


class VerityParams(_Fields):
    """The parameters of a hash tree, with the defaults and limits of ``veritysetup format``.

    Attributes:
        hash_algorithm: as the kernel names it, lower case.
        hash_type: 1, H(salt | block) in slots of a power of two; 0, H(block | salt), unpadded.
        data_block_size: bytes, a power of two from 512 to 512 KiB.
        hash_block_size: the same, on its own.
        salt: 0 to 256 bytes; 32 random ones unless given.

    Raises:
        ParameterError: one of them is outside its limits.
    """

    __slots__ = ()

    def __new__(
        cls,
        hash_algorithm: str = "sha256",
        hash_type: int = 1,
        data_block_size: int = 4096,
        hash_block_size: int = 4096,
        salt: bytes | None = None,
    ) -> Self:
        """Check them; 32 random bytes of salt unless given."""
        check_type("the hash algorithm", hash_algorithm, str, "its name, such as 'sha256'")
        check_type("the hash type", hash_type, SupportsIndex, "1 or 0")
        check_type("the data block size", data_block_size, SupportsIndex, "a number, such as 4096")
        check_type("the hash block size", hash_block_size, SupportsIndex, "a number, such as 4096")
        if salt is not None:
            advice = "bytes, such as bytes.fromhex('00')"
            check_type("the salt", salt, (bytes, bytearray, memoryview), advice)
        self = super().__new__(
            cls,
            hash_algorithm.lower(),
            hash_type,
            data_block_size,
            hash_block_size,
            os.urandom(32) if salt is None else bytes(salt),
        )
        self._check()
        return self

    def _replace(self, **changed: Any) -> Self:
        """As of any named tuple, and checked."""
        return type(self)(**(self._asdict() | changed))

    def _check(self) -> None:
        if self.hash_type not in (0, 1):
            raise ParameterError(
                f"hash type {self.hash_type} is unknown: use 1 (normal) or 0 (Chrome OS)"
            )
        for name in ("data_block_size", "hash_block_size"):
            size = getattr(self, name)
            if not MIN_BLOCK_SIZE <= size <= MAX_BLOCK_SIZE or size & (size - 1):
                raise ParameterError(
                    f"{name.replace('_', ' ')} {size} is not supported: use a power of two from "
                    f"{MIN_BLOCK_SIZE} to {MAX_BLOCK_SIZE}, such as 4096"
                )
        if len(self.salt) > MAX_SALT_SIZE:
            raise ParameterError(
                f"the salt has {len(self.salt)} bytes: use at most {MAX_SALT_SIZE}"
            )
        if self.hash_block_size < 2 * self.digest_size:
            raise ParameterError(
                f"a hash block of {self.hash_block_size} bytes does not hold two digests of "
                f"{self.hash_algorithm}: use a larger hash block size"
            )

    @property
    def digest_size(self) -> int:
        """Bytes of a digest."""
        if self.hash_algorithm == "sha256":
            return 32
        return new_digest(self.hash_algorithm).digest_size

    @property
    def slot_size(self) -> int:
        """Bytes that a digest takes in a hash block."""
        size = self.digest_size
        return size if self.hash_type == 0 else 1 << (size - 1).bit_length()

    @property
    def hashes_per_block(self) -> int:
        """Digests in a hash block, a power of two."""
        return 1 << (self.hash_block_size // self.digest_size).bit_length() - 1

    def check_root_hash(self, root_hash: bytes) -> None:
        """ParameterError if it has not the size of a digest."""
        if len(root_hash) != self.digest_size:
            raise ParameterError(
                f"the root hash has {len(root_hash)} bytes: one of {self.hash_algorithm} has "
                f"{self.digest_size}"
            )

    def hash_area(
        self, data_blocks: int, *, hash_offset: int = 0, superblock: bool = True
    ) -> HashArea:
        """Where the hash area of ``data_blocks`` blocks stands in a file.

        Raises:
            ParameterError: ``hash_offset`` is not aligned, or an end is beyond 2^63 bytes.
        """
        unit = MIN_BLOCK_SIZE if superblock else self.hash_block_size
        if hash_offset < 0 or hash_offset % unit:
            raise ParameterError(f"hash offset {hash_offset} is not a multiple of {unit}")
        if data_blocks < 1 or data_blocks * self.data_block_size > _MAX_FILE:
            raise ParameterError(
                f"{data_blocks} data blocks of {self.data_block_size} bytes: 1 to 2^63 bytes"
            )
        start = hash_offset + (SUPERBLOCK_SIZE if superblock else 0)
        start += -start % self.hash_block_size
        counts = []
        blocks = data_blocks
        while blocks > 1:
            blocks = -(-blocks // self.hashes_per_block)
            counts.append(blocks)
        levels: list[Level] = []
        end = start
        for count in reversed(counts):
            levels.insert(0, Level(end, count))
            end += count * self.hash_block_size
        if end > _MAX_FILE:
            raise ParameterError(f"the hash area would end at byte {end}, beyond 2^63")
        return HashArea(tuple(levels), start, end)


PARAMS = instance(VerityParams, "VerityParams")
