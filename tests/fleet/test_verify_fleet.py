"""Many images verified: each as verify would, and root hashes of all or of a part."""

import pytest
from signed_images import RECIPE

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.fleet.rows import State
from dmsign_fast.fleet.sign import sign_fleet
from dmsign_fast.fleet.state import FleetState
from dmsign_fast.fleet.verify import FleetVerifyOptions, verify_fleet
from dmsign_fast.pipeline.verify_image import VerifyOptions
from dmsign_fast.trust.verdict import trust_files
from fleet.conftest import IMAGES


@pytest.fixture
def sign(tmp_path, key, options, threads):
    def go(references, changed=None):
        with FleetState(tmp_path / "run.state") as state:
            sign_fleet(state, references, key, changed or options, threads)

    return go


@pytest.fixture
def verify(tmp_path, entity, access, threads):
    def go(references, root=entity.root, **values):
        needed = VerifyOptions(trust=trust_files(TrustAnchors((root,))), recipe=RECIPE)
        wanted = FleetVerifyOptions(
            verify=lambda _: needed, recipe=RECIPE, access=access, worker_access=access, **values
        )
        with FleetState(tmp_path / "verify.state") as state:
            verify_fleet(state, references, wanted, lambda: threads)
            return state.counts().images, list(state.images())

    return go


def test_all_are_verified_and_none_is_read(catalogue, sign, verify):
    sign(catalogue.references)
    catalogue.server.requests.clear()
    images, _ = verify(catalogue.references)
    assert images[State.VERIFIED] == len(IMAGES)
    assert set(catalogue.fetched().values()) == {0}


def test_deep_reads_each_layer_once(registry, sign, verify):
    sign(registry.references)
    registry.server.requests.clear()
    images, _ = verify(registry.references, deep=1.0)
    assert images[State.VERIFIED] == len(IMAGES)
    assert set(registry.fetched().values()) == {1}


def test_a_sample_reads_a_part(registry, sign, verify):
    sign(registry.references)
    registry.server.requests.clear()
    images, _ = verify(registry.references, deep=0.25)
    assert images[State.VERIFIED] == len(IMAGES)
    assert 3 <= sum(registry.fetched().values()) <= 5


def test_deep_tells_a_layer_that_is_another(registry, sign, verify):
    sign(registry.references)
    # what the registry gives is not the layer that was signed
    digest = registry.store("app/a").resolve("1.0").layers[0].digest
    for name in IMAGES:
        blobs = registry.server.repository(name).blobs
        if digest in blobs:
            blobs[digest] = bytes(len(blobs[digest]))
    images, rows = verify(registry.references, deep=1.0)
    bad = {row.place.partition("/")[2] for row in rows if row.state is State.FAILED}
    assert bad == {"app/a", "app/d"}
    assert images[State.VERIFIED] == 2


def test_unsigned_images_are_named(registry, sign, verify):
    sign(registry.references[:2])
    images, rows = verify(registry.references)
    assert images[State.VERIFIED] == images[State.FAILED] == 2
    reasons = [row.reason for row in rows if row.state is State.FAILED]
    assert all("has no" in reason for reason in reasons)


def test_a_stranger_is_not_trusted(registry, sign, verify):
    from pki import make_root

    sign(registry.references)
    images, rows = verify(registry.references, root=make_root("Stranger").certificate)
    assert images[State.FAILED] == len(IMAGES)
    assert all("no " in row.reason for row in rows)


def test_no_workers_without_need(catalogue, sign, entity, access, tmp_path):
    sign(catalogue.references)
    needed = VerifyOptions(trust=trust_files(TrustAnchors((entity.root,))), recipe=RECIPE)
    wanted = FleetVerifyOptions(verify=lambda _: needed, recipe=RECIPE, access=access)

    def never():
        raise AssertionError

    with FleetState(tmp_path / "verify.state") as state:
        verify_fleet(state, catalogue.references, wanted, never)
        assert state.counts().images[State.VERIFIED] == len(IMAGES)
