"""Decompression of layers, next to gzip, zstd and the standard library."""

import gzip
import random
import re
import struct
import subprocess
import tracemalloc
import zlib
from itertools import pairwise

import pytest
from helpers import noise, program
from hypothesis import given
from hypothesis import strategies as st

from dmsign_fast.erofs.bounds import MAX_MEMBERS_FREE
from dmsign_fast.erofs.compression import Compression, compression_of, decompress
from dmsign_fast.errors import FormatError, ParameterError

NONE, GZIP, ZSTD = Compression
SLICE = 128 << 10  # decoders get their input cut at its multiples, that of zstd at others too
OCI = "application/vnd.oci.image.layer.v1.tar"
DOCKER = "application/vnd.docker.image.rootfs.diff.tar"
EROFS = "application/vnd.erofs.layer.v1"
SKIPPABLE = b"\x53\x2a\x4d\x18\x05\0\0\0hello"
ZEROS_FRAME = b"\x28\xb5\x2f\xfd\0\x50" + b"\2\0\x10\0" * 4095 + b"\3\0\x10\0"  # 512 MiB


def layer_like(size):
    """Some of it noise, some text, some zeros."""
    words, data = random.Random(1), b""
    while len(data) < size:
        data += words.choice([words.randbytes(3000), b"text " * 900, bytes(5000)])
    return data[:size]


LAYER = layer_like(900_000)
SMALL = b"A layer of few bytes, few bytes, few."


def pipe(data, *command):
    return subprocess.run(
        [program(command[0]), *command[1:]], input=data, capture_output=True, check=True
    ).stdout


def compress(data, compression):
    """One member, or one frame as from a pipe: with a checksum, without its size."""
    return pipe(data, *{GZIP: ("gzip", "-nc"), ZSTD: ("zstd", "-qc")}[compression])


def contents(pieces, compression, limit=1 << 30, piece_size=1 << 16):
    pieces = [pieces] if isinstance(pieces, bytes) else pieces
    parts = list(decompress(pieces, compression, limit=limit, piece_size=piece_size))
    assert all(0 < len(part) <= piece_size for part in parts)
    return b"".join(parts)


def cut(data, places):
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(ends)]


both = pytest.mark.parametrize("compression", [GZIP, ZSTD])
places = st.lists(st.integers(0, 1 << 20), max_size=8)


# which compression


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (gzip.compress(b"x", mtime=0), GZIP),
        (b"\x28\xb5\x2f\xfd", ZSTD),
        (SKIPPABLE, ZSTD),
        (b"\x5f" + SKIPPABLE[1:8], ZSTD),
        (b"\x60" + SKIPPABLE[1:], NONE),
        (SKIPPABLE[:7], NONE),
        (b"\x1f\x8b\x07", NONE),
        (b"\x1f\x8b", NONE),
        (bytes(512), NONE),
        (b"", NONE),
    ],
)
def test_the_first_bytes_say_how_a_layer_is_compressed(data, found):
    assert compression_of(data) is found
    for media_type in (
        f"{OCI}+gzip", f"{OCI}+zstd", DOCKER, f"{DOCKER}.gzip", f"{DOCKER}.zstd", f"{EROFS}+zstd",
    ):  # fmt: skip
        assert compression_of(data, media_type) is found
    for media_type in (OCI, EROFS):
        if found is NONE:
            assert compression_of(data, media_type) is NONE
        else:
            with pytest.raises(FormatError, match=rf"plain.*\+{found.value}"):
                compression_of(data, media_type)


@pytest.mark.parametrize(
    ("media_type", "message"),
    [
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "need not be in"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "need not be in"),
        (f"{OCI}+gzip+encrypted", "decrypt"),
        (f"{OCI}+xz", "not the media type of a layer; known are .*tar,"),
        (f"{OCI}; charset=utf-8", "not the media type"),
        (f"{EROFS}+gzip", "not the media type"),
        ("application/vnd.oci.empty.v1+json", "not the media type"),
        ("", "not the media type"),
    ],
)
def test_other_media_types_are_refused(media_type, message):
    with pytest.raises(FormatError, match=message):
        compression_of(gzip.compress(b"x"), media_type)


# what comes out


