"""What was destroyed comes back, and nothing that is not what was hashed is written."""

import contextlib
import os
import random

import pytest
from helpers import cli, flip, noise, veritysetup, write
from hypothesis import given, settings
from hypothesis import strategies as st

from dmsign_fast import FecDevice, format_file, repair_file, verify_file
from dmsign_fast.errors import FormatError, ParameterError, UnrepairedError
from dmsign_fast.verity.params import VerityParams


@contextlib.contextmanager
def open_pipe(path):
    """Both ends, so that neither side waits for the other."""
    fd = os.open(path, os.O_RDWR)
    yield
    os.close(fd)


class Image:
    """Data, hash area and parity, and what they were."""

    def __init__(self, directory, data, *, roots=2, block_size=512, one_file=False, threads=None):
        self.data = write(directory / "data", data)
        self.hashes = self.data if one_file else directory / "hashes"
        self.params = VerityParams(
            salt=b"salt", data_block_size=block_size, hash_block_size=block_size
        )
        self.block_size = block_size
        self.blocks = len(data) // block_size
        self.hash_offset = len(data) if one_file else 0
        self.fec = FecDevice(directory / "fec", 0, roots)
        self.formatted = format_file(
            self.data,
            self.hashes,
            self.params,
            data_blocks=self.blocks,
            hash_offset=self.hash_offset,
            fec=self.fec,
            threads=threads,
        )
        self.good = self.bytes()

    def bytes(self):
        return self.data.read_bytes(), self.hashes.read_bytes()

    def destroy(self, path, block, offset=0):
        with path.open("r+b") as file:
            file.seek(offset + block * self.block_size)
            old = file.read(self.block_size)
            file.seek(offset + block * self.block_size)
            file.write(bytes(byte ^ 0xA5 for byte in old))

    def destroy_data(self, *blocks):
        for block in blocks:
            self.destroy(self.data, block)

    def destroy_hashes(self, level, *blocks):
        for block in blocks:
            self.destroy(self.hashes, block, self.formatted.hash_area.levels[level].offset)

    def repair(self, **options):
        return repair_file(
            self.data,
            self.hashes,
            self.formatted.root_hash,
            self.fec,
            hash_offset=self.hash_offset,
            **options,
        )

    def assert_repaired(self):
        report = self.repair(in_place=True)
        assert not report.unrepaired
        assert self.bytes() == self.good
        return report


@pytest.fixture
def image(tmp_path):
    return Image(tmp_path, noise(600 * 512))  # 3 rounds, 40 + 3 + 1 hash blocks


def rounds(image):
    return image.formatted.fec.rounds


def numbers(found):
    return {
        (bad.level, number)
        for bad in found
        for part in bad
        for number in range(part.first, part.first + part.blocks)
    }


def test_as_many_bad_blocks_of_a_round_come_back_as_there_are_roots(tmp_path):
    for roots in (2, 3, 24):
        image = Image(tmp_path, noise(600 * 512), roots=roots)
        bad = [1 + row * rounds(image) for row in range(roots)]
        image.destroy_data(*bad)
        with pytest.raises(UnrepairedError) as caught:
            image.destroy_data(1 + roots * rounds(image))
            image.repair(in_place=True)
        assert numbers(caught.value.report.unrepaired) == {
            (None, 1 + row * rounds(image)) for row in range(roots + 1)
        }
        image.destroy_data(1 + roots * rounds(image))  # twice is as it was
        report = image.assert_repaired()
        assert numbers(report.repaired) == {(None, block) for block in bad}
        assert report.errors == roots * 512


def test_veritysetup_repairs_half_of_it(image):
    image.destroy_data(0, rounds(image))
    options = [image.data, image.hashes, image.formatted.root_hash.hex(), "--fec-device"]
    theirs = veritysetup("verify", *options, image.fec.path)
    assert theirs.exit_code == 2
    assert "cannot be repaired" in theirs.err
    assert cli("verity", "verify", *options, image.fec.path).exit_code == 0
    image.assert_repaired()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_hash_block_comes_back_and_what_is_below_it_too(image, level):
    image.destroy_hashes(level, 0)
    below = {0: (3,), 1: (0, 101), 2: (7, 500)}[level]  # in other rounds
    image.destroy_data(*below)
    report = image.assert_repaired()
    assert numbers(report.repaired) == {(level, 0), *((None, block) for block in below)}


def test_hash_blocks_of_every_level_come_back(image):
    # the top is alone in its round; each of level 1 is with one that can be judged without it
    image.destroy_hashes(2, 0)
    image.destroy_hashes(1, 0, 1)
    image.destroy_hashes(0, 33, 34)
    image.assert_repaired()


