"""What goes wrong while a fleet is signed: it harms the image that it concerns."""

import threading

import pytest
from registry_server import status

from dmsign_fast.errors import StorageError
from dmsign_fast.fleet.rows import State
from dmsign_fast.fleet.sign import sign_fleet
from dmsign_fast.fleet.state import FleetState
from fleet.conftest import IMAGES


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.state"


@pytest.fixture
def run(path, key, options, threads):
    def go(references, **more):
        with FleetState(path) as state:
            sign_fleet(state, references, key, options, threads, **more)
            return state.counts(), list(state.images())

    return go


def test_a_tag_that_moves_during_the_run_is_signed_as_it_was(registry, run, entity):
    store = registry.store("app/a")
    before, other = store.resolve("1.0"), registry.store("app/d").resolve("1.0")
    moved = threading.Event()

    def move(handler):
        if not moved.is_set():
            moved.set()
            registry.server.repository("app/a").manifests[other.descriptor.digest] = (
                other.descriptor.media_type,
                other.raw,
            )
            registry.server.repository("app/a").tags["1.0"] = other.descriptor.digest
        handler.serve()

    for layer in before.layers:
        registry.server.fail("GET", f"/v2/.*/blobs/{layer.digest}", move, 99)
    _, images = run(registry.references)
    registry.server.faults.clear()
    assert moved.is_set()
    assert store.resolve("1.0").descriptor.digest == other.descriptor.digest
    signed = next(one for one in images if one.place.endswith("app/a"))
    assert (signed.digest, signed.state) == (before.descriptor.digest, State.SIGNED)
    assert len(store.referrers(before.descriptor)) == 2
    assert not store.referrers(other.descriptor)


def test_a_repository_that_fails_costs_its_image_alone(registry, run):
    registry.server.fail("GET", "/v2/other/c/.*", status(500), 99)
    counts, images = run(registry.references)
    registry.server.faults.clear()
    assert counts.images[State.SIGNED] == len(IMAGES) - 1
    assert counts.unresolved == (0, 1)
    assert "other/c" not in {one.place.partition("/")[2] for one in images}


def test_a_repository_that_hangs_costs_its_image_alone(registry, run):
    held = threading.Event()

    def hang(handler):
        held.wait(60)
        handler.close_connection = True

    registry.server.fail("GET", "/v2/other/c/manifests/.*", hang, 1)
    waker = threading.Timer(3, held.set)
    waker.start()
    counts, _ = run(registry.references)
    waker.join()
    registry.server.faults.clear()
    assert counts.images[State.SIGNED] + counts.unresolved[1] == len(IMAGES)
    assert counts.images[State.SIGNED] >= len(IMAGES) - 1


def test_a_full_disk_under_the_file_ends_the_run_which_goes_on(
    registry, run, path, key, options, threads, entity
):
    with FleetState(path) as state:
        ((pages,),) = state._rows("PRAGMA page_count")
        state._rows(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StorageError, match=r"full.*--resume"):
            sign_fleet(
                state,
                [f"{registry.references[0].rpartition(':')[0]}:{'x' * 120}{n}" for n in range(99)],
                key,
                options,
                threads,
            )
    counts, _ = run(registry.references, resume=True)
    assert counts.images[State.SIGNED] == len(IMAGES)
    assert all(registry.verified(entity).values())


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        FleetState(tmp_path / "nowhere" / "run.state")
