"""Forms of artifacts that have more of each layer than its signature, in a fleet."""

import threading
from collections import Counter
from dataclasses import replace

import pytest
from registry_server import status

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import ParameterError
from dmsign_fast.fleet.rows import State
from dmsign_fast.fleet.sign import sign_fleet
from dmsign_fast.fleet.state import FleetState
from dmsign_fast.fleet.verify import FleetVerifyOptions, verify_fleet
from dmsign_fast.pipeline.forms import form_of
from dmsign_fast.pipeline.verify_image import VerifyOptions, verify_image
from dmsign_fast.trust.verdict import trust_files
from fleet.conftest import IMAGES

RECIPE = Recipe.parse("containerd-tar-index")
ACL = form_of("acl")


@pytest.fixture
def acl(options):
    return replace(
        options, sign=replace(options.sign, recipe=RECIPE, forms=("acl",)), recipes=(RECIPE,)
    )


@pytest.fixture
def run(tmp_path, key, acl, threads):
    def go(references, changed=None, **more):
        with FleetState(tmp_path / "run.state") as state:
            sign_fleet(state, references, key, changed or acl, threads, **more)
            return state.counts(), list(state.images())

    return go


def wanted(entity):
    return VerifyOptions(
        trust=trust_files(TrustAnchors((entity.root,))), recipe=RECIPE, deep=True, forms=("acl",)
    )


def parts_of(catalogue, name):
    """The blobs besides signatures in the artifact of an image."""
    store = catalogue.store(name)
    (listed,) = store.referrers(store.resolve("1.0").descriptor, ACL.artifact_type)
    manifest = store.fetch_manifest(listed)
    return [one for one in manifest.layers if one.media_type != ACL.signature.media_type]


def test_each_layer_is_read_once_and_its_parts_are_in_every_repository(catalogue, run, entity):
    counts, _ = run(catalogue.references)
    assert counts.images[State.SIGNED] == len(IMAGES)
    assert set(catalogue.fetched().values()) == {1}
    uploaded = catalogue.uploaded()
    for name, layers in IMAGES.items():
        parts = parts_of(catalogue, name)
        assert len(parts) == 2 * len(layers)
        # the registry takes them over into other repositories
        assert {uploaded[one.digest] for one in parts} == {1}
        (verdict,) = verify_image(catalogue.store(name), "1.0", wanted(entity))
        assert verdict.verified
        assert verdict.bound
    counts, _ = run(catalogue.references)
    assert counts.images[State.PASSED_OVER] == len(IMAGES)


def test_a_registry_that_mounts_no_blobs_gets_copies(catalogue, run, entity):
    def refuse(handler):
        if "mount" in handler.query:
            status(403)(handler)
        else:
            handler.serve()

    catalogue.server.fail("POST", "/v2/.*/blobs/uploads/", refuse, 999)
    counts, _ = run(catalogue.references)
    assert counts.images[State.SIGNED] == len(IMAGES)
    catalogue.server.faults.clear()
    uploaded = catalogue.uploaded()
    needed = Counter(one.digest for name in IMAGES for one in parts_of(catalogue, name))
    assert {digest: uploaded[digest] for digest in needed} == needed
    for name in IMAGES:
        (verdict,) = verify_image(catalogue.store(name), "1.0", wanted(entity))
        assert verdict.verified


def test_another_run_takes_parts_from_the_file(registry, run, acl):
    run(registry.references)
    registry.server.requests.clear()
    counts, _ = run(registry.references, replace(acl, sign=replace(acl.sign, force=True)))
    assert counts.images[State.SIGNED] == len(IMAGES)
    assert set(registry.fetched().values()) == {0}


def test_root_hashes_without_parts_are_not_enough(registry, run, acl):
    run(registry.references, replace(acl, sign=replace(acl.sign, forms=("notation",))))
    registry.server.requests.clear()
    counts, _ = run(registry.references)
    assert counts.images[State.SIGNED] == len(IMAGES)
    assert set(registry.fetched().values()) == {1}


def test_a_worker_that_lies_about_parts_stops_the_images_of_its_layer(
    registry, run, entity, threads, monkeypatch
):
    """The root hash covers the parts, and the coordinator looks before it signs."""
    from dmsign_fast.fleet import task as tasks

    digest = registry.store("app/a").resolve("1.0").layers[0].digest
    honest, lock = tasks._push, threading.Lock()

    def lie(store, place, blob):
        honest(store, place, blob)
        with lock:
            blobs = registry.server.repository(place.partition("/")[2]).blobs
            if digest in blobs:
                blobs[blob.digest] = bytes(len(blobs[blob.digest]))

    monkeypatch.setattr(tasks, "_push", lie)
    counts, images = run(registry.references)
    failed = {one.place.partition("/")[2] for one in images if one.state is State.FAILED}
    assert {"app/a", "app/d"} <= failed
    assert all("--resume reads the layer again" in one.reason for one in images if one.reason)
    assert not registry.referrers("app/a"), "nothing is signed"
    monkeypatch.undo()
    for name in IMAGES:
        blobs = registry.server.repository(name).blobs
        for broken in [one for one, content in blobs.items() if not any(content)]:
            del blobs[broken]
    run(registry.references)
    counts, _ = run(registry.references)
    assert counts.images[State.PASSED_OVER] == len(IMAGES), "the layer was read again"


def test_parts_that_are_gone_are_made_again(registry, run, acl):
    run(registry.references)
    gone = {one.digest for name in IMAGES for one in parts_of(registry, name)}
    for name in IMAGES:
        for digest in gone:
            registry.server.repository(name).blobs.pop(digest, None)
    counts, images = run(registry.references)
    assert counts.images[State.SIGNED] == len(IMAGES), [one.reason for one in images]


def test_a_worker_that_may_not_push_says_what_to_do(registry, run):
    registry.server.fail("POST", "/v2/.*/blobs/uploads/.*", status(403), 99)
    counts, images = run(registry.references)
    assert counts.images[State.FAILED] == len(IMAGES)
    assert all("give workers a login that may push, or --share-login" in it.reason for it in images)


@pytest.mark.parametrize(
    ("recipes", "words"),
    [
        (("containerd",), "use another --recipe"),
        (("containerd-tar-index", "containerd-tar-index@1.8.6"), "give one --recipe"),
    ],
)
def test_recipes_that_do_not_fit_are_refused_before_anything_is_asked(
    registry, run, acl, recipes, words
):
    with pytest.raises(ParameterError, match=words):
        run(registry.references, replace(acl, recipes=tuple(map(Recipe.parse, recipes))))
    assert not registry.server.requests


def test_deep_verification_looks_at_published_parts(
    registry, run, entity, access, threads, tmp_path
):
    run(registry.references)
    part = parts_of(registry, "other/c")[0]
    blobs = registry.server.repository("other/c").blobs
    options = FleetVerifyOptions(
        verify=lambda _: replace(wanted(entity), deep=False),
        recipe=RECIPE,
        access=access,
        worker_access=access,
        deep=1.0,
    )

    def verified():
        with FleetState(tmp_path / "verify.state") as state:
            verify_fleet(state, registry.references, options, lambda: threads)
            return [one.place for one in state.images(State.FAILED)]

    assert verified() == []
    blobs[part.digest] = bytes(len(blobs[part.digest]))
    assert verified() == [f"{registry.server.host}/other/c"]
