"""Error correction on the command line, and what veritysetup says to the same damage."""

import json
import random
import re
from collections import Counter

import pytest
from helpers import cli, flip, noise, veritysetup, write
from hypothesis import example, given, settings
from hypothesis import strategies as st


def ours(*arguments):
    return cli("verity", *arguments)


@pytest.fixture
def image(tmp_path):
    """The arguments that all commands begin with."""
    return make(tmp_path, noise(600 * 4096), 2)


def make(directory, content, roots):
    data = write(directory / "data", content)
    fec = ("--fec-device", directory / "fec", "--fec-roots", roots)
    done = ours("format", data, directory / "hashes", *fec, "--salt", "-")
    assert done.exit_code == 0, done.err
    return (data, directory / "hashes", done.root_hash.hex(), *fec)


def said(done):
    found = re.search(r"Found (\d+) repairable errors with FEC device\.", done.err)
    if found:
        return int(found[1])
    return "cannot" if "Errors cannot be repaired with FEC device." in done.err else None


def contents(image):
    return [path.read_bytes() for path in (image[0], image[1], image[4])]


def test_what_is_not_damaged_is_verified(image):
    for run in (veritysetup, ours):
        done = run("verify", *image)
        assert done.exit_code == 0
        assert said(done) is None


def test_what_can_be_repaired_is_counted_and_left_as_it_is(image):
    for at in (0, 5000, 5001, 599 * 4096):
        flip(image[0], at)
    flip(image[1], 9000)
    before = contents(image)
    theirs, found = veritysetup("verify", *image), ours("verify", *image)
    assert said(found) == said(theirs) == 5
    assert found.exit_code == theirs.exit_code == 0
    assert contents(image) == before
    assert "data block 0-1, bytes 0-8191" in found.out
    assert "Verified" not in found.out
    report = json.loads(ours("verify", *image, "--output", "json").out)
    assert not report["verified"]
    assert report["repair"] == {"repairable": True, "repairable_errors": 5, "unrepairable": []}


def test_without_the_device_damage_is_damage(image):
    flip(image[0], 0)
    assert ours("verify", *image[:3]).exit_code == 1


def test_what_cannot_be_repaired_is_named(image):
    for block in (0, 3, 6):
        write_block(image[0], block)
    theirs, found = veritysetup("verify", *image), ours("verify", *image)
    assert said(found) == said(theirs) == "cannot"
    assert (theirs.exit_code, found.exit_code) == (2, 1)
    assert found.out.count("cannot be repaired") == 3
    report = json.loads(ours("verify", *image, "--output", "json").out)
    assert [part["first_block"] for part in report["repair"]["unrepairable"]] == [0, 3, 6]


def write_block(path, block):
    with path.open("r+b") as file:
        file.seek(block * 4096)
        file.write(noise(4096, block))


def test_a_wrong_root_hash_is_not_repaired(image):
    wrong = (*image[:2], "00" * 32, *image[3:])
    assert veritysetup("verify", *wrong).exit_code == 2
    assert ours("verify", *wrong).exit_code == 1


