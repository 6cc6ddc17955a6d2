"""The reader of EROFS images, held against the tar, dump.erofs and fsck.erofs."""

import collections
import functools
import io
import os
import re
import stat
import subprocess
import tarfile

import pytest
from erofs import mkfs_twin
from erofs_layers.twins import image_of, mkfs, typical_tar
from hypothesis import given, settings
from hypothesis import strategies as st

from dmsign_fast.erofs.places import extents_of, places_of
from dmsign_fast.erofs.reader import ErofsReader, Kind
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import FormatError, NotFoundError, StorageError

NAMES = ("containerd", "containerd-tar-index@1.8.6", "osguard")
TAR = typical_tar()


@functools.cache
def image_by(name):
    return image_of(TAR, Recipe.parse(name), mkfs_twin.UUID)


def reading(image):
    def read(offset, size):
        piece = image[offset : offset + size]
        if len(piece) != size:
            message = f"cannot read at byte {offset}"
            raise StorageError(message)
        return piece

    return read


def opened(image):
    return ErofsReader(reading(image), len(image))


def content(image, reader, path):
    inode = reader.lookup(path)
    data = bytearray(inode.size)
    for offset, size, at in reader.data(inode):
        data[at : at + size] = image[offset : offset + size]
    return bytes(data)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_of_the_tar_is_read(name):
    image = image_by(name)
    reader = opened(image)
    assert reader.block_size == (4096 if name == "containerd" else 512)
    seen = 0
    with tarfile.open(fileobj=io.BytesIO(TAR)) as tar:
        for member in tar:
            inode = reader.lookup(member.name.encode())
            if member.isreg():
                wanted = tar.extractfile(member).read()
                assert content(image, opened(image), member.name.encode()) == wanted
                seen += bool(wanted)
            elif member.isdir():
                assert stat.S_ISDIR(inode.mode)
            elif member.issym():
                assert content(image, opened(image), member.name.encode()).decode() == (
                    member.linkname
                )
    assert seen > 30
    for wrong in (b"/nothing", b"/etc/passwd/x", b"/etc/passw"):
        with pytest.raises(NotFoundError, match="has no"):
            reader.lookup(wrong)


@pytest.mark.parametrize("name", NAMES)
def test_every_byte_has_one_meaning(name):
    image = image_by(name)
    reader = opened(image)
    places = places_of(extents_of(reader, reading(image)), [(0, len(image))])
    end = 0
    for place in places:
        assert place.offset == end, "no byte is left out, none has two meanings"
        end += place.size
        if place.kind is Kind.PADDING:
            assert not any(image[place.offset : end]), "what nothing explains is zero"
        elif place.kind is Kind.DATA:
            data = content(image, opened(image), os.fsencode(place.path))
            assert image[place.offset : end] == data[place.at : place.at + place.size]
    assert end == len(image)
    kinds = collections.Counter(place.kind for place in places)
    assert not kinds[Kind.UNREADABLE]
    wanted = {Kind.SUPERBLOCK, Kind.INODE, Kind.DIRECTORY, Kind.SYMLINK, Kind.XATTRS, Kind.DATA}
    if name != "containerd":
        wanted |= {Kind.TAR_HEADER, Kind.TAR_END, Kind.CHUNK_INDEX}
        headers = {place.path for place in places if place.kind is Kind.TAR_HEADER}
        with tarfile.open(fileobj=io.BytesIO(TAR)) as tar:
            assert headers == {"/" + one.name.removeprefix(".").strip("/") for one in tar}
    assert wanted <= set(kinds)


