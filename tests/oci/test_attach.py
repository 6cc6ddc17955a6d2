"""Many attach to one image at the same time, and some are killed: nothing else is lost."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import run, wait_until
from images import push_image, push_signature
from real_registries import REAL_REGISTRIES

from dmsign_fast.errors import RegistryError
from dmsign_fast.oci.descriptor import Descriptor
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.manifest import OCI_MANIFEST, make_index
from dmsign_fast.oci.tag_schema import update_indexes

# WRITERS processes, each of which attaches COUNT times two manifests to an image that is there.
ATTACHER = """
import os, sys
from pathlib import Path
place, writers, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sys.path[:0] = sys.argv[4:]
import oras.provider
from images import push_signature
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.reference import RegistryReference
from dmsign_fast.oci.registry import Registry
from dmsign_fast.oci.transport import Connection

def attach(first):
    if place[0] == "/":
        store = Layout(Path(place))
    else:
        store = Registry(RegistryReference.parse(place), Connection(settle=0.5))
    with store:
        subject = store.resolve("v1").descriptor
        for number in range(first, first + 2 * count, 2):
            pair = [push_signature(store, subject, one) for one in (number, number + 1)]
            store.attach(pair)
            print(number, flush=True)

if writers == 1:
    attach(0)
    sys.exit()
children = []
for writer in range(writers):
    child = os.fork()
    if not child:
        attach(100 * writer)
        os._exit(0)
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""
PATHS = [path for path in sys.path if path.endswith(("tests", "tests/oci", "src"))]


def attacher(place, writers, count):
    return [sys.executable, "-c", ATTACHER, str(place), str(writers), str(count), *PATHS]


def attach_from_eight(place):
    done = run(*attacher(place, 8, 1))
    assert done.exit_code == 0, done.err
    return {str(100 * one + two) for one in range(8) for two in (0, 1)}


def attach_for_ever(place):
    return subprocess.Popen(attacher(place, 1, 10_000), stdout=subprocess.PIPE, text=True)


def numbers(store, subject):
    return {one.annotations["number"] for one in store.referrers(subject.descriptor)}


def test_eight_at_once_on_a_layout(layout_path):
    layout = Layout.create(layout_path)
    image = push_image(layout, "v1")
    assert numbers(layout, image) == set()
    assert attach_from_eight(layout_path) == numbers(layout, image)
    assert layout.resolve("v1") == image


# olareg forgets some of what is pushed at once, after it has listed it (docs/registries.md)
def test_eight_at_once_on_docker_registry(real_registry, connect):
    registry = connect(real_registry("docker-registry"), "test/eight")
    image = push_image(registry, "v1")
    assert attach_from_eight(registry) == numbers(registry, image)


@pytest.mark.parametrize("referrers", [True, False])
def test_eight_at_once_on_our_registry(serve, connect, referrers):
    server = serve(referrers=referrers)
    registry = connect(server)
    image = push_image(registry, "v1")
    assert attach_from_eight(registry) == numbers(registry, image)
    indexed = image.descriptor.digest.referrers_tag in server.repository("app/web").tags
    assert indexed is not referrers


def test_eight_threads_make_one_layout(layout_path):
    def attach(number):
        layout = Layout.create(layout_path)
        image = push_image(layout, "v1")
        layout.attach([push_signature(layout, image.descriptor, number)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attach, range(16)))
    layout = Layout(layout_path)
    assert numbers(layout, layout.resolve("v1")) == {str(number) for number in range(16)}


@pytest.mark.parametrize("delay", [0, 0.003, 0.01, 0.02, 0.05])
def test_a_layout_outlives_sigkill(layout_path, delay):
    layout = Layout.create(layout_path)
    image = push_image(layout, "v1")
    with attach_for_ever(layout_path) as process:
        told = [int(process.stdout.readline()) for _ in range(2)]
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout if line.endswith("\n")]
    there = numbers(layout, image)
    assert {str(number + one) for number in told for one in (0, 1)} <= there
    assert len(there) % 2 == 0  # both of a pair or neither
    after = push_signature(layout, image.descriptor, -1)
    layout.attach([after])  # the lock is free
    assert numbers(layout, image) == there | {"-1"}
    assert layout.resolve("v1") == image


@pytest.mark.parametrize("name", REAL_REGISTRIES)
def test_what_is_in_a_registry_outlives_sigkill(name, real_registry, connect):
    registry = connect(real_registry(name), "test/kill")
    image = push_image(registry, "v1")
    with attach_for_ever(registry) as killed:
        wait_until(lambda: numbers(registry, image), "the first pair")
        killed.send_signal(signal.SIGKILL)
    there = numbers(registry, image)
    registry.attach([push_signature(registry, image.descriptor, -1)])
    assert numbers(registry, image) == there | {"-1"}


