"""The limits of the parameters, and where the levels stand."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsign_fast.errors import ParameterError
from dmsign_fast.verity.params import VerityParams


def test_defaults_are_those_of_veritysetup():
    params = VerityParams()
    assert (params.hash_algorithm, params.hash_type) == ("sha256", 1)
    assert (params.data_block_size, params.hash_block_size) == (4096, 4096)
    assert len(params.salt) == 32
    assert params.salt != VerityParams().salt


@pytest.mark.parametrize(
    "wrong",
    [
        {"hash_type": 2},
        {"data_block_size": 256},
        {"data_block_size": 1 << 20},
        {"data_block_size": 5000},
        {"hash_block_size": 0},
        {"hash_block_size": -4096},
        {"salt": bytes(257)},
        {"hash_algorithm": "sha257"},
        {"hash_algorithm": "shake_128"},
        {"hash_algorithm": ""},
        {"hash_algorithm": "sha256\0"},
        {"hash_algorithm": "schön"},
    ],
    ids=str,
)
def test_values_outside_the_limits_are_refused(wrong):
    with pytest.raises(ParameterError):
        VerityParams(**wrong)


@pytest.mark.parametrize(
    ("algorithm", "hash_type", "slot", "per_block"),
    [
        ("sha256", 1, 32, 128),
        ("sha256", 0, 32, 128),
        ("sha1", 1, 32, 128),
        ("sha1", 0, 20, 128),
        ("sha384", 1, 64, 64),
        ("sha384", 0, 48, 64),
        ("sha512", 1, 64, 64),
    ],
)
def test_digests_stand_in_slots(algorithm, hash_type, slot, per_block):
    params = VerityParams(hash_algorithm=algorithm, hash_type=hash_type)
    assert (params.slot_size, params.hashes_per_block) == (slot, per_block)


@pytest.mark.parametrize(
    ("blocks", "levels"),
    [(1, []), (2, [1]), (128, [1]), (129, [2, 1]), (128**2, [128, 1]), (128**2 + 1, [129, 2, 1])],
)
def test_levels_are_counted_leaf_level_first(blocks, levels):
    area = VerityParams().hash_area(blocks)
    assert [level.blocks for level in area.levels] == levels
    assert area.blocks == sum(levels)


@given(
    blocks=st.integers(1, 1 << 40),
    hash_block_size=st.sampled_from([512, 4096, 65536]),
    sectors=st.integers(0, 1 << 30),
)
def test_levels_stand_root_first_without_gaps_behind_the_superblock(
    blocks, hash_block_size, sectors
):
    params = VerityParams(hash_block_size=hash_block_size)
    area = params.hash_area(blocks, hash_offset=sectors * 512)
    assert area.start % hash_block_size == 0
    assert 0 <= area.start - sectors * 512 - 512 < hash_block_size
    at = area.start
    for level in reversed(area.levels):
        assert level.offset == at
        at += level.blocks * hash_block_size
    assert at == area.end
    assert not area.levels or area.levels[-1].blocks == 1


def test_without_a_superblock_the_levels_begin_at_the_offset():
    assert VerityParams().hash_area(2, hash_offset=8192, superblock=False).start == 8192


@pytest.mark.parametrize(
    ("blocks", "options"),
    [
        (0, {}),
        (-1, {}),
        (1 << 52, {}),
        (1 << 80, {}),
        (9, {"hash_offset": 100}),
        (9, {"hash_offset": -512}),
        (9, {"hash_offset": 512, "superblock": False}),
        (9, {"hash_offset": (1 << 63) - 512}),
        (9, {"hash_offset": 1 << 90}),
    ],
    ids=str,
)
def test_a_hash_area_beyond_the_limits_is_refused(blocks, options):
    with pytest.raises(ParameterError):
        VerityParams().hash_area(blocks, **options)


def test_a_changed_copy_and_one_from_elsewhere_are_checked_too():
    params = VerityParams(data_block_size=512, salt=b"salt")
    assert params._replace(salt=b"") == VerityParams(data_block_size=512, salt=b"")
    assert pickle.loads(pickle.dumps(params)) == params
    with pytest.raises(ParameterError, match="hash block size 3"):
        params._replace(hash_block_size=3)
