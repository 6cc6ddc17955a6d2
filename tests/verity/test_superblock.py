"""Superblocks, and bytes that are none."""

import struct
import uuid

import pytest
from helpers import noise, write
from hypothesis import given, settings
from hypothesis import strategies as st

from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.verity.params import VerityParams
from dmsign_fast.verity.superblock import Superblock
from dmsign_fast.verity.verify import verify_file

ALGORITHMS = ["sha1", "sha224", "sha256", "sha384", "sha512", "sha3-256", "blake2b-512"]
BLOCK_SIZES = [512 << shift for shift in range(11)]

superblocks = st.builds(
    Superblock,
    params=st.builds(
        VerityParams,
        hash_algorithm=st.sampled_from(ALGORITHMS),
        hash_type=st.sampled_from([0, 1]),
        data_block_size=st.sampled_from(BLOCK_SIZES),
        hash_block_size=st.sampled_from(BLOCK_SIZES),
        salt=st.binary(max_size=256),
    ),
    data_blocks=st.integers(1, 1 << 40),
    uuid=st.uuids(),
)
GOOD = Superblock(params=VerityParams(salt=noise(32)), data_blocks=1000, uuid=uuid.UUID(int=7))


def changed(offset, layout, *values):
    data = bytearray(GOOD.pack())
    struct.pack_into(layout, data, offset, *values)
    return bytes(data)


@settings(max_examples=200)
@given(superblocks)
def test_a_superblock_comes_back_as_it_was(superblock):
    data = superblock.pack()
    assert len(data) == 512
    assert Superblock.unpack(data) == superblock
    assert Superblock.unpack(data + b"what stands behind it") == superblock
    assert Superblock.unpack(data).pack() == data


def test_the_fields_stand_where_the_format_says():
    data = GOOD.pack()
    assert data[:8] == b"verity\0\0"
    assert struct.unpack_from("<II", data, 8) == (1, 1)
    assert data[16:32] == GOOD.uuid.bytes
    assert data[32:64] == b"sha256".ljust(32, b"\0")
    assert struct.unpack_from("<IIQH", data, 64) == (4096, 4096, 1000, 32)
    assert data[88:344] == noise(32).ljust(256, b"\0")
    assert not any(data[344:])


@settings(max_examples=300)
@given(st.binary(max_size=1024))
def test_random_bytes_are_a_format_error(data):
    with pytest.raises(FormatError):
        Superblock.unpack(data)
    with pytest.raises(FormatError):
        Superblock.unpack(b"verity\0\0\1\0\0\0" + data)


@settings(max_examples=250)
@given(superblocks, st.lists(st.tuples(st.integers(0, 343), st.integers(0, 255)), min_size=1))
def test_a_changed_superblock_is_read_or_a_format_error(superblock, changes):
    data = bytearray(superblock.pack())
    for at, byte in changes:
        data[at] = byte
    try:
        read = Superblock.unpack(bytes(data))
    except FormatError:
        return
    assert Superblock.unpack(read.pack()) == read


@settings(max_examples=300)
@given(
    version=st.sampled_from([0, 1, 1, 1, 2]),
    hash_type=st.sampled_from([0, 1, 2, 1 << 31]),
    algorithm=st.sampled_from([*map(str.encode, ALGORITHMS), b"SHA256"]) | st.binary(max_size=32),
    block_sizes=st.tuples(*2 * [st.sampled_from(BLOCK_SIZES) | st.integers(0, (1 << 32) - 1)]),
    data_blocks=st.integers(0, (1 << 64) - 1),
    salt_size=st.integers(0, 300) | st.just(65535),
)
def test_any_field_values_are_read_or_a_format_error(
    version, hash_type, algorithm, block_sizes, data_blocks, salt_size
):
    data = bytearray(GOOD.pack())
    values = (version, hash_type, bytes(16), algorithm, *block_sizes, data_blocks, salt_size)
    struct.pack_into("<II16s32sIIQH", data, 8, *values)
    try:
        read = Superblock.unpack(bytes(data))
    except FormatError:
        return
    assert (version, read.data_blocks, len(read.params.salt)) == (1, data_blocks, salt_size)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut short, 0 of 512"),
        (GOOD.pack()[:511], "cut short, 511 of 512"),
        (bytes(512), "no dm-verity signature"),
        (changed(0, "8s", b"verity"[::-1]), "no dm-verity signature"),
        (changed(8, "<I", 2), "version 2"),
        (changed(12, "<I", 7), "hash type 7"),
        (changed(32, "32s", "schön".encode()), "corrupt"),
        (changed(32, "32s", b"\xff" * 32), "corrupt"),
        (changed(32, "32s", b""), "hash algorithm ''"),
        (changed(32, "32s", b"sha256\0x"), "corrupt.*hash algorithm"),
        (changed(32, "32s", b"x" * 32), "hash algorithm"),
        (changed(64, "<I", 0), "data block size 0"),
        (changed(64, "<I", 4097), "data block size 4097"),
        (changed(68, "<I", 1 << 31), "hash block size 2147483648"),
        (changed(72, "<Q", 0), "0 data blocks"),
        (changed(72, "<Q", 1 << 52), "data blocks"),
        (changed(72, "<Q", (1 << 64) - 1), "data blocks"),
        (changed(80, "<H", 257), "salt has 257 bytes"),
        (changed(80, "<H", 65535), "salt has 65535 bytes"),
    ],
)
def test_what_is_wrong_is_said(data, why):
    with pytest.raises(FormatError, match=why):
        Superblock.unpack(data)


def test_the_message_names_the_place():
    with pytest.raises(FormatError, match=r"^the label of x has no"):
        Superblock.unpack(bytes(512), "the label of x")


@settings(max_examples=80)
@given(changes=st.lists(st.tuples(st.integers(0, 343), st.integers(0, 255)), max_size=4))
def test_verify_survives_any_superblock(tmp_path, changes):
    data = write(tmp_path / "data", noise(8192))
    superblock = bytearray(GOOD.pack())
    struct.pack_into("<Q", superblock, 72, 2)
    for at, byte in changes:
        superblock[at] = byte
    hash_file = write(tmp_path / "hash", bytes(superblock).ljust(4096, b"\0") + noise(4096))
    with pytest.raises(Exception) as caught:  # noqa: PT011
        verify_file(data, hash_file, bytes(32))
    assert caught.value.exit_code in (1, ParameterError.exit_code, FormatError.exit_code)