@pytest.mark.parametrize(
    ("command", "compression"),
    [
        (("gzip", "-1c"), GZIP),
        (("gzip", "-9nc"), GZIP),
        (("zstd", "-q1c"), ZSTD),
        (("zstd", "-q19c", "--no-check"), ZSTD),
        (("zstd", "-qc", "--ultra", "-22"), ZSTD),
        (("zstd", "-qc", "--long=27"), ZSTD),
        (("zstd", "-qc", f"--stream-size={len(LAYER)}"), ZSTD),
        (("cat",), NONE),
    ],
    ids=str,
)
def test_what_the_programs_write_is_read(command, compression):
    data = pipe(LAYER, *command)
    assert compression_of(data) is compression
    assert contents(data, compression) == LAYER


@both
@given(
    data=st.binary(max_size=200) | st.sampled_from([LAYER, noise(SLICE + 9), bytes(3 * SLICE)]),
    splits=places,
    pieces=places,
    piece_size=st.sampled_from([1000, 1 << 16, 1 << 20]),
)
def test_members_and_pieces_of_any_size(compression, data, splits, pieces, piece_size):
    members = [compress(part, compression) for part in cut(data, splits[:3])]
    if compression is ZSTD:
        members = [SKIPPABLE, members[0], SKIPPABLE, SKIPPABLE, *members[1:], SKIPPABLE]
    parts = [memoryview(bytearray(part)) for part in cut(b"".join(members), pieces)]
    assert contents(parts, compression, piece_size=piece_size) == data


@both
def test_a_byte_at_a_time(compression):
    data = compress(SMALL, compression) * 2
    assert contents((data[at : at + 1] for at in range(len(data))), compression) == 2 * SMALL
    assert contents(data, compression, piece_size=1) == 2 * SMALL


@both
def test_thousands_of_members(compression):
    member = compress(SMALL, compression)
    assert contents(member * 5000, compression) == SMALL * 5000


def member_with(data, flags):
    header = b"\x1f\x8b\x08" + bytes([flags]) + b"\1\2\3\4\0\xff"
    header += struct.pack("<H", 300) + noise(300) if flags & 4 else b""
    header += b"name\0" if flags & 8 else b""
    header += b"of a layer\0" if flags & 16 else b""
    header += struct.pack("<H", zlib.crc32(header) & 0xFFFF) if flags & 2 else b""
    return header, zlib.compress(data, wbits=-15) + struct.pack("<II", zlib.crc32(data), len(data))


@pytest.mark.parametrize("flags", range(32))
def test_every_gzip_header_wherever_it_is_cut(flags):
    header, rest = member_with(SMALL, flags)
    assert gzip.decompress(header + rest) == SMALL
    for inside in {1, 4, 11, 12, 200, len(header) - 1, len(header), len(header) + len(rest) - 4}:
        stored = SLICE - inside - 18 - 5 * 3  # in three blocks, so that the first member ends there
        before = gzip.compress(noise(stored), 0, mtime=0)
        assert len(before) + inside == SLICE
        assert contents(before + header + rest, GZIP) == noise(stored) + SMALL


def test_the_largest_gzip_header_that_go_reads():
    extra = b"\x1f\x8b\x08\x1c" + bytes(6) + b"\xff\xff" + bytes(65535) + b"n" * 511 + b"\0"
    header = extra + b"c" * 511 + b"\0"
    _, rest = member_with(SMALL, 0)
    for before in (1000, 30_000, 66_000):
        first = compress(noise(SLICE - before), GZIP)
        assert contents(first + header + rest, GZIP) == noise(SLICE - before) + SMALL


@pytest.mark.parametrize("inside", range(1, 10))
def test_every_start_of_a_zstd_frame_wherever_it_is_cut(inside):
    skipped = bytes(SLICE - inside - 8)
    before = SKIPPABLE[:4] + struct.pack("<I", len(skipped)) + skipped
    for start in (b"", SKIPPABLE):
        assert contents(before + start + compress(SMALL, ZSTD), ZSTD) == SMALL


def test_plain_pieces_are_not_copied():
    piece = bytearray(b"abcdef")
    parts = list(decompress([piece, b"", b"g"], NONE, limit=7, piece_size=4))
    assert [bytes(part) for part in parts] == [b"abcd", b"ef", b"g"]
    assert parts[0].obj is piece


