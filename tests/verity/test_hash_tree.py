"""However the data comes, in any pieces and by any number of threads, the tree is the same."""

import gc
import hashlib

import numpy as np
import pytest
from helpers import Reference, noise, write
from hypothesis import given
from hypothesis import strategies as st

from dmsign_fast.errors import ParameterError, StorageError
from dmsign_fast.verity.hashlib_tree import HashlibTree
from dmsign_fast.verity.params import VerityParams
from dmsign_fast.verity.tree import VerityHasher

ALGORITHMS = ["sha1", "sha224", "sha384", "sha512", "sha3-256", "sha3-384", "blake2b-512", "md5"]
COUNTS = [1, 2, 15, 16, 17, 31, 255, 256, 257, 4095, 4096, 4097]


def params_of(algorithm="sha256", hash_type=1, data=512, hashes=512, salt=b"salt"):
    return VerityParams(
        hash_algorithm=algorithm,
        hash_type=hash_type,
        data_block_size=data,
        hash_block_size=hashes,
        salt=salt,
    )


some_params = st.builds(
    params_of,
    hash_type=st.sampled_from([0, 1]),
    data=st.sampled_from([512, 1024, 4096]),
    hashes=st.sampled_from([512, 1024, 4096]),
    salt=st.binary(max_size=256),
)


def tree_of(params, data, threads=1):
    hasher = VerityHasher(params, threads=threads)
    hasher.update(data)
    return hasher.finalize()


def assert_is(tree, reference):
    assert tree.root_hash == reference.root_hash
    assert tuple(map(bytes, tree.hash_blocks)) == reference.levels
    assert tree.hash_area == b"".join(reversed(reference.levels))


def by_hashlib(params, data):
    tree = HashlibTree(params)
    tree.update(data, 1)
    root_hash = tree.final(1)
    return Reference(root_hash, tuple(bytes(tree.level(at)[1]) for at in range(tree.levels)))


@pytest.mark.usefixtures("implementation")
def test_every_implementation_builds_the_tree_of_hashlib():
    for hash_type in (0, 1):
        params = params_of(hash_type=hash_type)
        for count in COUNTS:
            data = noise(count * 512)
            reference = Reference.of(params, data)
            assert_is(tree_of(params, data), reference)
            assert by_hashlib(params, data) == reference


@given(params=some_params, data=st.data())
def test_pieces_and_threads_do_not_matter(params, data):
    content = noise(data.draw(st.integers(1, 300)) * params.data_block_size)
    reference = Reference.of(params, content)
    assert by_hashlib(params, content) == reference
    hasher = VerityHasher(params, threads=data.draw(st.integers(1, 5)))
    left = memoryview(content)
    while left:
        size = data.draw(st.integers(0, len(left)) | st.integers(0, 5000), label="piece")
        hasher.update(left[:size])
        left = left[size:]
        if data.draw(st.integers(0, 9)) == 0:
            hasher.update(left)
            break
    assert_is(hasher.finalize(), reference)


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
@given(data=st.data())
def test_zeros_and_files_and_bytes_are_the_same_data(algorithm, tmp_path, data):
    params = params_of(algorithm)
    hasher = VerityHasher(params, threads=2)
    content = b""
    for step in range(data.draw(st.integers(1, 6))):
        kind = data.draw(st.sampled_from(["zeros", "bytes", "file"]))
        blocks = data.draw(st.integers(0, 40) | st.sampled_from([256, 257, 600]))
        if kind == "zeros":
            piece = bytes(blocks * 512)
            hasher.update_zeros(blocks)
        else:
            piece = noise(blocks * 512, step)
            if kind == "bytes":
                hasher.update(piece)
            else:
                with write(tmp_path / "piece", b"xyz" + piece).open("rb") as file:
                    hasher.update_file(file.fileno(), 3, blocks)
        content += piece
    if content:
        assert_is(hasher.finalize(), Reference.of(params, content))


