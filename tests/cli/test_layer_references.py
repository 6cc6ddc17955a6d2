"""Layers by reference: blobs of a registry or layout, as files are."""

import json

import pytest
from container_images import push_image, tars
from helpers import cli, write
from oci.conftest import connect, no_logins_of_this_machine, serve  # noqa: F401

from dmsign_fast.oci.layout import Layout


@pytest.fixture(params=["layout", "registry"])
def place(request, tmp_path, serve, connect):  # noqa: F811
    """A store with an image, and what names it on a command line."""
    if request.param == "layout":
        store = Layout.create(tmp_path / "layout")
        return store, ("--oci-layout",), str(store.path)
    server = serve(referrers=True)
    store = connect(server, "test/layers")
    return store, (), str(store)


def test_a_layer_of_a_store_is_hashed_as_a_file(place, tmp_path):
    store, options, name = place
    image = push_image(store, "v1", tars(3))
    files = [
        write(tmp_path / str(number), b"".join(store.fetch(layer)))
        for number, layer in enumerate(image.layers)
    ]
    references = [f"{name}@{layer.digest}" for layer in image.layers]
    digests = [word for layer in image.layers for word in ("--digest", layer.digest)]
    of_files = cli("layer", "roothash", *files, *digests, "--output", "json")
    of_store = cli("layer", "roothash", *references, *options, "--output", "json")
    assert of_files.exit_code == of_store.exit_code == 0, of_store.err
    by_file, by_store = (json.loads(done.out)["layers"] for done in (of_files, of_store))
    assert [one.pop("layer") for one in by_store] == references
    assert [one.pop("layer") for one in by_file] == list(map(str, files))
    assert by_store == by_file
    mixed = cli("layer", "roothash", files[0], references[1], *options)
    assert [line.split()[0] for line in mixed.out.splitlines()] == [
        one["root_hash"] for one in by_file[:2]
    ]


def test_a_layer_of_a_store_that_is_not_what_it_should_be(place, tmp_path):
    store, options, name = place
    image = push_image(store, "v1", tars(2))
    first, second = (f"{name}@{layer.digest}" for layer in image.layers)
    other = cli("layer", "roothash", first, "--digest", image.layers[1].digest, *options)
    assert other.exit_code == 2
    assert f"is not that of {first}" in other.err
    missing = f"{name}@sha256:{'ab' * 32}"
    done = cli("layer", "roothash", missing, *options)
    assert done.exit_code == 4
    assert f"error: {missing}: " in done.err
    short = cli("layer", "roothash", f"{name}@sha256:abcd", *options)
    assert short.exit_code in (2, 3)
    large = cli("layer", "roothash", second, "--max-layer-size", "1000", *options)
    assert large.exit_code == 2
    if options:
        path = store.path / "blobs" / image.layers[0].digest.replace(":", "/")
        path.write_bytes(path.read_bytes()[:-512] + bytes(512)[:511] + b"x")
        done = cli("layer", "roothash", first, *options)
        assert done.exit_code == 1
        assert "the digest is sha256:" in done.err


def test_a_file_with_such_a_name_is_a_file(tmp_path):
    file = write(tmp_path / f"layer@sha256:{'0' * 64}", tars(1)[0])
    done = cli("layer", "roothash", file)
    assert done.exit_code == 0, done.err
