"""The C writer equals mkfs.erofs 1.8.6 and 1.9.4: directed cases, and seeds of every kind."""

from __future__ import annotations

from collections.abc import Iterator

import directed
import mkfs_twin
import pytest
import special
from difftest import Harness
from mutate import mutate
from tar_maker import Maker


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    try:
        made = Harness(timeout=20)
    except mkfs_twin.UnavailableError as why:
        pytest.fail(str(why))
    with made.dir:
        yield made


@pytest.mark.parametrize("label", directed.CASES)
def test_directed(harness: Harness, label: str) -> None:
    assert not harness.compare(directed.CASES[label], label)


@pytest.mark.parametrize("seed", range(64))
def test_seed(harness: Harness, seed: int) -> None:
    assert not harness.compare(Maker(seed).make(), f"seed {seed}", seed=seed)


@pytest.mark.parametrize("seed", range(24))
def test_mutant(harness: Harness, seed: int) -> None:
    assert not harness.compare(mutate(seed), f"mutant {seed}", seed=seed)


@pytest.mark.parametrize("mtime", [0, 7])
def test_much_metadata(harness: Harness, mtime: int) -> None:
    assert not harness.compare(special.much_metadata(30, mtime), "much metadata")


@pytest.mark.parametrize(
    ("data", "names", "length"), [(0, 60, 40), (2, 65, 45), (3, 60, 40), (3, 300, 99)]
)
def test_far_root(harness: Harness, data: int, names: int, length: int) -> None:
    assert not harness.compare(special.far_root(data, names, length, 7), "far root")
