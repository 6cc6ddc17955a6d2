"""The same files and the same words as veritysetup, and each takes the other's work."""

import re

import pytest
from helpers import cli, noise, veritysetup, write
from hypothesis import assume, given, settings
from hypothesis import strategies as st

UUID = "3f3d53fd-0038-4c72-a5f0-0d4802e76b45"
BLOCK_SIZES = [512, 1024, 4096, 65536]


def words(text, path):
    """What was printed, without the differences between versions, or the name of the file."""
    # from 2.8 on "[bytes]" stands behind block sizes too
    text = re.sub(r"(block size: \t\d+) \[bytes\]", r"\1", text)
    return text.replace(str(path), "FILE")


def options_of(data_block_size, hash_block_size, salt, **more):
    options = ["--data-block-size", data_block_size, "--hash-block-size", hash_block_size]
    options += ["--salt", salt.hex() or "-"]
    for name, value in more.items():
        options += [f"--{name.replace('_', '-')}"] if value is True else []
        options += [] if value is True else [f"--{name.replace('_', '-')}", value]
    return options


def assert_same(directory, data, options, *, existing=None):
    """Format with both; the hash files, printed texts, and verdicts on each other's are the same.

    With ``existing`` the hash area goes into copies of that, which are the data too.
    """
    theirs, ours = directory / "theirs", directory / "ours"
    for path in (theirs, ours):
        path.unlink(missing_ok=True)
        if existing is not None:
            path.write_bytes(existing)
    identity = [] if "--no-superblock" in options else ["--uuid", UUID]
    wanted = veritysetup("format", data or theirs, theirs, *options, *identity)
    assert wanted.exit_code == 0, wanted.err
    found = cli("verity", "format", data or ours, ours, *options, *identity)
    assert found.exit_code == 0, found.err
    assert ours.read_bytes() == theirs.read_bytes()
    assert words(found.out, ours) == words(wanted.out, theirs)
    root_hash = wanted.field("Root hash")
    for path in (ours, theirs):
        for verify in (veritysetup, lambda *arguments: cli("verity", *arguments)):
            verdict = verify("verify", data or path, path, root_hash, *options)
            assert verdict.exit_code == 0, verdict.err
    if identity:
        at = [option for option in ("--hash-offset",) if option in options]
        at += [options[options.index(at[0]) + 1]] if at else []
        dumps = veritysetup("dump", theirs, *at), cli("verity", "dump", ours, *at)
        assert words(dumps[0].out, theirs) == words(dumps[1].out, ours)


@pytest.mark.parametrize("hash_block_size", [512, 4096])
@pytest.mark.parametrize("data_block_size", [512, 4096])
def test_at_every_boundary_of_a_level(data_block_size, hash_block_size, tmp_path):
    per_block = hash_block_size // 32
    powers = [1, per_block, per_block**2] + ([per_block**3] if per_block == 16 else [])
    counts = {power + step for power in powers for step in (-1, 0, 1)} | {2, 3}
    for count in sorted(counts - {0}):
        if data_block_size == 4096 and count > 4097:
            continue
        data = write(tmp_path / "data", noise(count * data_block_size))
        assert_same(tmp_path, data, options_of(data_block_size, hash_block_size, b"\1" * 32))


@pytest.mark.parametrize("hash_block_size", BLOCK_SIZES)
@pytest.mark.parametrize("data_block_size", BLOCK_SIZES)
def test_for_every_pair_of_block_sizes(data_block_size, hash_block_size, tmp_path):
    data = write(tmp_path / "data", noise(19 * data_block_size))
    assert_same(tmp_path, data, options_of(data_block_size, hash_block_size, noise(32)))


@pytest.mark.parametrize("hash_block_size", BLOCK_SIZES)
@pytest.mark.parametrize("superblock", [True, False])
def test_for_a_single_data_block_which_has_no_level(hash_block_size, superblock, tmp_path):
    data = write(tmp_path / "data", noise(4096))
    more = {} if superblock else {"no_superblock": True, "data_blocks": 1}
    assert_same(tmp_path, data, options_of(4096, hash_block_size, noise(32), **more))
    if superblock:
        options = options_of(4096, hash_block_size, noise(32), hash_offset=hash_block_size)
        assert_same(tmp_path, data, options)


@pytest.mark.parametrize("hash_type", [0, 1])
@pytest.mark.parametrize("salt_size", [0, 1, 32, 55, 56, 64, 255, 256])
def test_for_every_kind_of_salt(salt_size, hash_type, tmp_path):
    data = write(tmp_path / "data", noise(150 * 4096))
    assert_same(tmp_path, data, options_of(4096, 4096, noise(salt_size), format=hash_type))