def test_two_manifests_are_one_write_of_the_index(serve, connect):
    server = serve(referrers=False)
    registry = connect(server)
    image = push_image(registry, "v1")
    pair = [push_signature(registry, image.descriptor, number) for number in (1, 2)]
    registry.attach(pair)
    tag = image.descriptor.digest.referrers_tag
    assert [path for path in server.paths("PUT") if path.endswith(tag)] == [
        f"/v2/app/web/manifests/{tag}"
    ]


def test_entries_of_others_stay_as_they_were(serve, connect):
    server = serve(referrers=False)
    registry = connect(server)
    image = push_image(registry, "v1")
    foreign = push_signature(registry, image.descriptor, 1)
    registry.push(foreign.descriptor, foreign.raw)
    entry = foreign.descriptor.to_json() | {"x-odd": [1], "annotations": {"z": "1", "a": "2"}}
    value = {"schemaVersion": 2, "manifests": [entry], "annotations": {"own": "1"}, "x": {"y": 1}}
    raw = json.dumps(value).encode()
    tag = image.descriptor.digest.referrers_tag
    kind = "application/vnd.oci.image.index.v1+json"
    digest = Descriptor.of(raw, kind).digest
    repository = server.repository("app/web")
    repository.manifests[digest], repository.tags[tag] = (kind, raw), digest
    mine = push_signature(registry, image.descriptor, 2)
    registry.attach([mine])
    now = json.loads(repository.manifests[repository.tags[tag]][1])
    assert now == value | {"manifests": [entry, mine.referrer.to_json()]}


def test_a_referrer_that_the_registry_loses_is_pushed_again(serve, connect):
    server = serve()
    registry = connect(server, settle=0.02, tries=3)
    image = push_image(registry, "v1")
    signature = push_signature(registry, image.descriptor)

    def loses(handler):
        manifests = server.repository("app/web").manifests
        handler.serve()
        del manifests[signature.descriptor.digest]

    server.fail("PUT", "/manifests/", loses)
    registry.attach([signature])
    assert registry.referrers(image.descriptor) == [signature.referrer]
    del server.repository("app/web").manifests[signature.descriptor.digest]
    server.fail("PUT", "/manifests/", loses, times=99)
    with pytest.raises(RegistryError, match="does not list it as a referrer"):
        registry.attach([signature])


# a registry in memory whose other writers are as bad as can be


class Shelf:
    def __init__(self, undo=0):
        self.index, self.undo, self.writes = None, undo, 0

    def read(self):
        return self.index

    def write(self, index):
        self.writes += 1
        self.index = index
        if self.undo:  # somebody who read before us writes after us
            self.undo -= 1
            other = Descriptor.of(b"other %d" % self.undo, OCI_MANIFEST)
            self.index = make_index([other])


def update(shelf, mine, settle, read=None):
    read = read or shelf.read
    failed = update_indexes(
        {"tag": mine}, lambda _: read(), lambda index, _: shelf.write(index), settle, "shelf"
    )
    if failed:
        raise failed["tag"]


MINE = [Descriptor.of(b"mine %d" % number, OCI_MANIFEST) for number in (1, 2)]


@pytest.mark.parametrize("undo", [0, 1, 5])
def test_what_others_undo_is_done_again(undo):
    shelf = Shelf(undo)
    update(shelf, MINE, 0.01)
    assert shelf.index.manifests[-2:] == tuple(MINE)
    assert len(shelf.index.manifests) == 2 + (undo > 0)
    assert shelf.writes == undo + 1


def test_what_others_undo_for_ever_is_an_error():
    shelf = Shelf(10_000)
    with pytest.raises(RegistryError, match="shelf:tag: other programs removed our referrers"):
        update(shelf, MINE, 0.001)


def test_what_is_listed_is_not_written():
    shelf = Shelf()
    shelf.index = make_index(MINE)
    update(shelf, MINE[:1], 0.01)
    assert shelf.writes == 0


def test_writers_that_all_read_first_lose_nothing():
    shelf, gate = Shelf(), threading.Barrier(8)
    rounds = threading.local()

    def read():
        index = shelf.index
        if not getattr(rounds, "begun", False):
            rounds.begun = True
            gate.wait()  # all have read the empty index before anyone writes
        return index

    def attach(number):
        mine = [Descriptor.of(b"%d" % number, OCI_MANIFEST)]
        update(shelf, mine, 0.05, read)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attach, range(8)))
    assert len(shelf.index.manifests) == 8


@pytest.mark.parametrize("undo", [0, 3])
def test_only_who_lost_to_another_waits_longer_than_it_must(undo, monkeypatch):
    """So that several who lost to one do not look again at the same time."""
    spread, pauses = [], []
    monkeypatch.setattr(random, "uniform", lambda *bounds: spread.append(bounds) or bounds[1])
    monkeypatch.setattr(time, "sleep", pauses.append)
    update(Shelf(undo), MINE, 10.0)
    assert len(pauses) == undo + 1
    assert 9 < pauses[0] <= 10
    assert all(14 < pause <= 15 for pause in pauses[1:])
    assert len(spread) == undo + 1  # also for the look that finds all there
