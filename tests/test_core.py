"""The C core against hashlib, for every implementation that this processor runs."""

import hashlib
import sys

import numpy as np
import pytest
from helpers import dmsign, noise, run, write
from hypothesis import given
from hypothesis import strategies as st

from dmsign_fast import _core
from dmsign_fast.errors import ParameterError

BLOCK_SIZES = [512 << shift for shift in range(11)]


def digests(hash_type, salt, block_size, data):
    blocks = (data[at : at + block_size] for at in range(0, len(data), block_size))
    salted = (salt + block if hash_type else block + salt for block in blocks)
    return b"".join(hashlib.sha256(message).digest() for message in salted)


def assert_right(hash_type, salt, block_size, data, threads=1):
    found = _core.BlockHash(hash_type, salt, block_size).hash_blocks(data, threads)
    assert found == digests(hash_type, salt, block_size, bytes(data))


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("hash_type", [0, 1])
class TestEveryImplementation:
    def test_has_every_block_size(self, hash_type):
        for block_size in BLOCK_SIZES:
            assert_right(hash_type, noise(32), block_size, noise(3 * block_size))

    def test_has_every_salt_length(self, hash_type):
        for size in range(257):
            assert_right(hash_type, noise(size), 512, noise(3 * 512))

    def test_fills_and_half_fills_its_lanes(self, hash_type):
        blocks = noise(100 * 512)
        for count in [*range(70), 95, 96, 97, 100]:
            assert_right(hash_type, noise(5), 512, blocks[: count * 512])

    def test_does_not_mix_up_blocks_with_zero_blocks_between(self, hash_type):
        for zeros in ({0}, {69}, {3, 4, 5, 40}, set(range(0, 70, 2)), set(range(70))):
            blocks = [bytes(512) if i in zeros else noise(512, i) for i in range(70)]
            assert_right(hash_type, noise(32), 512, b"".join(blocks))

    def test_knows_a_block_that_is_zero_but_for_one_byte(self, hash_type):
        for at in (0, 1, 15, 16, 17, 31, 63, 64, 255, 510, 511):
            block = bytearray(512)
            block[at] = 1
            assert_right(hash_type, noise(32), 512, bytes(512) + block + bytes(512))

    def test_takes_unaligned_buffers(self, hash_type):
        data = noise(40 * 512 + 64)
        for start in range(1, 64, 7):
            unaligned = memoryview(data)[start : start + 40 * 512]
            assert_right(hash_type, noise(33), 512, unaligned)

    def test_gives_the_same_with_any_number_of_threads(self, hash_type):
        data = noise(1 << 20)
        for threads in (0, 1, 2, 3, 8, 1000):
            assert_right(hash_type, noise(32), 4096, data, threads)

    @given(data=st.data())
    def test_agrees_with_hashlib_on_anything(self, hash_type, data):
        block_size = data.draw(st.sampled_from(BLOCK_SIZES[:6]))
        salt = data.draw(st.binary(max_size=256))
        kinds = data.draw(st.lists(st.integers(0, 3), max_size=40))
        blocks = b"".join(noise(block_size, kind) if kind else bytes(block_size) for kind in kinds)
        assert_right(hash_type, salt, block_size, blocks, data.draw(st.integers(1, 4)))


def test_takes_any_contiguous_buffer():
    data = noise(8 * 512)
    wanted = digests(1, b"salt", 512, data)
    block_hash = _core.BlockHash(1, b"salt", 512)
    numbers = np.frombuffer(data, np.uint32).reshape(4, -1)
    for buffer in (bytearray(data), memoryview(data), numbers, memoryview(numbers)):
        assert block_hash.hash_blocks(buffer) == wanted
    assert block_hash.hash_blocks(b"") == b""


def test_refuses_what_is_no_contiguous_buffer():
    block_hash = _core.BlockHash(1, b"", 512)
    for wrong in ("text", 1, None, np.zeros((64, 64), np.uint8)[:, :8]):
        with pytest.raises((TypeError, BufferError, ValueError)):
            block_hash.hash_blocks(wrong)


@pytest.mark.parametrize(
    ("hash_type", "salt", "block_size"),
    [
        (2, b"", 4096),
        (1, bytes(257), 4096),
        (1, b"", 0),
        (1, b"", 256),
        (1, b"", 4095),
        (1, b"", 1 << 20),
    ],
)
def test_refuses_what_is_outside_its_limits(hash_type, salt, block_size):
    with pytest.raises(ParameterError):
        _core.BlockHash(hash_type, salt, block_size)
    with pytest.raises(ParameterError):
        _core.Tree(hash_type, salt, block_size, 4096)


def test_refuses_a_partial_block():
    with pytest.raises(ParameterError, match="513 bytes are not a multiple"):
        _core.BlockHash(1, b"", 512).hash_blocks(bytes(513))


def test_an_unknown_implementation_is_an_error_and_changes_nothing():
    before = _core.SHA256.chosen
    with pytest.raises(ParameterError, match=r"'sha257' is unknown.*portable"):
        _core.SHA256.select("sha257")
    assert _core.SHA256.chosen == before


@pytest.mark.parametrize("name", _core.SHA256.usable)
def test_the_environment_chooses_the_implementation(name):
    done = dmsign("--version", "--verbose", environment={"DMSIGN_IMPL": name})
    assert (done.exit_code, done.field("SHA-256")) == (0, name)
    for known in _core.SHA256:
        assert done.field(f"  {known}") in ("runs here", "needs another processor")


def test_an_unknown_implementation_in_the_environment_is_a_usage_error(tmp_path):
    data = write(tmp_path / "data", bytes(4096))
    for command in (["--version", "--verbose"], ["verity", "format", data]):
        done = dmsign(*command, environment={"DMSIGN_IMPL": "bogus"})
        assert done.exit_code == 2
        assert len(done.err.splitlines()) == 1
        assert "'bogus' is unknown" in done.err
        assert all(name in done.err for name in _core.SHA256.usable)
        assert "Root hash" not in done.out


@pytest.mark.parametrize("lib", ["object()", "SimpleNamespace(DMSIGN_DECLARATIONS=1)"])
def test_a_core_that_was_built_for_other_python_files_is_one_clear_line(lib):
    script = (
        "import sys\nfrom types import ModuleType, SimpleNamespace\n"
        "core = sys.modules['dmsign_fast._dmsign'] = ModuleType('dmsign_fast._dmsign')\n"
        f"core.ffi, core.lib = None, {lib}\n"
        "from dmsign_fast.cli import main\nsys.exit(main(['verity', 'format', 'data']))"
    )
    done = run(sys.executable, "-c", script)
    assert done.exit_code == 70
    assert len(done.err.splitlines()) == 1
    assert "of another version than the Python files: run pip install -e ." in done.err
