"""What whoever carries the directory may do to it: attach refuses, and never waits."""

import os
import socket
from pathlib import Path

import pytest
from container_images import push_image, push_index, tars
from offline_requests import attach, prepare, record, sign_all

from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import FormatError, ParameterError, SigningError


@pytest.fixture
def carried(home, leaf, tmp_path):
    """A directory with all its signatures."""
    push_image(home.store, "v1", tars(2))
    prepare(home, leaf, tmp_path / "to-sign")
    sign_all(tmp_path / "to-sign", leaf)
    return tmp_path / "to-sign"


def fifo(path):
    os.mkfifo(path)


def link(path):
    path.symlink_to("/etc/passwd")


def link_to_device(path):
    path.symlink_to("/dev/zero")


def link_within(path):
    (path.parent / "elsewhere").write_bytes(b"x")
    path.symlink_to("elsewhere")


def device(path):
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # zeros without an end


def listening(path):
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket is short
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


def directory(path):
    path.mkdir()


FILES = ("manifest.json", "chain.pem", "root-hash-1.txt", "root-hash-1.txt.sig", "notary-1.bin.sig")
KINDS = [fifo, link, link_to_device, link_within, listening, directory]


@pytest.mark.parametrize("make", [*KINDS, device], ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file(name, make, carried, home):
    before = home.contents
    (carried / name).unlink()
    try:
        make(carried / name)
    except PermissionError:
        assert make is device  # for root alone
        return
    with pytest.raises(SigningError, match="not a regular file"):
        attach(home, carried)
    assert home.contents == before


@pytest.mark.parametrize("make", KINDS, ids=lambda one: one.__name__)
def test_blobs_too(make, home, leaf, tmp_path):
    """Those of the form that a node opens as it is."""
    image = push_image(home.store, "v1", tars(1))
    carried = tmp_path / "to-sign"
    prepare(home, leaf, carried, forms=("acl",), recipe=Recipe.parse("containerd-tar-index"))
    sign_all(carried, leaf)
    blob = next(carried.glob("*.blob"))
    blob.unlink()
    make(blob)
    with pytest.raises(SigningError, match="not a regular file"):
        attach(home, carried)
    assert home.store.referrers(image.descriptor) == []


@pytest.mark.parametrize("name", FILES)
def test_what_is_too_large(name, carried, home):
    with (carried / name).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FormatError, match="has more than"):
        attach(home, carried)


@pytest.mark.parametrize("name", ["signing_time", "expiry"])
@pytest.mark.parametrize(
    "text",
    ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-01-01T00:00:00", "x", ""],
)
def test_times_that_are_none(name, text, carried, home):
    before = home.contents
    record(lambda value: value["made"]["options"].update({name: text}))(carried)
    with pytest.raises(FormatError, match=name):
        attach(home, carried)
    assert home.contents == before


def leave_out_the_manifest(value):
    value["to_sign"] = [one for one in value["to_sign"] if one["file"].startswith("root")]
    value["made"]["options"]["manifest_signature"] = False


def exchange(value):
    first, second = value["made"]["images"][0]["layers"]
    first["root_hash"], second["root_hash"] = second["root_hash"], first["root_hash"]


@pytest.mark.parametrize("more", [lambda _: None, exchange])
def test_the_signature_of_the_manifest_left_out(more, carried, home):
    """With it goes what binds layers to root hashes, which can then be exchanged."""
    before = home.contents
    record(leave_out_the_manifest)(carried)
    record(more)(carried)
    for file in carried.glob("notary-*"):
        file.unlink()
    with pytest.raises(SigningError, match="no Notary Project signature"):
        attach(home, carried)
    assert home.contents == before


def test_what_prepare_left_out_must_be_said_again(home, leaf, tmp_path, carried):
    with pytest.raises(ParameterError, match="attach it too"):
        attach(home, carried, manifest_signature=False)
    prepare(home, leaf, tmp_path / "layers", manifest_signature=False)
    sign_all(tmp_path / "layers", leaf)
    with pytest.raises(SigningError, match="give --no-manifest-signature"):
        attach(home, tmp_path / "layers")
    (signed,) = attach(home, tmp_path / "layers", manifest_signature=False)
    assert signed.notary is None


def test_all_left_out(carried, home):
    def change(value):
        value["to_sign"] = []
        value["made"]["images"] = []

    record(change)(carried)
    with pytest.raises(FormatError, match="nothing was prepared"):
        attach(home, carried)


def test_an_image_of_an_index_left_out_is_not_seen(home, leaf, tmp_path):
    """docs/two-steps.md: verify --recursive sees it."""
    one, two = (push_image(home.store, contents=tars(1, seed)) for seed in (1, 2))
    push_index(home.store, "v1", [(one, "linux/amd64"), (two, "linux/arm64")])
    carried = tmp_path / "to-sign"
    prepare(home, leaf, carried, recursive=True)
    sign_all(carried, leaf)

    def change(value):
        value["made"]["images"] = value["made"]["images"][:1]
        value["to_sign"] = [one for one in value["to_sign"] if "-1." in one["file"]]

    record(change)(carried)
    assert len(attach(home, carried)) == 1


def test_a_file_twice(carried, home):
    record(lambda value: value["to_sign"].append(value["to_sign"][0]))(carried)
    with pytest.raises(FormatError, match="names a file twice"):
        attach(home, carried)