# limits


@pytest.mark.parametrize("compression", list(Compression))
def test_the_limit_is_exact(compression):
    data = LAYER if compression is NONE else compress(LAYER, compression)
    assert contents(data, compression, limit=len(LAYER)) == LAYER
    for limit in (len(LAYER) - 1, 1 << 16, 1, 0):
        got = 0
        with pytest.raises(ParameterError, match=rf" {limit} bytes, .*--max-layer-size"):
            for part in decompress([data], compression, limit=limit, piece_size=1 << 16):
                got += len(part)
        assert limit - (1 << 16) < got <= limit


@pytest.mark.parametrize(
    ("bomb", "compression"),
    [
        (gzip.compress(bytes(64 << 20), mtime=0), GZIP),
        (ZEROS_FRAME, ZSTD),
        (ZEROS_FRAME * 99, ZSTD),
    ],
    ids=["gzip", "zstd", "frames"],
)
def test_a_bomb_takes_no_more_memory_than_its_pieces(bomb, compression):
    limit = 48 << 20
    tracemalloc.start()
    try:
        with pytest.raises(ParameterError, match=f"{limit} bytes"):
            for _ in decompress([bomb], compression, limit=limit, piece_size=1 << 18):
                pass
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()


# what is refused


@both
def test_data_that_is_cut_off(compression):
    first = compress(SMALL, compression)
    data = first + compress(b"and more", compression)
    for end in range(1, len(data)):
        if end == len(first):
            continue
        with pytest.raises(FormatError, match=rf"ends within|at byte {len(first)} of|at byte 0 of"):
            contents(data[:end], compression)
    with pytest.raises(
        FormatError, match=rf"ends within .* {len(data) - 1}, after {len(SMALL) + 8} "
    ):
        contents(data[:-1], compression)


@both
@given(end=st.integers(1, 1 << 20))
def test_a_large_layer_that_is_cut_off(compression, end):
    data = compress(LAYER, compression)
    with pytest.raises(FormatError):
        contents(data[: end % len(data)], compression)


