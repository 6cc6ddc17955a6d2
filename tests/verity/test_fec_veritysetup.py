"""Parity is veritysetup's, byte for byte, and so is what both say of damage."""

import re

import pytest
from helpers import cli, noise, veritysetup, write
from hypothesis import given, settings
from hypothesis import strategies as st

from dmsign_fast._core_fec import FEC

UUID = "3f3d53fd-0038-4c72-a5f0-0d4802e76b45"


def ours(*arguments):
    return cli("verity", *arguments)


@pytest.fixture(params=FEC.usable)
def implementation(request):
    """Each implementation of this processor in turn."""
    with FEC.using(request.param):
        yield request.param


def formatted(run, directory, data, options, *, fec="fec", existing=None, fec_file=None):
    """Format by one of the programs in a directory of its own: what was said, and the files."""
    directory.mkdir(exist_ok=True)
    for path in directory.iterdir():
        path.unlink()
    if existing is not None:
        (directory / "hash").write_bytes(existing)
    if fec_file is not None:
        (directory / "fec").write_bytes(fec_file)
    hashes = directory / "hash"
    source = data or hashes
    done = run("format", source, hashes, "--fec-device", directory / fec, *options)
    assert done.exit_code == 0, done.err
    text = done.out.replace(str(directory), "DIRECTORY")
    text = re.sub(r"(block size: \t\d+) \[bytes\]", r"\1", text)
    files = {path.name: path.read_bytes() for path in directory.iterdir()}
    return text, files, done.field("Root hash")


def assert_same(tmp_path, data, options, **more):
    theirs = formatted(veritysetup, tmp_path / "theirs", data, options, **more)
    found = formatted(ours, tmp_path / "ours", data, options, **more)
    assert found[0] == theirs[0]
    assert found[1] == theirs[1]
    return theirs[2]


def options_of(roots, block_size=4096, salt=b"salt", **more):
    options = ["--fec-roots", roots, "--salt", salt.hex() or "-"]
    options += ["--data-block-size", block_size, "--hash-block-size", block_size]
    for name, value in more.items():
        options += [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
    return options if "no_superblock" in more else [*options, "--uuid", UUID]


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("roots", range(2, 25))
def test_for_every_number_of_roots(roots, tmp_path):
    data = write(tmp_path / "data", noise(300 * 1024, roots))
    assert_same(tmp_path, data, options_of(roots, 1024))


@pytest.mark.parametrize("block_size", [512, 1024, 2048, 4096])
@pytest.mark.parametrize("roots", [2, 11, 24])
def test_around_a_whole_number_of_rounds(roots, block_size, tmp_path):
    rows = 255 - roots
    for blocks in (1, 2, rows - 4, rows - 3, rows, rows + 1, 2 * rows):
        data = write(tmp_path / "data", noise(blocks * block_size))
        assert_same(tmp_path, data, options_of(roots, block_size))


@pytest.mark.parametrize("algorithm", ["sha1", "sha512"])
def test_for_algorithms_whose_tree_takes_a_reading_of_its_own(algorithm, tmp_path):
    data = write(tmp_path / "data", noise(300 * 4096))
    assert_same(tmp_path, data, options_of(3, hash=algorithm))


def test_what_stands_behind_the_hash_area_is_covered_too(tmp_path):
    data = write(tmp_path / "data", noise(300 * 4096))
    behind = noise(40 * 4096 + 100, 2)
    assert_same(tmp_path, data, options_of(4, hash_offset=8192), existing=behind)


@pytest.mark.parametrize("superblock", [True, False])
def test_with_data_hashes_and_parity_in_one_file(superblock, tmp_path):
    more = {} if superblock else {"no_superblock": True}
    for blocks in (1, 2, 300):
        hash_offset = blocks * 4096
        fec_offset = hash_offset + 5 * 4096
        content = noise(hash_offset).ljust(fec_offset, b"\7")
        options = options_of(
            5, data_blocks=blocks, hash_offset=hash_offset, fec_offset=fec_offset, **more
        )
        assert_same(tmp_path, None, options, fec="hash", existing=content)


def test_with_parity_behind_something_else_in_its_file(tmp_path):
    data = write(tmp_path / "data", noise(300 * 4096))
    for offset in (512, 4096, 1 << 20):
        assert_same(tmp_path, data, options_of(2, fec_offset=offset), fec_file=noise(9000))


def test_with_parity_behind_the_data(tmp_path):
    content = noise(300 * 4096)
    found = {}
    for name, run in (("theirs", veritysetup), ("ours", ours)):
        data = write(tmp_path / name, content)
        options = options_of(2, fec_offset=len(content), data_blocks=300)
        done = run("format", data, tmp_path / f"{name}.hash", "--fec-device", data, *options)
        assert done.exit_code == 0, done.err
        found[name] = data.read_bytes(), (tmp_path / f"{name}.hash").read_bytes()
    assert found["ours"] == found["theirs"]


@settings(max_examples=60)
@given(
    roots=st.integers(2, 24),
    block_size=st.sampled_from([512, 1024, 4096]),
    blocks=st.integers(1, 40) | st.integers(1, 600),
    salt=st.binary(max_size=256),
    superblock=st.booleans(),
    place=st.sampled_from(["apart", "shared", "one file"]),
    gap=st.integers(0, 3),
    zeros=st.booleans(),
)
def test_for_any_options(tmp_path, roots, block_size, blocks, salt, superblock, place, gap, zeros):
    content = noise(blocks * block_size)
    if zeros:
        content = content[: len(content) // 2 // block_size * block_size].ljust(len(content), b"\0")
    more = {} if superblock else {"no_superblock": True}
    unit = max(4096, block_size)
    hash_offset = -(-len(content) // unit) * unit if place == "one file" else gap * unit
    area = hash_offset + (blocks // 15 + 12) * block_size + unit  # at least as much as it takes
    if hash_offset:
        more["hash_offset"] = hash_offset
    if place == "one file" or not superblock:
        more["data_blocks"] = blocks
    existing, fec = None, "fec"
    if place != "apart":
        fec = "hash"
        more["fec_offset"] = area // unit * unit + gap * unit
        existing = noise(more["fec_offset"], 3)
    elif gap:
        more["fec_offset"] = gap * 4096
    if place == "one file":
        existing = content + existing[len(content) :]
    elif place == "shared":
        more["hash_offset"] = hash_offset = hash_offset or unit  # so that the file stays as it is
        more["fec_offset"] += unit
        existing = noise(more["fec_offset"], 3)
    data = None if place == "one file" else write(tmp_path / "data", content)
    assert_same(
        tmp_path, data, options_of(roots, block_size, salt, **more), fec=fec, existing=existing
    )