def test_a_bad_block_below_a_bad_hash_block_of_the_same_round_is_an_erasure_too(tmp_path):
    image = Image(tmp_path, noise(6000 * 512))  # 26 rounds: two children are in a round at most
    assert rounds(image) == 26
    leaf = image.formatted.hash_area.levels[0]
    message = 6000 + (leaf.offset - image.formatted.hash_area.start) // 512
    parent, child = next(
        (parent, parent * 16 + child)
        for parent in range(leaf.blocks)
        for child in range(16)
        if (message + parent) % 26 == (parent * 16 + child) % 26
    )
    image.destroy_hashes(0, parent)
    image.destroy_data(child)
    report = image.assert_repaired()
    assert numbers(report.repaired) == {(0, parent), (None, child)}


def test_single_bytes_in_more_blocks_than_roots_are_errors_at_unknown_places(image):
    for row in range(9):
        flip(image.data, row * rounds(image) * 512 + row)
    report = image.assert_repaired()
    assert report.errors == 9


def test_a_damaged_parity_is_half_an_error_in_the_way(tmp_path):
    image = Image(tmp_path, noise(600 * 512), roots=4)
    flip(image.fec.path, 0)
    image.destroy_data(0, rounds(image))
    report = image.assert_repaired()
    assert report.errors == 2 * 512 + 1


def test_data_that_was_cut_short_comes_back(image):
    with image.data.open("r+b") as file:
        file.truncate(len(image.good[0]) - 2 * 512 - 17)
    report = image.assert_repaired()
    assert numbers(report.repaired) == {(None, 597), (None, 598), (None, 599)}


def test_hashes_that_were_cut_short_come_back(image):
    with image.hashes.open("r+b") as file:
        file.truncate(len(image.good[1]) - 512)
    image.assert_repaired()