@both
def test_a_flipped_bit_is_found_or_does_not_matter(compression):
    first = compress(SMALL, compression)
    data = first + SKIPPABLE * (compression is ZSTD) + compress(b"and more", compression)
    same = set()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert contents(bytes(damaged), compression) == SMALL + b"and more"
        except FormatError:
            continue
        same.add(bit // 8)
    if compression is GZIP:  # time, flags, system; the padding of the last bits
        assert same <= {n + at for n in (0, len(first)) for at in (3, 4, 5, 6, 7, 8, 9)} | {
            len(first) - 9,
            len(data) - 9,
        }
    else:  # the size of the window, and what is skipped
        skipped = range(len(first), len(first) + len(SKIPPABLE))
        assert same <= {4, 5, *skipped, skipped.stop + 4, skipped.stop + 5}


@both
@given(data=st.data())
def test_damage_is_never_silent(compression, data):
    good = compress(LAYER, compression)
    bad = bytearray(good)
    at = data.draw(st.integers(18, len(good) - 1))
    size = data.draw(st.integers(1, 40))
    bad[at : at + size] = data.draw(st.binary(min_size=size, max_size=size))
    try:
        assert contents(bytes(bad), compression) == LAYER
    except FormatError:
        assert bad != good


@both
@pytest.mark.parametrize(
    "rest", [b"\0", bytes(3), bytes(512), bytes(1 << 20), b"garbage", b"\x1f", b"\x28\xb5\x2f"]
)
@pytest.mark.parametrize("together", [True, False])
def test_bytes_after_the_end(compression, rest, together):
    """Zeros too: Go's readers fail, so that a node with neither igzip nor unpigz would."""
    data = compress(SMALL, compression)
    pieces = [data + rest] if together else [data, rest]
    with pytest.raises(
        FormatError, match=rf"byte {len(data)} of the layer, after {len(SMALL)} bytes of its"
    ):
        contents(pieces, compression)


def test_what_is_not_compressed_so():
    data = {GZIP: compress(SMALL, GZIP), ZSTD: compress(SMALL, ZSTD), NONE: LAYER}
    for compression in (GZIP, ZSTD):
        for other in data.values():
            if other is not data[compression]:
                with pytest.raises(FormatError, match=f"byte 0 .* neither {compression.value}"):
                    contents(other, compression)
                with pytest.raises(FormatError, match=f"byte {len(data[compression])} .* neither"):
                    contents(data[compression] + other, compression)


@pytest.mark.parametrize("flags", [0x20, 0x40, 0x80, 0xE0])
def test_reserved_flags_of_gzip(flags):
    header, rest = member_with(SMALL, flags)
    with pytest.raises(FormatError, match="at byte 0"):
        contents(header + rest, GZIP)


@pytest.mark.parametrize(("at", "what"), [(-8, "checksum"), (-4, "checksum"), (-1, "checksum")])
def test_checksum_and_size_of_gzip(at, what):
    data = bytearray(compress(SMALL, GZIP))
    data[at] ^= 1
    with pytest.raises(FormatError, match=rf"gzip data .*{what}"):
        contents(bytes(data), GZIP)


def test_checksum_of_zstd():
    data = bytearray(compress(SMALL, ZSTD))
    data[-1] ^= 1
    with pytest.raises(FormatError, match=r"zstd data at or before byte .* checksum"):
        contents(bytes(data), ZSTD)


def test_a_dictionary_is_refused():
    frame = b"\x28\xb5\x2f\xfd\x21\x07\x05\x29\0\0hello"
    assert contents(frame.replace(b"\x21\x07", b"\x20"), ZSTD) == b"hello"
    with pytest.raises(FormatError, match="needs a dictionary"):
        contents(frame, ZSTD)


def test_a_window_of_128_mib_is_the_largest():
    assert contents(pipe(SMALL, "zstd", "-qc", "--long=27"), ZSTD) == SMALL
    with pytest.raises(FormatError, match="larger than 128 MiB"):
        contents(pipe(SMALL, "zstd", "-qc", "--long=28"), ZSTD)


@pytest.mark.parametrize("compression", list(Compression))
def test_no_contents(compression):
    nothing = [] if compression is NONE else [compress(b"", compression)]
    for pieces in ([], [b"", b""], nothing):
        assert contents(pieces, compression) == b""


@given(
    data=st.binary(max_size=300), prefix=st.sampled_from([b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd"])
)
def test_noise_is_refused(data, prefix):
    with pytest.raises(FormatError):
        contents(prefix + data, GZIP if prefix[0] == 0x1F else ZSTD)


def test_errors_of_the_source_go_through():
    def pieces():
        yield compress(SMALL, GZIP)[:9]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        contents(pieces(), GZIP)


def test_messages_say_what_to_do():
    for data, compression in (
        (b"\x1f\x8b\x08" + bytes(99), GZIP),
        (compress(SMALL, ZSTD)[:9], ZSTD),
    ):
        with pytest.raises(FormatError) as caught:
            contents(data, compression)
        assert re.search(r"fetch it", str(caught.value))


# frames that only cost time


EMPTY_ZSTD = bytes.fromhex("28b52ffd2000010000")
EMPTY = {
    "gzip": (gzip.compress(b"", mtime=0), GZIP),
    "zstd": (EMPTY_ZSTD, ZSTD),
    "skippable": (bytes.fromhex("502a4d1800000000"), ZSTD),
    "gzip of a byte": (gzip.compress(b"x", mtime=0), GZIP),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_frames_that_bring_nothing_are_counted(kind):
    member, compression = EMPTY[kind]
    few, many = MAX_MEMBERS_FREE - 1, 2 * MAX_MEMBERS_FREE
    end = compress(SMALL, compression)
    assert contents(member * few + end, compression).endswith(SMALL)
    with pytest.raises(FormatError, match=r"has \d+ (gzip members|zstd frames) in its first"):
        contents(member * many + end, compression)


@both
def test_a_frame_for_each_file_is_no_offence(compression):
    """As in zstd:chunked and eStargz: headers of 512 bytes, small files, a frame for each."""
    one = compress(b"header".ljust(512, b"\0"), compression)
    assert len(contents(one * 20_000, compression)) == 512 * 20_000
