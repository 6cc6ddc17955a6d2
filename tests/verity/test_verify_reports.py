"""verify names every bad block, and only those; veritysetup agrees on what is good."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import cli, flip, noise, veritysetup, write
from hypothesis import given, settings
from hypothesis import strategies as st

from dmsign_fast.errors import CorruptionError, FormatError, ParameterError, StorageError
from dmsign_fast.verity.format import Formatted, format_file
from dmsign_fast.verity.params import VerityParams
from dmsign_fast.verity.verify import verify_file

SALT = noise(32)


@dataclass(frozen=True)
class Image:
    """Data and hash file, which may be the same, and what they were formatted with."""

    data: Path
    hashes: Path
    formatted: Formatted
    hash_offset: int

    @property
    def levels(self):
        return self.formatted.hash_area.levels

    def hash_block(self, level, block):
        """Return the byte at which a hash block starts."""
        size = self.formatted.params.hash_block_size
        return self.levels[level].offset + block * size

    def verify(self, root_hash=None, **options):
        """Return the report, and check that veritysetup's verdict is the same."""
        root_hash = root_hash or self.formatted.root_hash
        try:
            report = verify_file(
                self.data, self.hashes, root_hash, hash_offset=self.hash_offset, **options
            )
            good = True
        except CorruptionError as error:
            report, good = error.report, False
        theirs = veritysetup(
            *("verify", self.data, self.hashes, root_hash.hex()),
            *("--hash-offset", self.hash_offset),
        )
        assert (theirs.exit_code == 0) == good
        assert good == (not report.bad and report.computed == root_hash)
        return report


