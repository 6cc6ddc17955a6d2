"""Proofs: some blocks of a device with their way up the hash tree (docs/proofs.md).

A proof is: the line ``dmsign-fast proof 1``; the size of the header, 4 bytes, little endian; the
header, canonical JSON; the data blocks; for each level, the leaf level first, the hash blocks above
them; SHA-256 of all that. What stands where follows from the header alone, and the file must have
just the size that follows.
"""

from __future__ import annotations

import bisect
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from dmsign_fast.errors import FormatError, ParameterError, VerificationError
from dmsign_fast.outputs import storage_errors, write_all
from dmsign_fast.strict_json import Members, dump_json, read_object
from dmsign_fast.verity.blocks import block_hash, read_exactly
from dmsign_fast.verity.digest_path import blocks_above
from dmsign_fast.verity.params import VerityParams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dmsign_fast.verity.params import HashArea

__all__ = ["ALGORITHMS", "CheckedProof", "Statement", "check_proof", "write_proof"]

_MAGIC = b"dmsign-fast proof 1\n"
_MAX_HEADER = 1 << 20
_PIECE = 1 << 20
# A proof names its own parameters, so that a broken digest would prove anything.
ALGORITHMS = ("sha256", "sha384", "sha512")
_MEMBERS = (
    *("data_block_size", "data_blocks", "hash_algorithm", "hash_block_size", "hash_type"),
    *("path", "runs", "salt"),
)


