"""Many images signed in one run: each layer once, each image as if it were alone."""

import base64
import hashlib
import json
import threading
import time
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
from registry_server import status

from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import ParameterError
from dmsign_fast.fleet import hashing
from dmsign_fast.fleet.progress import FleetProgress
from dmsign_fast.fleet.rows import State
from dmsign_fast.fleet.sign import sign_fleet
from dmsign_fast.fleet.state import FleetState
from dmsign_fast.fleet.task import LayerOutcome
from dmsign_fast.oci.descriptor import Descriptor
from dmsign_fast.oci.manifest import make_manifest
from fleet.conftest import IMAGES


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.state"


@pytest.fixture
def run(path, key, options, threads):
    def go(references, changed=None, **more):
        with FleetState(path) as state:
            sign_fleet(state, references, key, changed or options, threads, **more)
            return state.counts(), list(state.images())

    return go


def test_each_layer_is_read_once_and_each_image_is_good(catalogue, run, entity):
    counts, images = run(catalogue.references)
    assert set(catalogue.fetched().values()) == {1}
    assert all(catalogue.verified(entity, deep=True).values())
    assert counts.images[State.SIGNED] == len(IMAGES) == len(images)
    assert counts.ended
    assert all(len(one.added) == 2 for one in images)


def test_a_second_run_passes_over_what_is_signed(catalogue, run):
    run(catalogue.references)
    catalogue.server.requests.clear()
    counts, _ = run(catalogue.references)
    assert counts.images[State.PASSED_OVER] == len(IMAGES)
    assert set(catalogue.fetched().values()) == {0}
    assert "PUT" not in {one.method for one in catalogue.server.requests}


def test_the_file_is_an_index_of_root_hashes(catalogue, run, changed, options):
    run(catalogue.references)
    catalogue.server.requests.clear()
    counts, images = run(catalogue.references, changed(force=True))
    assert counts.images[State.SIGNED] == len(IMAGES)
    assert set(catalogue.fetched().values()) == {0}, "the file has the root hashes"
    assert all(len(one.added) == 2 for one in images)
    run(catalogue.references, replace(changed(force=True), index=False))
    assert set(catalogue.fetched().values()) == {1}


def test_several_recipes_in_one_reading(catalogue, run, entity, options):
    recipes = (options.recipes[0], Recipe.parse("osguard"))
    counts, images = run(catalogue.references, replace(options, recipes=recipes))
    assert set(catalogue.fetched().values()) == {1}
    assert all(len(one.added) == 4 for one in images)
    assert all(catalogue.verified(entity, deep=True).values())
    counts, _ = run(catalogue.references, replace(options, recipes=recipes))
    assert counts.images[State.PASSED_OVER] == len(IMAGES)


def test_another_form_is_another_signature(registry, run, changed):
    run(registry.references)
    counts, _ = run(registry.references, changed(forms=("osguard",)))
    assert counts.images[State.SIGNED] == len(IMAGES)
    assert set(registry.fetched().values()) == {1}
    counts, _ = run(registry.references, changed(forms=("osguard", "notation")))
    assert counts.images[State.PASSED_OVER] == len(IMAGES)


def test_a_bad_image_does_not_stop_the_others(catalogue, run):
    missing = f"{catalogue.server.host}/app/nothing:1.0"
    catalogue.server.fail("PUT", "/v2/app/b/manifests/.*", status(403), 99)
    counts, images = run([missing, "no reference", *catalogue.references])
    assert counts.unresolved == (0, 2)
    assert counts.images[State.SIGNED] == 3
    (failed,) = [one for one in images if one.state is State.FAILED]
    assert "403" in failed.reason
    assert failed.reference.endswith("app/b:1.0")
    catalogue.server.faults.clear()


def test_what_failed_is_tried_again_by_a_resumed_run(catalogue, run, entity, path, key, options):
    catalogue.server.fail("PUT", "/v2/app/b/manifests/.*", status(403), 99)
    counts, _ = run(catalogue.references, replace(options, max_failures=0))
    assert counts.ended is None
    catalogue.server.faults.clear()
    with pytest.raises(ParameterError, match="--resume"):
        run(catalogue.references)
    counts, _ = run([], replace(options, max_failures=0), resume=True)
    assert counts.images[State.SIGNED] == len(IMAGES)
    assert set(catalogue.fetched().values()) == {1}
    assert all(catalogue.verified(entity).values())
    assert all(len(catalogue.referrers(name)) == 2 for name in IMAGES), "none twice"