@given(params=some_params, data=st.data())
def test_what_is_drained_and_what_is_left_make_the_whole_tree(params, data):
    content = noise(data.draw(st.integers(1, 400)) * params.data_block_size)
    reference = Reference.of(params, content)
    hasher = VerityHasher(params, threads=2)
    levels = [b""] * 20

    def take(level, start, blocks):
        assert start == len(levels[level])
        assert len(blocks) % params.hash_block_size == 0
        levels[level] += bytes(blocks)

    left = memoryview(content)
    while left:
        size = data.draw(st.integers(1, 200_000))
        hasher.update(left[:size])
        left = left[size:]
        for drained in hasher.drain() if data.draw(st.booleans()) else ():
            take(*drained)
    tree = hasher.finalize()
    assert tree.root_hash == reference.root_hash
    for level, blocks in enumerate(tree.hash_blocks):
        levels[level] += bytes(blocks)
    assert tuple(filter(None, levels)) == reference.levels


def test_a_large_tree_can_be_drained_all_the_time():
    params = params_of()
    content = noise(512) * 20_000
    hasher = VerityHasher(params)
    whole = tree_of(params, content)
    levels = [b""] * 9
    for at in range(0, len(content), 512 * 777):
        hasher.update(content[at : at + 512 * 777])
        for level, start, blocks in hasher.drain():
            assert start == len(levels[level])
            levels[level] += bytes(blocks)
    tree = hasher.finalize()
    for level, blocks in enumerate(tree.hash_blocks):
        levels[level] += bytes(blocks)
    assert tree.root_hash == whole.root_hash
    assert tuple(levels[: len(whole.hash_blocks)]) == tuple(map(bytes, whole.hash_blocks))


@pytest.mark.parametrize("hash_type", [0, 1])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_other_algorithms_build_their_trees(algorithm, hash_type):
    for count in (1, 2, 7, 8, 9, 64, 65):
        params = params_of(algorithm, hash_type, hashes=1024)
        data = noise(count * 512)
        assert_is(tree_of(params, data), Reference.of(params, data))


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
@pytest.mark.parametrize("hash_type", [0, 1])
def test_a_level_is_an_array_of_hash_blocks_and_digests(algorithm, hash_type):
    params = params_of(algorithm, hash_type, hashes=1024)
    data = noise(100 * 512)
    tree = tree_of(params, data)
    per_block = params.hashes_per_block
    assert per_block == 32
    assert [level.shape for level in tree.levels] == [
        (4, per_block, params.digest_size),
        (1, per_block, params.digest_size),
    ]
    leaves = tree.level(0).reshape(-1, params.digest_size)
    for block in (0, 1, 31, 32, 99):
        content = data[block * 512 :][:512]
        salted = b"salt" + content if hash_type else content + b"salt"
        assert leaves[block].tobytes() == hashlib.new(algorithm, salted).digest()
    assert not leaves[100:].any()


def test_a_level_is_a_view_and_cannot_be_written():
    tree = tree_of(params_of(), noise(40 * 512))
    level = tree.level(0)
    assert np.shares_memory(level, tree.level(0))
    with pytest.raises(ValueError, match="read-only"):
        level[0, 0, 0] = 1
    with pytest.raises(TypeError):
        tree.hash_blocks[0][0] = 1


def test_views_outlive_hasher_and_tree():
    params = params_of()
    data = noise(1000 * 512)
    reference = Reference.of(params, data)
    tree = tree_of(params, data)
    levels = tree.levels
    blocks = tree.hash_blocks
    del tree
    gc.collect()
    litter = [tree_of(params, noise(1000 * 512, seed)) for seed in range(2, 9)]
    assert tuple(map(bytes, blocks)) == reference.levels
    del blocks
    gc.collect()
    assert tuple(level.tobytes() for level in levels) == reference.levels
    assert len(litter) == 7


def test_differences_are_the_numbers_of_the_changed_data_blocks():
    params = params_of()
    content = bytearray(noise(700 * 512))
    before = tree_of(params, content)
    assert before.differences(before).tolist() == []
    for block in (0, 16, 300, 699):
        content[block * 512 + block % 512] ^= 1
    assert before.differences(tree_of(params, content)).tolist() == [0, 16, 300, 699]


