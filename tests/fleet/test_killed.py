"""A coordinator that is killed at any instant loses nothing and does nothing twice."""

import multiprocessing
import random
import signal

import pytest

from dmsign_fast.errors import FormatError, StorageError
from dmsign_fast.fleet.reading import ReadableState
from dmsign_fast.fleet.rows import State
from dmsign_fast.fleet.state import FleetState
from fleet.conftest import IMAGES
from fleet.coordinator import coordinate

KILLS = 25  # for each kind of registry


@pytest.fixture(scope="module")
def processes():
    """Processes that are begun in a moment, since what they import is there."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fleet.coordinator"])
    return context


@pytest.fixture
def files(entity, tmp_path):
    return entity.write(tmp_path)


def test_killed_at_random_instants(catalogue, entity, processes, files, options, tmp_path):
    path = tmp_path / "run.state"
    arguments = (path, catalogue.references, str(files.key), str(files.chain), options)

    def begin():
        process = processes.Process(target=coordinate, args=arguments)
        process.start()
        return process

    chance = random.Random()
    finished = {}  # how often a layer was read when its root hash was written down
    for _ in range(KILLS):
        process = begin()
        process.join(chance.uniform(0.05, 1.0))
        process.kill()
        process.join(30)
        assert process.exitcode in (0, -signal.SIGKILL)
        fetched = catalogue.fetched()
        for digest in hashed(path):
            assert fetched[digest] == finished.setdefault(digest, fetched[digest]), "read again"
    process = begin()
    process.join(60)
    assert process.exitcode == 0
    with FleetState(path) as state:
        counts = state.counts()
    done = counts.images[State.SIGNED] + counts.images[State.PASSED_OVER]
    assert done == len(IMAGES), counts
    assert all(catalogue.verified(entity, deep=True).values())
    referrers = {name: len(catalogue.referrers(name)) for name in IMAGES}
    assert referrers == dict.fromkeys(IMAGES, 2), "no signature is there twice"


def hashed(path):
    """The layers whose root hashes the file has."""
    try:
        with ReadableState(path) as state:
            return {listed.digest for listed, _, roots in state.layer_facts().values() if roots}
    except (FormatError, StorageError):
        return set()  # it is not there yet, or empty