def test_of_one_file_data_and_hash_area_come_back_in_a_copy(tmp_path):
    image = Image(tmp_path, noise(600 * 512), one_file=True)
    image.destroy_data(3, 4)
    image.destroy_hashes(0, 7)
    damaged = image.bytes()
    report = image.repair(output=tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == image.good[0]
    assert image.bytes() == damaged
    assert len(numbers(report.repaired)) == 3


def test_copies_of_both_files(image, tmp_path):
    image.destroy_data(3)
    image.destroy_hashes(1, 1)
    with pytest.raises(ParameterError, match="--hash-output"):
        image.repair(output=tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    image.repair(output=tmp_path / "copy", hash_output=tmp_path / "hash copy")
    assert (tmp_path / "copy").read_bytes() == image.good[0]
    assert (tmp_path / "hash copy").read_bytes() == image.good[1]


def test_a_copy_of_a_file_that_ends_in_a_hole_and_within_a_page(tmp_path):
    data = write(tmp_path / "data", noise(100 * 512))
    os.truncate(data, 1000 * 512 + 512)
    fec = FecDevice(tmp_path / "fec")
    params = VerityParams(data_block_size=512, hash_block_size=512)
    formatted = format_file(data, tmp_path / "hashes", params, fec=fec)
    good = data.read_bytes()
    flip(data, 5)
    copy = tmp_path / "copy"
    repair_file(data, tmp_path / "hashes", formatted.root_hash, fec, output=copy)
    assert copy.read_bytes() == good


def test_no_copy_appears_if_something_stays_bad(image, tmp_path):
    image.destroy_data(*(row * rounds(image) for row in range(3)))
    with pytest.raises(UnrepairedError, match="3 block"):
        image.repair(output=tmp_path / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"data", "fec", "hashes"}


def test_in_place_what_can_be_repaired_is(image):
    lost = [row * rounds(image) for row in range(3)]
    image.destroy_data(*lost, 1)
    with pytest.raises(UnrepairedError) as caught:
        image.repair(in_place=True)
    assert numbers(caught.value.report.repaired) == {(None, 1)}
    image.destroy_data(*lost)
    assert image.bytes() == image.good


def test_below_a_hash_block_that_stays_bad_nobody_can_judge(tmp_path):
    image = Image(tmp_path, noise(600 * 512))
    leaf = image.formatted.hash_area.levels[0]
    start = image.formatted.hash_area.start
    message = 600 + (leaf.offset - start) // 512
    image.destroy_hashes(0, 0)
    image.destroy_data(*((message % rounds(image)) + row * rounds(image) for row in range(10, 14)))
    with pytest.raises(UnrepairedError) as caught:
        image.repair(in_place=True)
    unrepaired = {(bad.level, bad.reason): bad.blocks for bad in caught.value.report.unrepaired}
    assert unrepaired[0, "digest"] == 1
    assert unrepaired[None, "unverifiable"] == 16


def test_nothing_is_repaired_for_another_root_hash(image):
    image.destroy_data(3)
    damaged = image.bytes()
    with pytest.raises(UnrepairedError):
        repair_file(image.data, image.hashes, bytes(32), image.fec, in_place=True)
    assert image.bytes() == damaged


def test_1_mib_in_a_row_of_1_gib_comes_back_with_two_roots(tmp_path):
    size, hole = 1 << 30, 1 << 20
    data, copy = tmp_path / "data", tmp_path / "copy"
    with data.open("wb") as file:
        file.truncate(size)
        file.seek(300 << 20)
        file.write(noise(2 * hole))
    fec = FecDevice(tmp_path / "fec")
    formatted = format_file(data, tmp_path / "hashes", VerityParams(salt=b""), fec=fec)
    with data.open("r+b") as file:
        file.seek((300 << 20) + hole // 2)
        file.write(noise(hole, 2))
    report = repair_file(data, tmp_path / "hashes", formatted.root_hash, fec, output=copy)
    assert sum(bad.blocks for bad in report.repaired) == 256
    assert copy.stat().st_blocks * 512 < 64 << 20  # holes stay holes
    verify_file(copy, tmp_path / "hashes", formatted.root_hash)


@settings(max_examples=60)
@given(
    roots=st.integers(2, 24),
    blocks=st.integers(1, 40) | st.integers(1, 700),
    one_file=st.booleans(),
    seed=st.integers(0, 1 << 30),
    damage=st.integers(0, 60),
    parity=st.integers(0, 3),
)
def test_any_damage_is_repaired_or_named(tmp_path, roots, blocks, one_file, seed, damage, parity):
    image = Image(tmp_path, noise(blocks * 512, seed), roots=roots, one_file=one_file)
    chance = random.Random(seed)
    for path in (image.data, image.hashes):
        size = path.stat().st_size
        start = 512 if path == image.hashes and not one_file else 0
        for _ in range(damage if size > start else 0):
            at = chance.randrange(start, size)
            if one_file and blocks * 512 <= at < blocks * 512 + 512:
                continue  # the superblock, which no parity covers
            flip(path, at, chance.randrange(1, 256))
    for _ in range(parity):
        flip(image.fec.path, chance.randrange(image.fec.path.stat().st_size))
    try:
        image.repair(in_place=True)
    except UnrepairedError as error:
        # what is not named is as it was hashed
        now, lost = image.bytes()[0], numbers(error.report.unrepaired)
        assert lost
        for block in range(blocks):
            place = slice(block * 512, block * 512 + 512)
            assert now[place] == image.good[0][place] or (None, block) in lost
    else:
        verify_file(
            image.data, image.hashes, image.formatted.root_hash, hash_offset=image.hash_offset
        )
        assert image.bytes() == image.good


def test_parity_that_was_cut_short_is_malformed(image):
    with image.fec.path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(FormatError, match="cut short"):
        image.repair()


@pytest.mark.parametrize(
    "options",
    [{"roots": 1}, {"roots": 25}, {"offset": 100}, {"offset": -512}],
    ids=str,
)
def test_limits_of_the_device(tmp_path, options):
    with pytest.raises(ParameterError):
        FecDevice(tmp_path / "fec", **options)


def test_errors_of_format(tmp_path):
    data = write(tmp_path / "data", noise(8192))
    fec = FecDevice(tmp_path / "fec")
    with pytest.raises(ParameterError, match="hash area"):
        format_file(data, fec=fec)
    with pytest.raises(ParameterError, match="one block size"):
        format_file(data, tmp_path / "hashes", VerityParams(hash_block_size=512), fec=fec)
    with pytest.raises(ParameterError, match="overlap"):
        format_file(data, tmp_path / "hashes", fec=FecDevice(tmp_path / "hashes", 4096))
    with pytest.raises(ParameterError, match="overlap"):
        format_file(data, tmp_path / "hashes", fec=FecDevice(data, 4096))
    os.mkfifo(tmp_path / "pipe")
    with open_pipe(tmp_path / "pipe"), pytest.raises(ParameterError, match="is a pipe"):
        format_file(tmp_path / "pipe", tmp_path / "hashes", fec=fec)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "pipe"}
