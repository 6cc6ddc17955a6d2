"""Referrers are taken out of a list; what others attach meanwhile stays."""

import threading

import pytest
from images import push_image, push_signature
from real_registries import REAL_REGISTRIES

from dmsign_fast.errors import RegistryError, StorageError
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.manifest import make_index
from dmsign_fast.oci.tag_schema import update_indexes


@pytest.fixture(params=["layout", "api", "tag schema", *REAL_REGISTRIES])
def store(request, tmp_path, serve, connect, real_registry):
    if request.param == "layout":
        return Layout.create(tmp_path / "layout")
    if request.param in REAL_REGISTRIES:
        return connect(real_registry(request.param), "detach/test")
    return connect(serve(referrers=request.param == "api"))


def digests(store, subject):
    return {one.digest for one in store.referrers(subject)}


def attached(store, subject, numbers):
    made = [push_signature(store, subject, number) for number in numbers]
    store.attach(made)
    return [one.referrer for one in made]


def test_only_what_is_named_goes(store):
    image = push_image(store, "v1", seed=7)
    other = push_image(store, "v2", seed=8)
    first, second, third = attached(store, image.descriptor, range(3))
    (elsewhere,) = attached(store, other.descriptor, [9])
    store.detach(image.descriptor, [second])
    assert digests(store, image.descriptor) == {first.digest, third.digest}
    store.detach(image.descriptor, [second, elsewhere])  # neither is there
    assert digests(store, image.descriptor) == {first.digest, third.digest}
    assert digests(store, other.descriptor) == {elsewhere.digest}
    assert store.resolve("v1") == image
    attached(store, image.descriptor, [1])
    assert second.digest in digests(store, image.descriptor)


def test_nothing_refers_to_it(store):
    image = push_image(store, "v1", seed=9)
    (gone,) = [push_signature(store, image.descriptor).referrer]
    store.detach(image.descriptor, [gone])
    assert digests(store, image.descriptor) == set()


def test_what_others_attach_meanwhile_stays(tmp_path):
    layout = Layout.create(tmp_path / "layout")
    subject = push_image(layout, "v1").descriptor
    old = attached(layout, subject, range(20))

    def attach():
        for number in range(100, 120):
            attached(layout, subject, [number])

    thread = threading.Thread(target=attach)
    thread.start()
    for one in old:
        layout.detach(subject, [one])
    thread.join()
    assert len(digests(layout, subject)) == 20
    assert not digests(layout, subject) & {one.digest for one in old}


def test_what_comes_back_is_taken_out_again(tmp_path):
    """Another writer who read the index before us writes it after us."""
    layout = Layout.create(tmp_path / "layout")
    subject = push_image(layout, "v1").descriptor
    gone, stays = attached(layout, subject, range(2))
    indexes = [make_index([gone, stays])]
    stale = indexes[0]

    def write(index, _):
        indexes.append(index)
        if len(indexes) == 2:
            indexes.append(stale)  # by the other

    failed = update_indexes(
        {"tag": ()}, lambda _: indexes[-1], write, 0.01, "shelf", gone={gone.digest}
    )
    assert failed == {}
    assert [one.digest for one in indexes[-1].manifests] == [stays.digest]


@pytest.mark.parametrize("status", [400, 405])
def test_a_registry_that_deletes_nothing(status, serve, connect):
    server = serve(referrers=True)
    store = connect(server)
    subject = push_image(store, "v1").descriptor
    (old,) = attached(store, subject, [0])
    server.deletes = status
    with pytest.raises(RegistryError, match=rf"deletes no manifests \({status}\)"):
        store.detach(subject, [old])
    assert digests(store, subject) == {old.digest}


def test_a_tar_of_a_layout_is_only_read(tmp_path):
    import tarfile

    layout = Layout.create(tmp_path / "layout")
    subject = push_image(layout, "v1").descriptor
    (old,) = attached(layout, subject, [0])
    with tarfile.open(tmp_path / "layout.tar", "w") as tar:
        tar.add(layout.path, ".")
    with Layout(tmp_path / "layout.tar") as packed, pytest.raises(StorageError, match="only read"):
        packed.detach(subject, [old])
