"""``verity explain`` and ``verify --explain``: whose layer a file is."""

import json
import os
import shutil

import pytest
from browser import dom_of, needs_browser
from container_images import push_image, push_index, tars
from helpers import cli, dmsign, flip, write
from pki import pem
from signed_images import ROOT, STRANGER, sign

from dmsign_fast.oci.layout import Layout


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A layout with a signed image of three layers, ``v1``, another, ``v2``, and ``unsigned``."""
    directory = tmp_path_factory.mktemp("whose")
    store = Layout.create(directory / "layout")
    push_image(store, "v1", tars())
    push_image(store, "v2", tars(2, 7))
    push_image(store, "unsigned", tars(1, 9))
    for name in ("v1", "v2"):
        sign(store, name)
    write(directory / "root.pem", pem(ROOT.certificate))
    write(directory / "stranger.pem", pem(STRANGER.root))
    return directory


@pytest.fixture(params=["veritysetup", "containerd"])
def exported(request, place, tmp_path):
    """The image as files: the directory, and what its list says."""
    out = tmp_path / "out"
    done = cli("export", f"{place}/layout:v1", out, "--for", request.param, *trusted(place))
    assert done.exit_code == 0, done.err
    return out, json.loads((out / "layers.json").read_text())


def trusted(place, who="root"):
    return ("--oci-layout", "--trust", place / f"{who}.pem")


def image(place, *names):
    return [word for name in names for word in ("--image", f"{place}/layout:{name}")]


def explained(*words, status=0):
    done = cli("verity", "explain", *words, "--output", "json")
    assert done.exit_code == status, done
    return json.loads(done.out)["layer"]


def test_the_list_of_an_exported_directory(exported):
    out, listing = exported
    for number, layer in enumerate(listing["layers"]):
        found = explained(out / layer["image"], "0")
        assert found == {
            "number": number,
            **{name: layer[name] for name in ("digest", "diff_id", "root_hash")},
            "image": listing["manifest"],
            "listed": str(out / "layers.json"),
        }
    text = cli("verity", "explain", out / layer["image"], "0").out.splitlines()[0]
    assert text == (
        f"layer 2 of {listing['manifest']}: {layer['digest']}, diff ID {layer['diff_id']}, "
        f"root hash {layer['root_hash']}, by {out / 'layers.json'}"
    )


def test_a_signed_image_names_a_file_that_is_elsewhere(exported, place, tmp_path):
    out, listing = exported
    layer = listing["layers"][1]
    alone = tmp_path / "alone" / "device"
    alone.parent.mkdir()
    shutil.copy(out / layer["image"], alone)
    tree = ("--hash-file", out / layer.get("hash_file", layer["image"]))
    tree += ("--hash-offset", layer["hash_offset"])
    assert explained(alone, "0", *tree) is None
    wanted = {
        "number": 1,
        **{name: layer[name] for name in ("digest", "diff_id", "root_hash")},
        "image": f"{place}/layout@{listing['manifest']}",
        "listed": None,
    }
    words = (*image(place, "v2", "v1"), *trusted(place))
    assert explained(alone, "0", *words, *tree) == wanted
    assert explained(alone, "0", *words, "--root-hash", layer["root_hash"]) == wanted
    write(alone.with_name("device.roothash"), layer["root_hash"].encode())
    assert explained(alone, "0", *words) == wanted


def test_no_image_has_it(exported, place):
    out, listing = exported
    path = out / listing["layers"][0]["image"]
    words = (path, "0", "--root-hash", listing["layers"][0]["root_hash"])
    assert explained(*words, *image(place, "v2"), *trusted(place), status=1) is None
    done = cli("verity", "explain", *words, *image(place, "v2"), *trusted(place))
    assert "no layer of" in done.out
    assert "superblock" in done.out, "the rest is said all the same"


@pytest.mark.parametrize(
    ("name", "who", "status", "said"),
    [("unsigned", "root", 7, "no signature"), ("v1", "stranger", 1, "counts")],
)
def test_whose_signature_does_not_count_names_nothing(name, who, status, said, exported, place):
    out, listing = exported
    words = (out / listing["layers"][0]["image"], "0", "--root-hash", "ab" * 32)
    done = cli("verity", "explain", *words, *image(place, name), *trusted(place, who))
    assert done.exit_code == status
    assert said in done.err
    assert done.out == ""


def test_an_index(place, tmp_path):
    store = Layout(place / "layout")
    images = [push_image(store, contents=tars(2, seed)) for seed in (11, 12)]
    push_index(store, "multi", [(images[0], "linux/amd64"), (images[1], "linux/arm64")])
    sign(store, "multi", recursive=True)
    out = tmp_path / "out"
    words = ("--platform", "linux/arm64", *trusted(place))
    assert cli("export", f"{place}/layout:multi", out, *words).exit_code == 0
    root_hash = (out / "layer-1.roothash").read_text()
    words = (*image(place, "multi"), "--recursive", *trusted(place), "--root-hash", root_hash)
    found = explained(out / "layer-1.erofs", "0", *words)
    assert found["number"] == 1
    assert found["image"].endswith(str(images[1].descriptor.digest))


def test_without_a_root_hash_it_says_what_to_give(place, exported, tmp_path):
    out, listing = exported
    alone = tmp_path / "alone"
    shutil.copy(out / listing["layers"][0]["image"], alone)
    done = cli("verity", "explain", alone, *image(place, "v1"), *trusted(place))
    assert done.exit_code == 2
    assert "give --root-hash" in done.err


LISTS = {
    "another program's": '{"layers": "none"}',
    "no JSON": "{",
    "an array": "[]",
    "a layer without a name": '{"manifest": "x", "layers": [{"number": 0}]}',
    "another root hash": None,
}


@pytest.mark.parametrize("what", LISTS)
def test_a_list_that_does_not_fit_says_nothing(what, exported):
    out, listing = exported
    name = listing["layers"][0]["image"]
    text = LISTS[what]
    if text is None:
        listing["layers"][0]["root_hash"] = "ab" * 32
        text = json.dumps(listing)
    write(out / "layers.json", text.encode())
    assert explained(out / name, "0", "--root-hash", "cd" * 32) is None


def test_a_list_that_is_no_file(exported):
    out, listing = exported
    (out / "layers.json").unlink()
    (out / "layers.json").mkdir()
    assert explained(out / listing["layers"][0]["image"], "0") is None


def damaged(place, tmp_path):
    out = tmp_path / "out"
    assert cli("export", f"{place}/layout:v1", out, *trusted(place)).exit_code == 0
    flip(out / "layer-2.erofs", (out / "layer-2.erofs").stat().st_size - 1)
    return out


def test_verify_names_the_layer_of_what_is_bad(place, tmp_path):
    out = damaged(place, tmp_path)
    words = ("verity", "verify", out / "layer-2.erofs", out / "layer-2.verity")
    words += ("--root-hash-file", out / "layer-2.roothash", "--explain")
    done = cli(*words)
    assert done.exit_code == 1
    assert any(line.startswith("layer 2 of sha256:") for line in done.out.splitlines())
    found = json.loads(cli(*words, "--output", "json").out)["explained"]["layer"]
    assert found["number"] == 2
    # the root hash beside the file, and not what the tree gives, is that of the layer
    tree = out / "layer-2.verity"
    flip(tree, 4096)
    words = (out / "layer-2.erofs", "0", "--hash-file", tree)
    assert explained(*words) is None
    shutil.copy(out / "layer-2.roothash", out / "layer-2.erofs.roothash")
    assert explained(*words)["number"] == 2


@needs_browser
def test_the_page_names_the_layer(place, tmp_path):
    out = damaged(place, tmp_path)
    page = tmp_path / "page.html"
    words = (*image(place, "v1"), *trusted(place))
    done = cli("verity", "explain", out / "layer-2.erofs", "0", "--html", page, *words)
    assert done.exit_code == 0, done.err
    dom, console = dom_of(page, "", tmp_path)
    assert console == []
    assert f"<p>layer 2 of {place}/layout@sha256:" in dom.partition("<script>")[0]


@pytest.mark.parametrize("name", ["layers.json", "data.roothash"])
def test_a_pipe_beside_the_image_is_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    data = write(tmp_path / "data", bytes(8192))
    done = dmsign("verity", "explain", data)
    assert "not an EROFS image" in done.out