@pytest.mark.parametrize("hash_type", [0, 1])
@pytest.mark.parametrize("algorithm", ["sha1", "sha224", "sha384", "sha512", "sha3-256"])
def test_for_other_algorithms(algorithm, hash_type, tmp_path):
    data = write(tmp_path / "data", noise(300 * 512))
    options = options_of(512, 1024, noise(32), format=hash_type, hash=algorithm)
    assert_same(tmp_path, data, options)


def test_for_an_algorithm_in_upper_case_whose_name_we_print_as_the_superblock_has_it(tmp_path):
    data = write(tmp_path / "data", noise(20 * 4096))
    for run, path in ((veritysetup, "theirs"), (lambda *args: cli("verity", *args), "ours")):
        options = ["--hash", "SHA512", "--salt", "-", "--uuid", UUID]
        assert run("format", data, tmp_path / path, *options).exit_code == 0
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert cli("verity", "dump", tmp_path / "ours").field("Hash algorithm") == "sha512"


@pytest.mark.parametrize("superblock", [True, False])
def test_with_the_hash_area_behind_something_else(superblock, tmp_path):
    data = write(tmp_path / "data", noise(200 * 4096))
    more = {} if superblock else {"no_superblock": True, "data_blocks": 200}
    for offset in (4096, 8192, 1 << 20):
        assert_same(tmp_path, data, options_of(4096, 4096, noise(32), hash_offset=offset, **more))


@pytest.mark.parametrize("superblock", [True, False])
@pytest.mark.parametrize("gap", [0, 4096])
def test_with_the_hash_area_appended_to_the_data(superblock, gap, tmp_path):
    for blocks in (1, 2, 128, 129):
        size = blocks * 4096
        options = options_of(4096, 4096, noise(32), data_blocks=blocks, hash_offset=size + gap)
        options += [] if superblock else ["--no-superblock"]
        assert_same(tmp_path, None, options, existing=noise(size))


def test_with_fewer_data_blocks_than_there_are(tmp_path):
    data = write(tmp_path / "data", noise(200 * 4096 + 100))
    for blocks in (1, 2, 199, 200):
        assert_same(tmp_path, data, options_of(4096, 4096, noise(32), data_blocks=blocks))


def test_with_the_root_hash_in_a_file(tmp_path):
    data = write(tmp_path / "data", noise(20 * 4096))
    for name, program in (("theirs", veritysetup), ("ours", lambda *args: cli("verity", *args))):
        hashes, root = tmp_path / name, tmp_path / f"{name}.root"
        options = ["--salt", "-", "--root-hash-file", root]
        assert program("format", data, hashes, *options).exit_code == 0
    assert (tmp_path / "ours.root").read_bytes() == (tmp_path / "theirs.root").read_bytes()
    for program in (veritysetup, lambda *args: cli("verity", *args)):
        done = program("verify", data, hashes, "--root-hash-file", tmp_path / "theirs.root")
        assert done.exit_code == 0


@settings(max_examples=40)
@given(
    data_block_size=st.sampled_from(BLOCK_SIZES[:3]),
    hash_block_size=st.sampled_from(BLOCK_SIZES),
    blocks=st.integers(1, 40) | st.integers(1, 700),
    salt=st.binary(max_size=256),
    hash_type=st.sampled_from([0, 1]),
    algorithm=st.sampled_from(["sha256", "sha256", "sha1", "sha512"]),
    superblock=st.booleans(),
    offset=st.integers(0, 5),
    zeros=st.booleans(),
    appended=st.booleans(),
)
def test_for_any_options(
    tmp_path,
    data_block_size,
    hash_block_size,
    blocks,
    salt,
    hash_type,
    algorithm,
    superblock,
    offset,
    zeros,
    appended,
):
    assume(not (algorithm == "sha512" and hash_block_size == 512 and blocks > 300))
    content = noise(blocks * data_block_size)
    if zeros:
        middle = len(content) // 2 // data_block_size * data_block_size
        content = content[:middle].ljust(len(content), b"\0")
    unit = max(4096, hash_block_size)
    start = -(-len(content) // unit) * unit if appended else 0
    more = {} if superblock else {"no_superblock": True}
    if appended or not superblock:
        more["data_blocks"] = blocks
    if start + offset:
        more["hash_offset"] = start + offset * unit
    options = options_of(
        data_block_size, hash_block_size, salt, format=hash_type, hash=algorithm, **more
    )
    data = None if appended else write(tmp_path / "data", content)
    assert_same(tmp_path, data, options, existing=content if appended else None)