def codeword(image, roots, path, offset):
    """Which codeword of ``make`` has a byte."""
    if path == image[4]:
        return offset // roots
    data, hashes = (path.stat().st_size for path in image[:2])
    covered = (data + hashes) // 4096 - 1  # the superblock is not covered
    rounds = -(-covered // (255 - roots))
    start = data - 4096 if path == image[1] else 0
    return (start + offset) % (rounds * 4096)


@settings(max_examples=30)
@example(seed=7068, roots=2, flips=21)
@given(seed=st.integers(0, 1 << 30), roots=st.integers(2, 24), flips=st.integers(1, 40))
def test_as_many_errors_are_found_as_by_veritysetup(tmp_path, seed, roots, flips):
    image = make(tmp_path, noise(700 * 4096, 7), roots)
    chance = random.Random(seed)
    errors = Counter()
    for _ in range(flips):
        path = image[chance.choice((0, 0, 1, 4))]
        offset = chance.randrange(4096 if path == image[1] else 0, path.stat().st_size)
        flip(path, offset, chance.randrange(1, 256))
        errors[codeword(image, roots, path, offset)] += 1
    theirs, found = veritysetup("verify", *image), ours("verify", *image)
    if said(theirs) == "cannot":
        return  # of too many for it, some are not for us
    if max(errors.values()) > roots // 2:
        return  # it believes a codeword that is not the right one, which the tree refuses
    assert said(found) == said(theirs)
    assert found.exit_code == theirs.exit_code == 0


def test_repair_writes_a_file_and_says_what_it_did(image, tmp_path):
    good = contents(image)
    write_block(image[0], 1)
    write_block(image[0], 2)
    copy = tmp_path / "copy"
    done = ours("repair", *image, "--output", copy)
    assert done.exit_code == 0
    assert copy.read_bytes() == good[0]
    assert done.out.startswith(f"data block 1-2, bytes 4096-12287 of {image[0]}: repaired\n")
    assert done.field("Repaired") == "2 blocks"
    assert done.root_hash.hex() == image[2]
    report = json.loads(ours("repair", *image, "--output", copy, "--output", "json").out)
    assert report["repaired"]
    assert report["repaired_blocks"][0] == {
        "kind": "data",
        "level": None,
        "reason": "digest",
        "first_block": 1,
        "blocks": 2,
        "offset": 4096,
        "size": 8192,
    }
    assert ours("repair", *image, "-o", "json", "--in-place").exit_code == 0
    assert contents(image) == good


def test_repair_says_what_it_could_not_do(image, tmp_path):
    for block in (0, 3, 6, 7):
        write_block(image[0], block)
    damaged = contents(image)
    done = ours("repair", *image, "--output", tmp_path / "copy")
    assert done.exit_code == 1
    assert not (tmp_path / "copy").exists()
    assert done.out.count("cannot be repaired") == 3
    assert "data block 7, bytes 28672-32767" in done.out
    assert "3 block(s) cannot be repaired" in done.err
    assert contents(image) == damaged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--output FILE"),
        (("--in-place", "--output", "copy"), "not both"),
        (("--in-place", "--hash-output", "copy"), "not both"),
        (("--in-place", "--fec-roots", "1"), "2 to 24"),
        (("--in-place", "--fec-offset", "100"), "multiple of 512"),
        (("--in-place", "--no-superblock"), "--salt"),
    ],
    ids=str,
)
def test_usage_errors_of_repair(image, options, message):
    before = contents(image)
    done = ours("repair", *image, *options)
    assert done.exit_code == 2
    assert message in done.err
    assert contents(image) == before


def test_repair_never_writes_over_an_input(image):
    for path in (image[0], image[1], image[4]):
        done = ours("repair", *image, "--output", path)
        assert done.exit_code == 2
        assert "overwrite" in done.err


def test_parity_of_other_roots_is_malformed_or_repairs_nothing(image):
    flip(image[0], 0)
    before = contents(image)
    for roots in (3, 24):
        done = ours("repair", *image[:6], roots, "--in-place")
        assert done.exit_code in (1, 3)
    assert contents(image) == before


def test_format_and_sign_write_the_same_parity(image, tmp_path):
    from pki import make_leaf, make_root

    files = make_leaf(make_root()).write(tmp_path / "signer")
    again = (image[0], tmp_path / "hashes2", "--salt", "-")
    done = ours(
        *("sign", *again, "--key", files.key, "--cert", files.chain),
        *("--fec-device", tmp_path / "fec2"),
    )
    assert done.exit_code == 0, done.err
    # with another UUID in the superblock, which no parity covers
    assert (tmp_path / "fec2").read_bytes() == image[4].read_bytes()


def test_open_hands_the_device_on(image):
    words = ours("open", image[0], "name", *image[1:], "--unsigned", "--dry-run").out.split()
    assert words[words.index("--fec-device") + 1] == str(image[4])
    assert words[words.index("--fec-roots") + 1] == "2"
    assert "--fec-offset" not in words
    at = ("--unsigned", "--dry-run", "--fec-offset")
    done = ours("open", image[0], "name", *image[1:], *at, 8192)
    assert done.out.split()[-2:] == ["--fec-offset", "8192"]
    done = ours("open", image[0], "name", *image[1:], *at, 512)
    assert done.exit_code == 2
    assert "block size, 4096" in done.err


def test_format_says_that_linux_needs_a_whole_block(tmp_path):
    data = write(tmp_path / "data", noise(8192))
    options = (data, tmp_path / "hashes", "--fec-device", tmp_path / "fec", "--fec-offset")
    assert "Linux finds no parity" in ours("format", *options, 512).err
    assert "Linux" not in ours("format", *options, 4096).err