class Statement(NamedTuple):
    """What a proof is about.

    Attributes:
        params: of the hash tree.
        data_blocks: of the device.
        runs: the blocks that are proven, (first, how many), rising, with a gap between two.
        path: of the file that the blocks are said to have; None for blocks alone.
    """

    params: VerityParams
    data_blocks: int
    runs: tuple[tuple[int, int], ...]
    path: bytes | None

    @property
    def blocks(self) -> int:
        """How many data blocks there are in the proof."""
        return sum(count for _, count in self.runs)

    def header(self) -> bytes:
        """As a proof has it."""
        params = self.params
        return dump_json(
            {
                "data_block_size": params.data_block_size,
                "data_blocks": self.data_blocks,
                "hash_algorithm": params.hash_algorithm,
                "hash_block_size": params.hash_block_size,
                "hash_type": params.hash_type,
                "path": None if self.path is None else quote_from_bytes(self.path),
                "runs": self.runs,
                "salt": params.salt.hex(),
            }
        )

    @classmethod
    def of_header(cls, header: bytes) -> Statement:
        """Parse a header; FormatError if it is not as header() would write it."""
        members = Members(read_object(header, "the proof's header"), _MEMBERS, "the proof's header")
        path = members.optional_text("path")
        runs = []
        for one in members.array("runs"):
            if not isinstance(one, list) or [type(number) for number in one] != [int, int]:
                raise members.wrong("runs", "is not an array of pairs of numbers")
            runs.append((one[0], one[1]))
        algorithm = members.text("hash_algorithm")
        if algorithm not in ALGORITHMS:
            raise members.wrong("hash_algorithm", f"is not one of {', '.join(ALGORITHMS)}")
        salt = members.value("salt")
        try:
            params = VerityParams(
                algorithm,
                members.integer("hash_type"),
                members.integer("data_block_size"),
                members.integer("hash_block_size"),
                bytes.fromhex(salt) if isinstance(salt, str) else None,
            )
            blocks = members.integer("data_blocks")
            params.hash_area(blocks)
        except (ParameterError, ValueError) as error:
            raise FormatError(f"the proof's header is malformed: {error}") from error
        found = cls(params, blocks, tuple(runs), None if path is None else unquote_to_bytes(path))
        end = -1
        for first, count in found.runs:
            if first <= end or count < 1:
                raise members.wrong("runs", "do not rise, or touch")
            end = first + count
        if not found.runs or end > blocks:
            raise members.wrong("runs", "are not blocks of the device")
        if found.header() != header:
            raise FormatError("the proof's header is not canonical JSON of its members alone")
        return found

    def levels(self) -> Iterator[tuple[int, list[int]]]:
        """Level by level, leaf level first: the hash blocks that a proof has of it."""
        per_block = self.params.hashes_per_block
        found: dict[int, None] = {}
        for first, count in self.runs:
            last = (first + count - 1) // per_block
            found.update(dict.fromkeys(range(first // per_block, last + 1)))
        numbers = list(found)
        for level in range(len(self.params.hash_area(self.data_blocks).levels)):
            yield level, numbers
            numbers = blocks_above(self.params, numbers)


@dataclass(frozen=True)
class CheckedProof:
    """A proof that agrees with a root hash.

    Attributes:
        statement: what it is about.
        fd: the file, which must stay open.
        offset: where its data blocks begin, bytes.
    """

    statement: Statement
    fd: int
    offset: int

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the device; VerificationError where the proof has none of them."""
        block = self.statement.params.data_block_size
        runs = self.statement.runs
        taken = bytearray()
        while len(taken) < size:
            at = offset + len(taken)
            number = bisect.bisect_right(runs, at // block, key=lambda run: run[0]) - 1
            first, count = runs[number] if number >= 0 else (0, 0)
            left = (first + count) * block - at
            if left <= 0:
                raise VerificationError(f"the proof does not have byte {at} of the device")
            before = sum(run[1] for run in runs[:number]) * block
            place = self.offset + before + at - first * block
            taken += read_exactly(self.fd, place, min(left, size - len(taken)))
        return bytes(taken)


def write_proof(fd: int, data_fd: int, hash_fd: int, area: HashArea, statement: Statement) -> None:
    """Write a proof to a new file.

    Args:
        fd: the file.
        data_fd: the device.
        hash_fd: the file with the hash area.
        area: where it stands in that file.
        statement: what to prove.

    Raises:
        ParameterError: the tree's digest is none that a proof may have.
        StorageError: something cannot be read or written.
    """
    params = statement.params
    if params.hash_algorithm not in ALGORITHMS:
        raise ParameterError(
            f"a proof cannot have a tree of {params.hash_algorithm}: use {', '.join(ALGORITHMS)}"
        )
    header = statement.header()
    if len(header) > _MAX_HEADER:
        raise ParameterError("the blocks of this proof are scattered too widely")
    digest = hashlib.sha256()
    at = 0
    for piece in _pieces(data_fd, hash_fd, area, statement, header):
        digest.update(piece)
        with storage_errors("write", "the proof"):
            write_all(fd, piece, at)
        at += len(piece)
    with storage_errors("write", "the proof"):
        write_all(fd, digest.digest(), at)


def _pieces(
    data_fd: int, hash_fd: int, area: HashArea, statement: Statement, header: bytes
) -> Iterator[bytes]:
    params = statement.params
    yield _MAGIC + len(header).to_bytes(4, "little") + header
    for first, count in statement.runs:
        end = (first + count) * params.data_block_size
        for at in range(first * params.data_block_size, end, _PIECE):
            yield read_exactly(data_fd, at, min(_PIECE, end - at))
    for level, numbers in statement.levels():
        for number in numbers:
            at = area.levels[level].offset + number * params.hash_block_size
            yield read_exactly(hash_fd, at, params.hash_block_size)


def check_proof(fd: int, root_hash: bytes) -> CheckedProof:
    """Check every block of a proof up to a root hash.

    Raises:
        FormatError: this is no proof, or a damaged one.
        ParameterError: the root hash has another size than the digests.
        VerificationError: a block is not what the root hash stands for.
        StorageError: the file cannot be read.
    """
    with storage_errors("read", "the proof"):
        size = os.fstat(fd).st_size
        start = os.pread(fd, len(_MAGIC) + 4, 0)
    if not start.startswith(_MAGIC) or len(start) < len(_MAGIC) + 4:
        raise FormatError("this is no proof of dmsign-fast, or of a version that is not known")
    length = int.from_bytes(start[len(_MAGIC) :], "little")
    if length > min(_MAX_HEADER, size):
        raise FormatError(f"the proof's header would have {length} bytes")
    statement = Statement.of_header(read_exactly(fd, len(start), length))
    params = statement.params
    data_at = len(start) + length
    hash_at = data_at + statement.blocks * params.data_block_size
    left = size - hash_at - hashlib.sha256().digest_size
    if left < 0:
        raise FormatError("the proof is cut short")
    params.check_root_hash(root_hash)
    levels = list(statement.levels())
    if left != sum(len(numbers) for _, numbers in levels) * params.hash_block_size:
        raise FormatError("the proof has not the size that follows from its header")
    _check_sum(fd, size)
    hashed = block_hash(params, params.data_block_size)
    digests = hashed.hash_file(fd, data_at, statement.blocks)
    below: Sequence[tuple[int, int]] = statement.runs
    for _, numbers in levels:
        stored = read_exactly(fd, hash_at, len(numbers) * params.hash_block_size)
        hash_at += len(stored)
        _compare(params, digests, below, numbers, stored)
        digests = block_hash(params, params.hash_block_size).hash_blocks(stored)
        below = [(number, 1) for number in numbers]
    if bytes(digests) != root_hash:
        raise VerificationError("the proof is of another root hash, or was changed")
    return CheckedProof(statement, fd, data_at)


def _check_sum(fd: int, size: int) -> None:
    digest = hashlib.sha256()
    end = size - digest.digest_size
    for at in range(0, end, _PIECE):
        digest.update(read_exactly(fd, at, min(_PIECE, end - at)))
    if digest.digest() != read_exactly(fd, end, digest.digest_size):
        raise FormatError("the proof was damaged: its last 32 bytes are not its SHA-256")


def _compare(
    params: VerityParams,
    digests: bytearray,
    below: Sequence[tuple[int, int]],
    numbers: Sequence[int],
    stored: bytes,
) -> None:
    """Raise VerificationError unless hash blocks ``numbers`` have the digests of those below."""
    size, slot, per_block = params.digest_size, params.slot_size, params.hashes_per_block
    row = {number: at * params.hash_block_size for at, number in enumerate(numbers)}
    at = 0
    for first, count in below:
        for number in range(first, first + count):
            place = row[number // per_block] + number % per_block * slot
            if stored[place : place + size] != digests[at : at + size]:
                raise VerificationError(
                    f"block {number} of the proof is not what the root hash stands for"
                )
            at += size