@pytest.mark.parametrize("name", NAMES)
def test_inodes_stand_where_dump_erofs_says(name, tmp_path):
    image = image_by(name)
    path = tmp_path / "image"
    path.write_bytes(image)
    *start, program = mkfs("1.9.4").command
    for other in (
        ["dump.erofs", "--path=/usr/bin/tool"],
        ["dump.erofs", "--path=/etc"],
        ["dump.erofs", "--path=/data/0007"],
    ):
        words = [*start, program.replace("mkfs.erofs", other[0]), *other[1:], str(path)]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        inode = opened(image).lookup(other[1].partition("=")[2].encode())
        wrapped = inode.nid - (1 << 64) if inode.nid >> 63 else inode.nid
        assert int(re.search(r"NID: (-?\d+)", said)[1]) in (wrapped, inode.nid)
        assert int(re.search(r"Size: (\d+)", said)[1]) == inode.size
        extents = re.findall(r"\|\s*(\d+)\s*\.\.\s*(\d+)\s*\|\s*(\d+)\s*:\s*(\d+)", said)
        if stat.S_ISREG(inode.mode) and extents:
            found = [(at, size) for _, size, at in opened(image).data(inode)]
            assert [(int(a), int(s)) for a, _, _, s in extents] == found
    fsck = program.replace("mkfs.erofs", "fsck.erofs")
    subprocess.run([*start, fsck, str(path)], check=True, capture_output=True)


def walked(image):
    """What a damaged image gives: nothing but FormatError, and no more work than it has bytes."""
    reads = 0
    read = reading(image)

    def counted(offset, size):
        nonlocal reads
        reads += size
        return read(offset, size)

    try:
        reader = ErofsReader(counted, len(image))
        extents = list(extents_of(reader, counted))
    except FormatError:
        return None
    assert reads < 8 * len(image) + (1 << 16)
    for extent in extents:
        assert extent.offset >= 0
        assert extent.offset + extent.size <= len(image)
        assert extent.problem is None or extent.kind is Kind.UNREADABLE
        if extent.entry:
            assert extent.entry.path.startswith("/")
    places_of(extents, [(0, len(image))])
    return extents


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8)), max_size=6
    ),
    cut=st.integers(0, 1 << 20),
)
def test_whatever_is_changed_the_walk_ends(name, changes, cut):
    whole = image_by(name)
    image = bytearray(whole)
    metadata = [
        extent
        for extent in opened(whole).walk()
        if extent.kind not in (Kind.DATA, Kind.SUPERBLOCK) and extent.size
    ]
    for place, data in changes:
        extent = metadata[place % len(metadata)]
        at = extent.offset + place // len(metadata) % extent.size
        image[at : at + len(data)] = data
    walked(bytes(image[: len(whole)]))
    walked(bytes(image[: cut % (len(whole) + 1)]))


@pytest.mark.parametrize("at", [1024, 1024 + 12, 1024 + 80, 1024 + 84])
@pytest.mark.parametrize("name", NAMES)
def test_other_images_are_refused(name, at):
    image = bytearray(image_by(name))
    image[at] ^= 0x41
    with pytest.raises(FormatError, match="EROFS image"):
        opened(bytes(image))


def test_one_damaged_inode_harms_no_other():
    image = bytearray(image_by("containerd"))
    clean = walked(bytes(image))
    inode = opened(bytes(image)).lookup(b"/etc/shadow")
    image[inode.offset] |= 0xF0
    found = walked(bytes(image))
    lost = [one.entry.path for one in found if one.kind is Kind.UNREADABLE]
    assert lost == ["/etc/shadow"]
    paths = {one.entry.path for one in clean if one.entry}
    assert {one.entry.path for one in found if one.entry} == paths


def test_names_out_of_order_are_refused_for_a_proof():
    image = image_by("containerd")
    swapped = image.replace(b"passwdshadow", b"shadowpasswd")
    assert swapped != image
    with pytest.raises(FormatError, match="not in order"):
        opened(swapped).lookup(b"/etc/passwd")


def test_files_that_share_all_bytes_cost_no_more():
    """One inode after another that claims the whole image: only the first may."""
    image = bytearray(image_by("containerd"))
    reader = opened(bytes(image))
    count = 0
    for number in range(40):
        inode = reader.lookup(b"/data/%04d" % number)
        if inode.size:
            image[inode.offset + 16 : inode.offset + 20] = bytes(4)  # from block 0 on
            at, size = (8, 8) if inode.head == 64 else (8, 4)
            image[inode.offset + at : inode.offset + at + size] = len(image).to_bytes(
                size, "little"
            )
            count += 1
    found = walked(bytes(image))
    lost = [one for one in found if one.kind is Kind.UNREADABLE]
    assert len(lost) >= count - 1
    assert sum(one.size for one in found if one.kind is Kind.DATA) <= len(image)