def test_differences_of_single_blocks():
    one, other = (tree_of(params_of(), noise(512, seed)) for seed in (1, 2))
    assert one.differences(other).tolist() == [0]
    assert one.differences(one).tolist() == []


def test_only_like_trees_can_be_compared():
    tree = tree_of(params_of(), noise(512 * 20))
    for other in (
        tree_of(params_of(), noise(512 * 21)),
        tree_of(params_of(salt=b""), noise(512 * 20)),
    ):
        with pytest.raises(ParameterError, match="same parameters"):
            tree.differences(other)


def test_drained_trees_do_not_compare_as_equal():
    def drained(seed):
        hasher = VerityHasher(params_of())
        hasher.update(noise(512 * 8192, seed))
        for _ in hasher.drain():
            pass
        return hasher.finalize()

    one, other = drained(1), drained(2)
    assert one.root_hash != other.root_hash
    with pytest.raises(ParameterError):
        one.differences(other)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
class TestAHasherThatIsMisused:
    def test_gives_no_root_hash_without_data(self, algorithm):
        with pytest.raises(ParameterError, match="no data"):
            VerityHasher(params_of(algorithm)).finalize()

    def test_says_how_to_pad_a_partial_block_and_goes_on(self, algorithm):
        hasher = VerityHasher(params_of(algorithm))
        hasher.update(bytes(1000))
        with pytest.raises(ParameterError, match="pad it with 24 zero bytes"):
            hasher.finalize()
        hasher.update(bytes(24))
        assert hasher.finalize().root_hash == tree_of(params_of(algorithm), bytes(1024)).root_hash

    def test_is_finalized_once(self, algorithm):
        hasher = VerityHasher(params_of(algorithm))
        hasher.update(bytes(512))
        hasher.finalize()
        for again in (
            hasher.finalize,
            lambda: hasher.update(b""),
            lambda: hasher.update_zeros(1),
            lambda: list(hasher.drain()),
        ):
            with pytest.raises(ParameterError, match="is finalized"):
                again()

    def test_takes_zero_blocks_only_between_blocks(self, algorithm):
        hasher = VerityHasher(params_of(algorithm))
        hasher.update(b"partial")
        with pytest.raises((ParameterError, OSError)):
            hasher.update_zeros(1)

    def test_takes_any_buffer_and_counts_its_bytes(self, algorithm):
        data = noise(2048)
        numbers = np.frombuffer(data, np.uint16).reshape(2, -1)
        wanted = tree_of(params_of(algorithm), data)
        for buffer in (bytearray(data), memoryview(data), numbers, memoryview(numbers)):
            assert tree_of(params_of(algorithm), buffer).root_hash == wanted.root_hash

    def test_takes_buffers_of_nothing(self, algorithm):
        hasher = VerityHasher(params_of(algorithm))
        for nothing in (b"", memoryview(b""), np.zeros(0, np.uint8), np.zeros((0, 9), np.uint8)):
            hasher.update(nothing)
        hasher.update(bytes(512))
        assert hasher.finalize().data_blocks == 1

    def test_says_where_a_file_ends(self, algorithm, tmp_path):
        hasher = VerityHasher(params_of(algorithm))
        short = write(tmp_path / "short", bytes(1000))
        with short.open("rb") as file, pytest.raises(StorageError, match="at byte 1000"):
            hasher.update_file(file.fileno(), 0, 2)

    def test_an_unreadable_descriptor_is_a_storage_error(self, algorithm, tmp_path):
        hasher = VerityHasher(params_of(algorithm))
        path = write(tmp_path / "file", bytes(1024))
        with path.open("ab") as file, pytest.raises(StorageError, match="at byte 0"):
            hasher.update_file(file.fileno(), 0, 2)


@pytest.mark.parametrize("threads", [-1, 1 << 32])
def test_a_number_of_threads_that_cannot_be_is_a_parameter_error(threads):
    with pytest.raises(ParameterError):
        VerityHasher(params_of(), threads=threads).update(bytes(512))
