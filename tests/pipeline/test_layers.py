"""Layers as they are stored: decompressed, checked, converted and hashed at once."""

import dataclasses
import gzip
import hashlib
import io
import itertools
import random
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from uuid import UUID

import pytest
from erofs_layers.twins import (
    image_of,
    tar_of,
    tree_of,
    typical_tar,
)
from helpers import noise, pieces_of, zstd

from dmsign_fast.erofs.compression import Compression
from dmsign_fast.erofs.image_hasher import no_hash_area
from dmsign_fast.erofs.recipe import RECIPES
from dmsign_fast.errors import FormatError, ParameterError, StorageError, VerificationError
from dmsign_fast.pipeline.layers import (
    Conversion,
    Expected,
    hash_layer,
    read_pieces,
)
from dmsign_fast.pipeline.side_by_side import BUFFERS
from dmsign_fast.verity.params import VerityParams

CONTAINERD, CACHE, TAR_INDEX, OSGUARD = RECIPES
OCI = "application/vnd.oci.image.layer.v1.tar"
EROFS = "application/vnd.erofs.layer.v1"


def digest(data, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def members(data):
    """gzip in three members, one of them empty, as pigz and estargz make many."""
    return gzip.compress(data[:5000], mtime=0) + gzip.compress(b"") + gzip.compress(data[5000:], 1)


def frames(data):
    return zstd(data[:70_000]) + b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstd(data[70_000:])


PACKED = {
    "plain": (lambda data: data, Compression.NONE),
    "gzip": (gzip.compress, Compression.GZIP),
    "members": (members, Compression.GZIP),
    "zstd": (zstd, Compression.ZSTD),
    "frames": (frames, Compression.ZSTD),
}


def uuid5(name):
    """By hand, RFC 9562."""
    namespace = bytes.fromhex("6ba7b8119dad11d180b400c04fd430c8")
    found = bytearray(hashlib.sha1(namespace + name.encode()).digest()[:16])
    found[6], found[8] = found[6] & 0x0F | 0x50, found[8] & 0x3F | 0x80
    return UUID(bytes=bytes(found))


# what comes out


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("packed", PACKED)
def test_the_root_hash_is_that_of_the_image_on_the_node(packed, recipe, tar):
    pack, compression = PACKED[packed]
    stored = pack(tar)
    named = {"containerd-cache": digest(tar), "osguard": None}.get(recipe.name, digest(stored))
    identity = uuid5(f"erofs:blobs/{named}") if named else recipe.uuid
    layer = hash_layer(io.BytesIO(stored), recipe)
    assert layer.image.uuid == identity
    root_hash, area = tree_of(image_of(tar, recipe, identity), recipe.params)
    assert (layer.image.root_hash, layer.image.tree.hash_area) == (root_hash, area)
    assert (layer.size, layer.uncompressed_size) == (len(stored), len(tar))
    assert layer.compression is compression
    assert layer.digest == (named if recipe in (CONTAINERD, TAR_INDEX) else None)
    assert layer.diff_id == (named if recipe is CACHE else None)


@pytest.mark.parametrize("recipe", [CACHE, OSGUARD], ids=lambda recipe: recipe.name)
def test_one_root_hash_however_a_layer_is_compressed(recipe, tar):
    found = {hash_layer([pack(tar)], recipe).image.root_hash for pack, _ in PACKED.values()}
    assert len(found) == 1
    of_containerd = {
        hash_layer([pack(tar)], CONTAINERD).image.root_hash for pack, _ in PACKED.values()
    }
    assert len(of_containerd) == len(PACKED)


@pytest.mark.parametrize("packed", PACKED)
def test_pieces_of_any_size_and_files(packed):
    tar = typical_tar(3)
    stored = PACKED[packed][0](tar)
    expected = Expected(digest=digest(stored), diff_id=digest(tar), size=len(stored))
    wanted = hash_layer([stored], CONTAINERD, expected)

    class Slow(io.RawIOBase):
        """A file that gives less than it is asked for, as sockets do."""

        def __init__(self):
            self.rest = stored

        def read(self, size):
            part, self.rest = self.rest[: min(size, 777)], self.rest[min(size, 777) :]
            return part

    chance = random.Random(5)
    odd = iter(lambda: chance.choice([1, 5, 512, 4095, 70_000]), None)
    cuts = [0, *itertools.takewhile(lambda end: end < len(stored), itertools.accumulate(odd))]
    streams = [
        io.BytesIO(stored),
        Slow(),
        pieces_of(stored, 4097),
        pieces_of(stored[:3000], 1) + pieces_of(stored[3000:], 100_000),
        (memoryview(bytearray(stored[a:b])) for a, b in itertools.pairwise([*cuts, len(stored)])),
        [b"", stored[:1], b"", stored[1:], b""],
    ]
    for stream in streams:
        assert hash_layer(stream, CONTAINERD, expected) == wanted


def test_pieces_of_one_byte():
    tar = tar_of()
    layer = hash_layer(pieces_of(tar, 1), OSGUARD)
    assert layer.image.root_hash == hash_layer([tar], OSGUARD).image.root_hash


@pytest.mark.parametrize("size", [0, 1, 5000, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 15 << 20])
def test_files_are_read_in_pieces_that_stay_for_a_while(size, tmp_path):
    data = b"".join(noise(1 << 17, seed) for seed in range(size // (1 << 17) + 1))
    (tmp_path / "file").write_bytes(data[:size])
    kept, at = [], 0
    for piece in read_pieces(tmp_path / "file"):
        kept.append((at, piece))
        at += len(piece)
        for start, old in kept[-BUFFERS:]:
            assert old == data[start : start + len(old)]
    assert at == size


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(StorageError, match="missing: No such file"):
        next(read_pieces(tmp_path / "missing"))
    with pytest.raises(StorageError, match="Is a directory"):
        next(read_pieces(tmp_path))
    before = list(Path("/proc/self/fd").iterdir())
    with pytest.raises(FormatError):
        hash_layer(read_pieces(Path(__file__)), OSGUARD)
    assert list(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("packed", ["plain", "gzip"])
def test_progress_adds_up_to_the_size_of_the_layer(packed, tar):
    stored = PACKED[packed][0](tar)
    seen = []
    hash_layer(pieces_of(stored, 10_000), OSGUARD, progress=seen.append)
    assert sum(seen) == len(stored)
    assert len(seen) == -(-len(stored) // 10_000)


def test_the_hash_area_goes_where_it_is_asked_for(tar):
    tree = hash_layer([tar], CONTAINERD).image.tree
    taken = {}

    def area(blocks):
        assert blocks == tree.data_blocks
        return lambda level, found: taken.__setitem__(level, taken.get(level, b"") + bytes(found))

    layer = hash_layer([tar], CONTAINERD, hash_area=area)
    assert layer.image.root_hash == tree.root_hash
    assert b"".join(taken[level] for level in sorted(taken, reverse=True)) == tree.hash_area
    assert hash_layer([tar], CONTAINERD, hash_area=no_hash_area).image.root_hash == tree.root_hash


# what a layer should be


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("packed", ["plain", "gzip"])
def test_digests_are_made_by_the_algorithm_that_is_expected(packed, algorithm, tar):
    stored = PACKED[packed][0](tar)
    known = Expected(digest=digest(stored, algorithm), diff_id=digest(tar, algorithm))
    layer = hash_layer([stored], CONTAINERD, known)
    assert (layer.digest, layer.diff_id) == (known.digest, known.diff_id)
    assert layer.image.uuid == uuid5(f"erofs:blobs/{known.digest}")
    cached = hash_layer([stored], CACHE, known)
    assert cached.image.uuid == uuid5(f"erofs:blobs/{known.diff_id}")


def test_digests_of_two_algorithms_of_a_plain_layer(tar):
    known = Expected(digest=digest(tar, "sha512"), diff_id=digest(tar))
    layer = hash_layer([tar], CACHE, known)
    assert (layer.digest, layer.diff_id) == (known.digest, known.diff_id)
    assert layer.image.uuid == uuid5(f"erofs:blobs/{known.diff_id}")


WRONG = "sha256:" + "00" * 32


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("recipe", [CONTAINERD, OSGUARD], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"digest": WRONG}, "the digest is sha256:[0-9a-f]+ and should be sha256:0000"),
        ({"diff_id": WRONG}, "the diff ID is sha256:[0-9a-f]+ and should be sha256:0000"),
        ({"digest": "sha512:" + "00" * 64}, "the digest is sha512:[0-9a-f]+ and should be"),
        ({"size": 1}, "has more than the 1 bytes that it should have"),
        ({"size": 1 << 30}, "has [0-9]+ bytes and should have 1073741824: it is cut short"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_layer_that_is_another_one(wrong, words, recipe, packed, tar):
    with pytest.raises(VerificationError, match=words) as caught:
        hash_layer([PACKED[packed][0](tar)], recipe, Expected(**wrong))
    assert caught.value.exit_code == 1


def test_both_digests_of_a_plain_layer_are_checked(tar):
    for wrong in ("digest", "diff_id"):
        known = {"digest": digest(tar), "diff_id": digest(tar), wrong: WRONG}
        with pytest.raises(VerificationError, match=wrong.replace("_id", " ID")):
            hash_layer([tar], OSGUARD, Expected(**known))


def test_a_size_that_is_off_by_one(tar):
    for off, words in ((-1, "has more than"), (1, "cut short")):
        with pytest.raises(VerificationError, match=words):
            hash_layer([tar], OSGUARD, Expected(size=len(tar) + off))
    assert hash_layer([tar], OSGUARD, Expected(size=len(tar))).size == len(tar)


def test_more_bytes_than_there_should_be_are_not_read():
    def endless():
        yield typical_tar(1)
        while True:
            yield bytes(1 << 20)

    with pytest.raises(VerificationError, match="more than"):
        hash_layer(endless(), OSGUARD, Expected(size=5 << 20))
    with pytest.raises(ParameterError, match="--max-layer-size"):
        hash_layer(endless(), OSGUARD, conversion=Conversion(max_layer_size=5 << 20))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sha256",
        "ab" * 32,
        "sha256:" + "ab" * 31,
        "sha256:" + "ab" * 33,
        "sha256:" + "AB" * 32,
        "sha256:" + "ab" * 32 + "\n",
        " sha256:" + "ab" * 32,
        "SHA256:" + "ab" * 32,
        "sha256-" + "ab" * 32,
        "sha1:" + "ab" * 20,
        "md5:" + "ab" * 16,
        "sha512:" + "ab" * 32,
        "sha256:" + "xy" * 32,
    ],
)
@pytest.mark.parametrize("name", ["digest", "diff_id"])
def test_what_is_no_digest(name, value):
    with pytest.raises(ParameterError, match=f"is not a {name.replace('_', ' ')}: give sha256:"):
        Expected(**{name: value})


@pytest.mark.parametrize("packed", ["gzip", "zstd", "members"])
def test_a_damaged_layer(packed, tar):
    stored = PACKED[packed][0](tar)
    damaged = bytearray(stored)
    damaged[len(stored) // 2] ^= 1
    with pytest.raises((FormatError, VerificationError)):
        hash_layer([damaged], OSGUARD, Expected(digest=digest(stored)))
    with pytest.raises(FormatError, match="fetch it again"):
        hash_layer([stored[:-20]], OSGUARD)


def test_a_layer_that_is_cut_short_is_said_to_be_that_where_its_size_is_known(tar):
    with pytest.raises(VerificationError, match="cut short"):
        hash_layer([tar[:-5000]], OSGUARD, Expected(size=len(tar)))
    with pytest.raises(FormatError, match=r"truncated archive|end-of-archive"):
        hash_layer([tar[:70_000]], OSGUARD)


@pytest.mark.parametrize("packed", PACKED)
def test_the_largest_layer_that_is_allowed(packed, tar):
    stored = PACKED[packed][0](tar)
    allowed = Conversion(max_layer_size=len(tar))
    assert hash_layer([stored], OSGUARD, conversion=allowed).uncompressed_size == len(tar)
    with pytest.raises(ParameterError, match=f"larger than {len(tar) - 1} bytes"):
        hash_layer([stored], OSGUARD, conversion=Conversion(max_layer_size=len(tar) - 1))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("stored", [b"", gzip.compress(b"")], ids=["empty", "gzip of nothing"])
def test_a_layer_of_nothing(stored, recipe):
    """mkfs.erofs 1.9 makes an image of it, 1.8 fails."""
    media_type = f"{OCI}+gzip"
    layer = hash_layer([stored], recipe, Expected(media_type=media_type))
    wanted = tree_of(image_of(b"", recipe, layer.image.uuid), recipe.params)[0]
    assert layer.image.root_hash == wanted
    old = dataclasses.replace(recipe, mkfs_version="1.8.6")
    assert image_of(b"", old, layer.image.uuid) is None
    with pytest.raises(FormatError, match="no end-of-archive blocks"):
        hash_layer([stored], old)


def test_a_layer_that_is_larger_than_allowed_is_not_read():
    def unread():
        pytest.fail("it was read")
        yield b""

    limited = Conversion(max_layer_size=1 << 20)
    with pytest.raises(
        ParameterError, match=r"has 3145728 bytes, too many for .* --max-layer-size"
    ):
        hash_layer(unread(), OSGUARD, Expected(size=3 << 20), limited)


def test_a_stream_without_contents_and_without_end():
    """Of a gzip member that never ends: contents alone do not bound what is read."""

    def endless():
        yield b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
        while True:
            yield b"\0\0\0\xff\xff" * 100_000  # stored blocks of nothing

    with pytest.raises(ParameterError, match="too many for the 1048576 of --max-layer-size"):
        hash_layer(endless(), OSGUARD, conversion=Conversion(max_layer_size=1 << 20))


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_docker_s_type_without_a_suffix(pack, tar):
    """The differ looks at the bytes, build-erofs-cache does not."""
    docker = Expected(media_type="application/vnd.docker.image.rootfs.diff.tar")
    stored = pack(tar)
    assert hash_layer([stored], CONTAINERD, docker).compression is not Compression.NONE
    with pytest.raises(FormatError, match="is that of a plain layer, and this one is compressed"):
        hash_layer([stored], CACHE, docker)
    assert hash_layer([tar], CACHE, docker).compression is Compression.NONE


def test_a_device_that_cannot_be_mounted(tar):
    for recipe, block in ((OSGUARD, 4096), (OSGUARD, 1024), (CONTAINERD, 8192)):
        params = VerityParams(data_block_size=block, salt=b"")
        wrong = dataclasses.replace(recipe, params=params)
        with pytest.raises(ParameterError, match=f"cannot be mounted from a device of {block}"):
            hash_layer([tar], wrong)


def test_a_stop():
    stop, read = threading.Event(), []

    def endless():
        yield typical_tar(1)
        while True:
            read.append(1)
            if len(read) == 3:
                stop.set()
            yield bytes(1000)

    with pytest.raises(CancelledError):
        hash_layer(endless(), OSGUARD, stop=stop)
    assert len(read) == 3


def test_a_stream_that_fails():
    class BoomError(Exception):
        pass

    def broken():
        yield typical_tar(1)
        raise BoomError

    with pytest.raises(BoomError):
        hash_layer(broken(), OSGUARD)
