"""What docker save makes, given for a layout or a layer, and layouts whose names are whole ones."""

import io
import json
import os
import subprocess
import tarfile

import pytest
from helpers import cli, program, write
from images import push_image

from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.oci.archives import check_is_layer
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.reference import LayoutReference


@pytest.fixture
def layout(tmp_path):
    layout = Layout.create(tmp_path / "layout")
    push_image(layout, "v1")
    return layout


def skopeo(*words):
    subprocess.run([program("skopeo"), "copy", "-q", *map(str, words)], check=True)


@pytest.fixture
def saved(layout, tmp_path):
    """As skopeo writes an image for docker load."""
    skopeo(f"oci:{layout.path}:v1", f"docker-archive:{tmp_path / 'save.tar'}:docker.io/library/a:1")
    return tmp_path / "save.tar"


def test_docker_save_is_no_layout_and_the_advice_makes_one(saved, tmp_path):
    done = cli("inspect", "--oci-layout", f"{saved}:1")
    assert done.exit_code == 4
    assert f"skopeo copy docker-archive:{saved} oci:DIR:TAG" in done.err
    skopeo(f"docker-archive:{saved}", f"oci:{tmp_path / 'made'}:1")
    done = cli("inspect", "--oci-layout", f"{tmp_path / 'made'}:1")
    assert done.exit_code == 0, done.err


def test_nor_is_it_when_it_is_unpacked(saved, tmp_path):
    with tarfile.open(saved) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    done = cli("verify", "--oci-layout", f"{tmp_path / 'unpacked'}:1", "--scope", "local/a")
    assert done.exit_code == 4
    done = cli("inspect", "--oci-layout", f"{tmp_path / 'unpacked'}:1")
    assert f"tar -C {tmp_path / 'unpacked'} -cf FILE . && skopeo copy docker-arch" in done.err


@pytest.mark.parametrize("command", ["roothash", "convert"])
def test_docker_save_is_no_layer(command, saved, tmp_path):
    words = ["layer", command, saved]
    done = cli(*words, *(("--out", tmp_path / "out") if command == "convert" else ()))
    assert done.exit_code == 3, done
    assert f"{saved} is no layer but an archive of 'docker save': skopeo copy" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("root", [".", "oci-layout"])
def test_the_tar_of_a_layout_is_no_layer(root, layout, tmp_path):
    with tarfile.open(tmp_path / "layout.tar", "w") as tar:
        if root != ".":
            tar.add(layout.path / root, root)
        tar.add(layout.path, ".")
    done = cli("layer", "roothash", tmp_path / "layout.tar")
    assert done.exit_code == 3
    assert "no layer but the tar of an OCI image layout" in done.err
    assert f"skopeo inspect oci-archive:{tmp_path / 'layout.tar'} shows the digests" in done.err
    done = cli("layer", "roothash", layout.path)
    assert (done.exit_code, f"skopeo inspect oci:{layout.path} shows" in done.err) == (3, True)
    shown = subprocess.run(
        [program("skopeo"), "inspect", f"oci:{layout.path}:v1"], capture_output=True, check=True
    ).stdout
    (digest,) = json.loads(shown)["Layers"]
    done = cli("layer", "roothash", "--oci-layout", f"{layout.path}@{digest}")
    assert done.exit_code == 0, done.err
    done = cli("layer", "roothash", "--oci-layout", f"{layout.path}:v1")
    assert (done.exit_code, "named by its digest, NAME@sha256:..." in done.err) == (4, True)
    done = cli("inspect", f"{layout.path}:v1")
    assert (done.exit_code, "or give --oci-layout, if it is" in done.err) == (2, True), done.err
    done = cli("inspect", "app:v1")
    assert (done.exit_code, "--oci-layout" in done.err) == (2, False), done.err


def tar_of(path, **members):
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[]",
        b'[{"Layers": "a", "Config": "b"}]',
        b'[{"Layers": []}]',
        b"[" * 5000,
        b"\xff\xfe",
        json.dumps([["Layers", "Config"]]).encode(),
    ],
)
def test_a_layer_may_have_a_file_of_that_name(data, tmp_path):
    check_is_layer(tar_of(tmp_path / "a", **{"manifest.json": data, "b": b""}))
    good = b'[{"Layers": [], "Config": ""}]'
    with pytest.raises(FormatError, match="docker save"):
        check_is_layer(tar_of(tmp_path / "b", **{"manifest.json": good}))
    # a manifest that stands lower is a file like any other
    check_is_layer(tar_of(tmp_path / "c", **{"manifest.json/x": good}))


def test_only_a_bounded_part_of_a_tar_is_looked_at(tmp_path):
    good = b'[{"Layers": [], "Config": ""}]'
    many = {f"blobs/{number}": b"" for number in range(1001)}
    check_is_layer(tar_of(tmp_path / "a", **many, **{"manifest.json": good}))


def test_a_pipe_is_not_looked_at(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    check_is_layer(tmp_path / "pipe")


def test_names_of_a_layout_are_listed_where_none_is_named(layout):
    layout.tag(layout.resolve("v1"), "docker.io/library/app:1.0")
    names = "it has 'v1', 'docker.io/library/app:1.0'"
    done = cli("inspect", "--oci-layout", layout.path)
    assert (done.exit_code, names in done.err) == (2, True), done.err
    for tag in ("1.0", "docker.io/library/app", "docker.io/library/app:2"):
        done = cli("inspect", "--oci-layout", f"{layout.path}:{tag}")
        assert (done.exit_code, f"there is no tag {tag} in" in done.err) == (4, True), done.err
        assert names in done.err
    done = cli("inspect", "--oci-layout", f"{layout.path}:docker.io/library/app:1.0")
    assert done.exit_code == 0, done.err
    with pytest.raises(ParameterError, match="names no image"):
        layout.wanted(LayoutReference(layout.path))


def test_linked_blobs_are_refused(layout, tmp_path):
    blob = next((layout.path / "blobs/sha256").iterdir())
    write(tmp_path / "blob", blob.read_bytes())
    blob.unlink()
    blob.symlink_to(tmp_path / "blob")
    descriptor = f"sha256:{blob.name}"
    done = cli("layer", "roothash", "--oci-layout", f"{layout.path}@{descriptor}")
    assert done.exit_code == 4
    assert "is a symbolic link, and links are refused" in done.err
    assert f"cp -rL {layout.path} DIR" in done.err


@pytest.mark.parametrize("name", ["a" * 5000, f"{'a' * 300}/b:v1", "a\0b:v1", f"x:{'y/' * 2000}z"])
@pytest.mark.parametrize("options", [(), ("--oci-layout",)])
def test_a_name_that_no_file_can_have(name, options):
    done = cli("inspect", name, *options)
    assert done.exit_code in (2, 4), done.err
    assert "a bug" not in done.err


@pytest.mark.parametrize("name", ["a" * 5000, f"{'a' * 300}:v1"])
def test_a_layer_of_such_a_name(name):
    done = cli("layer", "roothash", name)
    assert done.exit_code == 4, done.err