def image_of(directory, blocks, *, appended=False, offset=0, **params):
    params = {"data_block_size": 512, "hash_block_size": 512, "salt": SALT, **params}
    params = VerityParams(**params)
    content = noise(blocks * params.data_block_size)
    data = write(directory / "data", content)
    hashes = data if appended else directory / "hashes"
    if appended:
        offset = -(-len(content) // 4096) * 4096
        data.write_bytes(content.ljust(offset, b"\0"))
    elif hashes.exists():
        hashes.unlink()
    formatted = format_file(
        data, hashes, params, data_blocks=blocks if appended else None, hash_offset=offset
    )
    return Image(data, hashes, formatted, offset)


def found(report):
    """Every bad block as (level, reason, number)."""
    return {
        (bad.level, bad.reason, block)
        for bad in report.bad
        for part in bad
        for block in range(part.first, part.first + part.blocks)
    }


def test_a_good_image_has_no_bad_block(tmp_path):
    for blocks in (1, 2, 16, 17, 300):
        image = image_of(tmp_path, blocks)
        report = image.verify()
        assert report.bad == ()
        assert (report.data_blocks, report.computed) == (blocks, image.formatted.root_hash)


@settings(max_examples=40)
@given(data=st.data())
def test_exactly_the_touched_blocks_are_named(tmp_path, data):
    block_sizes = st.sampled_from([512, 1024])
    image = image_of(
        tmp_path,
        data.draw(st.integers(2, 700)),
        appended=data.draw(st.booleans()),
        offset=data.draw(st.sampled_from([0, 4096, 12288])),
        data_block_size=data.draw(block_sizes),
        hash_block_size=data.draw(block_sizes),
        hash_type=data.draw(st.sampled_from([0, 1])),
        hash_algorithm=data.draw(st.sampled_from(["sha256", "sha256", "sha1"])),
    )
    params, blocks = image.formatted.params, image.formatted.data_blocks
    touched, spoiled = set(), set()  # spoiled: hash blocks above a touched block, by (level, block)
    for _ in range(data.draw(st.integers(1, 6))):
        level = data.draw(st.sampled_from([None, None, *range(len(image.levels))]))
        count = blocks if level is None else image.levels[level].blocks
        block = data.draw(st.integers(0, count - 1))
        size = params.data_block_size if level is None else params.hash_block_size
        above = []
        up, number = (0 if level is None else level + 1), block
        while up < len(image.levels):
            number //= params.hashes_per_block
            above.append((up, number))
            up += 1
        on_top = any(place in {(t[0], t[2]) for t in touched} for place in above)
        if (level, block) in {(t[0], t[2]) for t in touched} or on_top:
            continue
        if (level, block) in spoiled:
            continue
        start = block * size if level is None else image.hash_block(level, block)
        flip(
            image.data if level is None else image.hashes,
            start + data.draw(st.integers(0, size - 1)),
            data.draw(st.integers(1, 255)),
        )
        touched.add((level, "digest", block))
        spoiled.update(above)
    report = image.verify(threads=data.draw(st.integers(1, 3)))
    assert found(report) == touched


@settings(max_examples=60)
@given(
    blocks=st.integers(1, 300),
    flips=st.lists(st.tuples(st.booleans(), st.integers(0, 1 << 30)), min_size=1, max_size=12),
)
def test_no_damage_is_ever_verified(tmp_path, blocks, flips):
    image = image_of(tmp_path, blocks)
    area = image.formatted.hash_area
    places = set()
    for in_data, at in flips:
        if in_data or not area.levels:
            place = (image.data, at % (blocks * 512))
        else:
            place = (image.hashes, area.start + at % (area.end - area.start))
        if place not in places:
            flip(*place)
            places.add(place)
    report = image.verify()
    assert report.bad
    for level, _, block in found(report):
        assert block < (blocks if level is None else area.levels[level].blocks)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_flip_in_a_hash_block_blames_that_hash_block_alone(level, tmp_path):
    image = image_of(tmp_path, 300)
    last = image.levels[level].blocks - 1
    for block in {0, last // 2, last}:
        for at in (0, 31, 511):
            flip(image.hashes, image.hash_block(level, block) + at)
            assert found(image.verify()) == {(level, "digest", block)}
            flip(image.hashes, image.hash_block(level, block) + at)


def test_data_and_another_hash_block_are_told_apart(tmp_path):
    image = image_of(tmp_path, 300)
    flip(image.data, 20 * 512)  # below hash block 1 of level 0
    flip(image.hashes, image.hash_block(0, 5))
    assert found(image.verify()) == {(None, "digest", 20), (0, "digest", 5)}


def test_neighbours_are_one_range(tmp_path):
    image = image_of(tmp_path, 300)
    for block in (3, 4, 5, 15, 16, 17, 299):
        flip(image.data, block * 512 + 7)
    (bad,) = image.verify().bad
    assert [(part.first, part.blocks) for part in bad] == [(3, 3), (15, 3), (299, 1)]
    assert [(part.offset, part.size) for part in bad] == [
        (1536, 1536),
        (7680, 1536),
        (153088, 512),
    ]
    assert bad.blocks == 7


@pytest.mark.parametrize("options", [{}, {"offset": 8192}, {"appended": True}], ids=str)
def test_offsets_are_those_in_the_file(options, tmp_path):
    image = image_of(tmp_path, 300, **options)
    at = image.hash_block(1, 1)
    flip(image.hashes, at + 9)
    (bad,) = image.verify().bad
    assert [(part.offset, part.size) for part in bad] == [(at, 512)]


def test_a_single_data_block_is_verified_against_the_root_hash(tmp_path):
    image = image_of(tmp_path, 1)
    flip(image.data, 100)
    assert found(image.verify()) == {(None, "digest", 0)}


def test_every_block_can_be_bad(tmp_path):
    image = image_of(tmp_path, 300)
    image.data.write_bytes(noise(300 * 512, 2))
    assert found(image.verify()) == {(None, "digest", block) for block in range(300)}


def test_zeroed_data_and_zeroed_hash_blocks_are_bad(tmp_path):
    image = image_of(tmp_path, 300)
    content = image.data.read_bytes()
    image.data.write_bytes(bytes(512) + content[512:])
    assert found(image.verify()) == {(None, "digest", 0)}
    image.data.write_bytes(content)
    with image.hashes.open("r+b") as file:
        file.seek(image.hash_block(0, 7))
        file.write(bytes(512))
    assert found(image.verify()) == {(0, "digest", 7)}


def test_spare_bytes_must_be_zero_even_if_the_tree_was_made_over_them(tmp_path):
    """An image whose maker put something into the spare area: only a check of it can tell."""
    params = VerityParams(data_block_size=512, hash_block_size=512, salt=SALT)
    image = image_of(tmp_path, 3)
    start = image.hash_block(0, 0)
    flip(image.hashes, start + 3 * 32)
    block = image.hashes.read_bytes()[start : start + 512]
    root_hash = format_file(write(tmp_path / "block", block), None, params).root_hash
    assert found(image.verify(root_hash)) == {(0, "spare", 0)}


@pytest.mark.parametrize("cut", [1, 511, 512, 20 * 512, 299 * 512, 300 * 512])
def test_data_that_ends_early_is_missing_and_nothing_else_is_bad(cut, tmp_path):
    image = image_of(tmp_path, 300)
    with image.data.open("r+b") as file:
        file.truncate(300 * 512 - cut)
    report = _ours(image)
    first = (300 * 512 - cut) // 512
    assert found(report) == {(None, "missing", block) for block in range(first, 300)}


def _ours(image):
    with pytest.raises(CorruptionError) as caught:
        verify_file(image.data, image.hashes, image.formatted.root_hash)
    return caught.value.report


def test_missing_and_corrupt_data_are_told_apart(tmp_path):
    image = image_of(tmp_path, 300)
    with image.data.open("r+b") as file:
        file.truncate(290 * 512)
    flip(image.data, 289 * 512)
    flip(image.data, 5 * 512)
    report = _ours(image)
    missing = {(None, "missing", block) for block in range(290, 300)}
    assert found(report) >= missing | {(None, "digest", 5)}
    assert {level for level, *_ in found(report)} == {None}


def test_data_behind_the_last_block_does_not_matter(tmp_path):
    image = image_of(tmp_path, 300)
    with image.data.open("ab") as file:
        file.write(b"anything")
    assert not image.verify().bad


def test_a_hash_area_that_ends_early_is_a_format_error(tmp_path):
    image = image_of(tmp_path, 300)
    for size in (image.formatted.hash_area.end - 1, 1024, 512, 511, 0):
        with image.hashes.open("r+b") as file:
            file.truncate(size)
        with pytest.raises(FormatError, match="cut short"):
            verify_file(image.data, image.hashes, image.formatted.root_hash)


def test_a_wrong_root_hash_alone_is_named_as_such(tmp_path):
    for blocks in (2, 300):
        image = image_of(tmp_path, blocks)
        with pytest.raises(CorruptionError, match=r"root hash is wrong.*agree") as caught:
            verify_file(image.data, image.hashes, bytes(32))
        assert caught.value.report.bad == ()
        assert caught.value.report.computed == image.formatted.root_hash
        image.verify(noise(32))


def test_a_root_hash_of_another_length_is_a_parameter_error(tmp_path):
    image = image_of(tmp_path, 20)
    for size in (0, 20, 31, 33, 64):
        with pytest.raises(ParameterError, match=f"root hash has {size} bytes"):
            verify_file(image.data, image.hashes, bytes(size))


def test_without_a_superblock_the_parameters_are_the_callers(tmp_path):
    data = write(tmp_path / "data", noise(300 * 512))
    params = VerityParams(data_block_size=512, hash_block_size=512, salt=SALT)
    made = format_file(data, tmp_path / "hashes", params, superblock=False)
    verified = verify_file(data, tmp_path / "hashes", made.root_hash, params=params)
    assert verified.data_blocks == 300
    flip(data, 1000)
    with pytest.raises(CorruptionError) as caught:
        verify_file(data, tmp_path / "hashes", made.root_hash, params=params)
    assert found(caught.value.report) == {(None, "digest", 1)}


@pytest.mark.parametrize("algorithm", ["sha1", "sha512", "blake2b-512"])
def test_other_algorithms_are_verified_as_well(algorithm, tmp_path):
    image = image_of(tmp_path, 100, hash_algorithm=algorithm)
    assert not image.verify().bad
    flip(image.data, 70 * 512)
    flip(image.hashes, image.hash_block(0, 0) + 2)
    assert found(image.verify()) == {(None, "digest", 70), (0, "digest", 0)}


def test_a_large_image_is_compared_in_parts(tmp_path):
    """More than a span of blocks: numbers go on across the spans."""
    blocks = (1 << 18) + 100
    params = VerityParams(data_block_size=512, salt=SALT)
    data = tmp_path / "data"
    with data.open("wb") as file:
        file.truncate(blocks * 512)
    made = format_file(data, tmp_path / "hashes", params)
    touched = [0, (1 << 18) - 1, 1 << 18, blocks - 1]
    for block in touched:
        flip(data, block * 512 + 511)
    with pytest.raises(CorruptionError) as caught:
        verify_file(data, tmp_path / "hashes", made.root_hash)
    assert found(caught.value.report) == {(None, "digest", block) for block in touched}
    (bad,) = caught.value.report.bad
    assert bad.runs.tolist() == [[0, 1], [(1 << 18) - 1, 2], [blocks - 1, 1]]


def test_progress_adds_up_to_the_data(tmp_path):
    image = image_of(tmp_path, 300)
    seen = []
    verify_file(image.data, image.hashes, image.formatted.root_hash, progress=seen.append)
    assert sum(seen) == 300 * 512


def test_what_cannot_be_read_is_a_storage_error(tmp_path):
    image = image_of(tmp_path, 20)
    with pytest.raises(StorageError, match="missing"):
        verify_file(tmp_path / "missing", image.hashes, bytes(32))
    with pytest.raises(StorageError, match="missing"):
        verify_file(image.data, tmp_path / "missing", bytes(32))
    with pytest.raises(StorageError, match="directory"):
        verify_file(image.data, tmp_path, bytes(32))


@pytest.mark.parametrize("offset", [1, 511, 513])
def test_an_unaligned_hash_offset_is_a_parameter_error(offset, tmp_path):
    image = image_of(tmp_path, 20)
    with pytest.raises(ParameterError, match="multiple of 512"):
        verify_file(image.data, image.hashes, bytes(32), hash_offset=offset)


def test_the_command_prints_what_is_bad_and_where(tmp_path):
    image = image_of(tmp_path, 300)
    flip(image.data, 3 * 512)
    flip(image.data, 4 * 512)
    flip(image.hashes, image.hash_block(1, 1))
    root_hash = image.formatted.root_hash.hex()
    done = cli("verity", "verify", image.data, image.hashes, root_hash)
    at = image.hash_block(1, 1)
    assert done.exit_code == 1
    assert done.out.splitlines() == [
        f"data block 3-4, bytes 1536-2559 of {image.data}: not what was hashed",
        f"hash block (level 1) 1, bytes {at}-{at + 511} of {image.hashes}: not what was hashed",
    ]
    assert "2 data block(s)" in done.err
    assert "1 hash block(s)" in done.err