def test_a_layer_that_is_not_what_it_says_stops_its_images_alone(catalogue, run):
    blobs = catalogue.server.repository("app/a").blobs
    digest = catalogue.store("app/a").resolve("1.0").layers[0].digest
    for name in ("app/a", "app/d"):
        blobs = catalogue.server.repository(name).blobs
        blobs[digest] = bytes(len(blobs[digest]))
    counts, images = run(catalogue.references)
    assert counts.images[State.SIGNED] == 2
    assert counts.layers[2] == 1
    for one in images:
        assert (one.state is State.FAILED) == one.place.endswith(("app/a", "app/d"))
        assert one.state is not State.FAILED or "digest" in one.reason


def test_a_registry_that_is_busy_is_left_alone_and_asked_again(catalogue, run, entity):
    catalogue.server.fail("GET", "/v2/.*/blobs/.*", status(429, retry_after="1"), 6)
    run(catalogue.references)
    assert all(catalogue.verified(entity).values())


def test_nothing_to_do(run):
    with pytest.raises(ParameterError, match="there are no references"):
        run([])


def test_a_root_hash_is_signed_once_in_a_run(registry, key, options, threads, path, entity):
    asked = []

    class Counting:
        key_spec, certificate_chain = key.key_spec, key.certificate_chain

        def sign(self, message, scheme):
            asked.append(message)
            return key.sign(message, scheme)

    with FleetState(path) as state:
        sign_fleet(state, registry.references, Counting(), options, threads)
    assert len(asked) == len(set(asked)) == len(registry.fetched()) + len(IMAGES)
    assert all(registry.verified(entity).values())


def test_logins_are_in_the_file_that_is_named(registry, run, options, tmp_path):
    server = registry.server
    server.login, server.users = "basic", {"ci": "word"}
    word = base64.b64encode(b"ci:word").decode()
    authfile = tmp_path / "auth.json"
    authfile.write_text(json.dumps({"auths": {server.host: {"auth": word}}}))
    counts, _ = run(registry.references)
    assert counts.unresolved == (0, len(IMAGES))
    access = replace(options.access, authfile=authfile)
    changed = replace(options, access=access, worker_access=access)
    counts, _ = run(registry.references, changed)
    assert counts.images[State.SIGNED] == len(IMAGES)
    authfile.unlink()
    counts, _ = run(registry.references, changed)
    assert counts.unresolved == (0, len(IMAGES))


def test_keys_wait_for_each_other_and_registries_do_not(registry, key, options, threads, path):
    """A key that several threads cannot use, and a registry that takes its time."""
    busy, lock = Counter(), threading.Lock()
    most = Counter()
    planned = threading.Event()

    @contextmanager
    def counted(what):
        with lock:
            busy[what] += 1
            most[what] = max(most[what], busy[what])
        time.sleep(0.2)
        yield
        with lock:
            busy[what] -= 1

    class Slow:
        key_spec, certificate_chain = key.key_spec, key.certificate_chain

        def sign(self, message, scheme):
            with counted("key"):
                return key.sign(message, scheme)

    class Progress(FleetProgress):
        def planned(self, *_):
            planned.set()

    def look(handler):
        pushed = {path.partition("/blobs")[0] for path in registry.server.paths("POST")}
        first = handler.path.partition("/referrers")[0] not in pushed
        with counted("registry") if planned.is_set() and first else nullcontext():
            handler.serve()

    registry.server.fail("GET", "/v2/.*/referrers/.*", look, 999)
    with FleetState(path) as state:
        sign_fleet(state, registry.references, Slow(), options, threads, progress=Progress())
        assert state.counts().images[State.SIGNED] == len(IMAGES)
    registry.server.faults.clear()
    assert most["key"] == 1
    assert most["registry"] > 1


def test_one_digest_with_two_root_hashes_stops_its_image_alone(registry, run, monkeypatch):
    """Nodes convert by the media type: what has two of them may be two devices."""
    store = registry.store("app/a")
    listed = store.resolve("1.0")
    again = replace(listed.layers[0], media_type=f"{listed.layers[0].media_type}+zstd")
    config = json.loads(b"".join(store.fetch(listed.config)))
    config["rootfs"]["diff_ids"].insert(0, config["rootfs"]["diff_ids"][0])
    described = Descriptor.of(json.dumps(config).encode(), listed.config.media_type)
    store.push(described, json.dumps(config).encode())
    store.tag(make_manifest(config=described, layers=[again, *listed.layers]), "1.0")

    def by_media_type(task):
        root_hash = hashlib.sha256(f"{task.digest}{task.media_type}".encode()).digest()
        return LayerOutcome(task.digest, task.diff_id, (root_hash,), 1)

    monkeypatch.setattr(hashing, "run_task", by_media_type)
    counts, images = run(registry.references)
    assert counts.images[State.SIGNED] == len(IMAGES) - 1
    (failed,) = [one for one in images if one.state is State.FAILED]
    assert failed.place.endswith("app/a")
    assert "also the root hash" in failed.reason
