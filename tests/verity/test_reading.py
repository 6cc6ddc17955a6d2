"""Data is read span by span, and what is finished is written or compared meanwhile."""

import os

import pytest
from helpers import flip, noise, write

from dmsign_fast.errors import CorruptionError, StorageError
from dmsign_fast.verity.format import format_file
from dmsign_fast.verity.params import VerityParams
from dmsign_fast.verity.tree import VerityHasher
from dmsign_fast.verity.verify import verify_file

MIB = 1 << 20
SIZE = 9 * MIB + 512


@pytest.fixture(autouse=True)
def _small_spans(monkeypatch):
    monkeypatch.setattr("dmsign_fast.verity.reading._FIRST_SPAN", MIB)
    monkeypatch.setattr("dmsign_fast.verity.reading._SHORT", 0)  # they do not grow


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data", noise(SIZE))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_spans_make_the_tree_of_the_whole(threads, algorithm, data, tmp_path):
    params = VerityParams(
        hash_algorithm=algorithm, data_block_size=512, hash_block_size=512, salt=noise(32)
    )
    hasher = VerityHasher(params)
    hasher.update(data.read_bytes())
    whole = hasher.finalize()
    formatted = format_file(data, tmp_path / "hashes", params, threads=threads)
    assert formatted.root_hash == whole.root_hash
    written = (tmp_path / "hashes").read_bytes()
    assert written[formatted.hash_area.start :] == whole.hash_area


def test_data_that_is_not_in_the_page_cache_makes_the_same_tree(tmp_path, monkeypatch):
    monkeypatch.setattr("dmsign_fast.verity.reading._FIRST_SPAN", 37 * MIB)
    contents = noise(40 * MIB)
    data = write(tmp_path / "data", contents)
    with data.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    hasher = VerityHasher(VerityParams(salt=b""))
    hasher.update(contents)
    found = format_file(data, None, VerityParams(salt=b""), threads=3).root_hash
    assert found == hasher.finalize().root_hash


@pytest.mark.parametrize("at", [0, 5 * MIB, SIZE - 1, None])
def test_progress_tells_every_byte_once_though_damage_is_read_twice(at, data, tmp_path):
    params = VerityParams(data_block_size=512, hash_block_size=512)
    formatted = format_file(data, tmp_path / "hashes", params)
    told = []
    if at is None:
        verify_file(data, tmp_path / "hashes", formatted.root_hash, progress=told.append)
    else:
        flip(data, at)
        with pytest.raises(CorruptionError) as caught:
            verify_file(data, tmp_path / "hashes", formatted.root_hash, progress=told.append)
        (bad,) = caught.value.report.bad
        assert [(part.first, part.blocks) for part in bad] == [(at // 512, 1)]
    assert sum(told) == SIZE
    assert min(told) > 0


def test_a_failure_to_write_is_told_after_the_threads_have_ended(data, tmp_path, monkeypatch):
    from dmsign_fast.verity.hash_file import HashFile

    def full(*_):
        raise StorageError("no room")

    monkeypatch.setattr(HashFile, "write", full)
    with pytest.raises(StorageError, match="no room"):
        format_file(data, tmp_path / "hashes", VerityParams(data_block_size=512), threads=4)
    assert list(tmp_path.iterdir()) == [data]
