"""Signed images as files: what mkfs.erofs, veritysetup and containerd have to say of them."""

import json
import signal
import subprocess
from concurrent.futures import CancelledError

import pytest
from container_images import push_image, push_index, tars
from cryptography.hazmat.primitives.hashes import SHA256
from erofs_layers.twins import filled, image_of, tree_of
from helpers import DMSIGN, on_a_small_disk, veritysetup, wait_until, write
from images import layer as random_layer
from pki import pem
from signed_images import (
    LEAF,
    RECIPE,
    ROOT,
    STRANGER,
    TRUST,
    attach_layers,
    remove,
    sign,
    signatures_of,
)

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import (
    DmsignError,
    ParameterError,
    UnsignedError,
    VerificationError,
)
from dmsign_fast.oci.layout import Layout
from dmsign_fast.pipeline.export import export_layers, find_layers
from dmsign_fast.pipeline.layers import Conversion
from dmsign_fast.pipeline.targets import TARGETS, Kind, target_of
from dmsign_fast.pipeline.verify_image import VerifyOptions
from dmsign_fast.trust.verdict import trust_files

RECIPES = ("containerd", "containerd-tar-index", "containerd-cache")
MISFITS = {
    ("containerd-cache", "containerd"): "sign with --recipe containerd-cache",
    ("containerd-cache", "containerd-tar-index"): "the layout full alone",
    ("systemd", "containerd-tar-index"): "the layout full alone",
}
LAYERS_ALONE = {"manifest_signature": False}


def find(store, reference="v1", target=TARGETS[0], *, trust=TRUST, recipe=RECIPE, **options):
    verify = VerifyOptions(trust=trust, recipe=recipe, **options)
    return find_layers(store, reference, target, verify=verify, recipe=recipe)


def export(store, out, target=TARGETS[0], *, jobs=1, progress=lambda _: None, **options):
    image = find(store, target=target, **options)
    return export_layers(store, image, target, out, Conversion(), jobs=jobs, progress=progress)


def names_below(directory):
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """An image of three layers, signed by each recipe, and what ``sign`` said."""
    made = {}
    for name in RECIPES:
        store = Layout.create(tmp_path_factory.mktemp("image") / "layout")
        push_image(store, "v1", tars())
        made[name] = store, sign(store, "v1", recipe=Recipe.parse(name))[0]
    return made


@pytest.fixture
def out(tmp_path):
    (tmp_path / "place").mkdir()
    return tmp_path / "place" / "out"


# what is written


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mkfs_erofs_and_veritysetup_make_the_same_files(target, recipe, jobs, layouts, out):
    store, signed = layouts[recipe]
    made_by = Recipe.parse(recipe)
    if (target.name, recipe) in MISFITS:
        with pytest.raises(ParameterError, match=MISFITS[target.name, recipe]):
            export(store, out, target)
        assert not out.exists()
        return
    exported = export(store, out, target, jobs=jobs)
    listed = {name for layer in exported.layers for name in layer.files.values()}
    assert set(names_below(out)) == listed | ({"layers.json"} if target.listing else set())
    block = made_by.params.data_block_size
    for layer, was, tar in zip(exported.layers, signed.layers, tars(), strict=True):
        files = {kind: out / name for kind, name in layer.files.items()}
        uuid = made_by.image_uuid(digest=was.digest, diff_id=was.diff_id)
        image = filled(image_of(tar, made_by, uuid), block)
        root_hash, area = tree_of(image, made_by.params)
        assert root_hash == was.root_hash == layer.signature.root_hash
        hash_file = files.get(Kind.HASH_FILE, files[Kind.IMAGE])
        assert layer.hash_offset == (0 if Kind.HASH_FILE in files else len(image))
        begin = layer.hash_offset + made_by.params.hash_block_size
        assert hash_file.read_bytes()[begin:] == area
        assert files[Kind.IMAGE].read_bytes()[: len(image)] == image
        done = veritysetup(
            *("verify", files[Kind.IMAGE], hash_file, root_hash.hex()),
            *(("--hash-offset", layer.hash_offset) if layer.hash_offset else ()),
        )
        assert done.exit_code == 0, done


def test_each_target_has_the_names_of_its_reader(layouts, tmp_path):
    store, signed = layouts["containerd-cache"]
    found = {}
    for target in TARGETS:
        export(store, tmp_path / target.name, target)
        found[target.name] = names_below(tmp_path / target.name)
    assert found["veritysetup"] == sorted(
        ["layers.json"]
        + [
            f"layer-{number}.{suffix}"
            for number in range(3)
            for suffix in ("erofs", "verity", "roothash", "roothash.p7s")
        ]
    )
    assert found["containerd"] == sorted(
        ["layers.json"]
        + [
            f"{number}/layer.erofs{suffix}"
            for number in range(3)
            for suffix in ("", ".dmverity", ".sig")
        ]
    )
    hexes = [one.diff_id.removeprefix("sha256:") for one in signed.layers]
    assert found["containerd-cache"] == sorted(
        f"sha256/{one[:2]}/{one}.erofs{suffix}" for one in hexes for suffix in ("", ".dmverity")
    )
    assert {name for name in found["systemd"] if name.startswith("layer-1.")} == {
        f"layer-1.{suffix}"
        for suffix in ("raw", "verity", "roothash", "roothash.p7s", "verity-sig.json")
    }


def test_small_files_say_what_the_artifact_says(layouts, tmp_path):
    store, signed = layouts["containerd"]
    by_digest = {one.digest: one for one in signed.layers}
    for name in ("containerd", "veritysetup", "systemd"):
        exported = export(store, tmp_path / name, target_of(name))
        for layer in exported.layers:
            read = {kind: (tmp_path / name / one).read_bytes() for kind, one in layer.files.items()}
            root_hash = by_digest[layer.layer.descriptor.digest].root_hash.hex()
            assert read[Kind.SIGNATURE] == layer.signature.signature
            assert read.get(Kind.ROOT_HASH, root_hash.encode()) == root_hash.encode()
            if Kind.SIDECAR in read:
                known = json.loads(read[Kind.SIDECAR])
                assert known == {"roothash": root_hash, "hashoffset": layer.hash_offset}
    listed = json.loads((tmp_path / "systemd" / "layers.json").read_text())
    assert listed == exported.json
    assert [one["digest"] for one in listed["layers"]] == [one.digest for one in signed.layers]
    assert listed["verified"] is True
    assert listed["layers"][2]["image"] == "layer-2.raw"


@pytest.mark.parametrize("verified", [True, False])
@pytest.mark.parametrize("certificates", [True, False])
def test_the_fingerprint_is_the_signers(certificates, verified, tmp_path):
    store = Layout.create(tmp_path / "layout")
    push_image(store, "v1", tars(1))
    trust = TRUST
    if not certificates:
        trust = trust_files(TrustAnchors(LEAF.chain))
    sign(store, "v1", certificates=certificates)
    verify = VerifyOptions(trust=trust, recipe=RECIPE) if verified else None
    image = find_layers(store, "v1", target_of("systemd"), verify=verify, recipe=RECIPE)
    export_layers(store, image, target_of("systemd"), tmp_path / "out", Conversion())
    known = json.loads((tmp_path / "out/layer-0.verity-sig.json").read_text())
    print_of_leaf = LEAF.certificate.fingerprint(SHA256()).hex()
    wanted = print_of_leaf if certificates or verified else None
    assert known.get("certificateFingerprint") == wanted


def test_a_layer_that_an_image_has_twice(tmp_path):
    store = Layout.create(tmp_path / "layout")
    push_image(store, "v1", [tars(1)[0], tars(2)[1], tars(1)[0]])
    sign(store, "v1", recipe=Recipe.parse("containerd-cache"))
    apart = export(store, tmp_path / "apart")
    assert [one.number for one in apart.layers] == [0, 1, 2]
    cache = export(store, tmp_path / "cache", target_of("containerd-cache"))
    # the third is the first, compressed
    assert [one.number for one in cache.layers] == [0, 1]
    assert len(names_below(tmp_path / "cache")) == 4


# which artifact


def test_the_newest_artifact_that_fits_is_taken(tmp_path):
    store = Layout.create(tmp_path / "layout")
    image = push_image(store, "v1", tars(2))
    cached = Recipe.parse("containerd-cache")
    first = sign(store, "v1", recipe=cached, **LAYERS_ALONE)[0]
    second = sign(store, "v1", forms=("osguard",), **LAYERS_ALONE)[0]
    assert first.layers[1].root_hash != second.layers[1].root_hash
    found = find(store, target=target_of("containerd-cache"), **LAYERS_ALONE)
    assert found.recipe == cached
    assert found.manifest.descriptor == image.descriptor
    by_form = find_layers(
        store,
        "v1",
        TARGETS[0],
        verify=VerifyOptions(trust=TRUST, recipe=RECIPE, **LAYERS_ALONE),
        recipe=RECIPE,
        forms=("osguard",),
    )
    assert by_form.recipe == RECIPE


def test_an_index_wants_a_choice(tmp_path, out):
    store = Layout.create(tmp_path / "layout")
    manifests = [push_image(store, contents=tars(1, seed), seed=seed) for seed in (1, 2)]
    push_index(store, "v1", [(manifests[0], "linux/amd64"), (manifests[1], "linux/arm64")])
    sign(store, "v1", recursive=True)
    with pytest.raises(ParameterError, match="--platform"):
        export(store, out)
    verify = VerifyOptions(trust=TRUST, recipe=RECIPE)
    found = find_layers(
        store, "v1", TARGETS[0], verify=verify, recipe=RECIPE, platform="linux/arm64"
    )
    assert found.manifest.descriptor.digest == manifests[1].descriptor.digest


# what is refused: nothing is left


def assert_nothing(out):
    assert not list(out.parent.iterdir())


def test_a_directory_that_exists_stays_as_it_is(layouts, out):
    store, _ = layouts["containerd"]
    out.mkdir()
    write(out / "mine", b"mine")
    with pytest.raises(ParameterError, match="out exists"):
        export(store, out)
    assert names_below(out.parent) == ["out/mine"]


def test_signatures_that_do_not_count(signed, out):
    store, _ = signed
    with pytest.raises(VerificationError, match="is valid and trusted"):
        export(store, out, trust=trust_in(STRANGER))
    assert_nothing(out)
    empty = Layout.create(out.parent / "layout")
    push_image(empty, "v1", tars(1))
    for verify in (VerifyOptions(trust=TRUST, recipe=RECIPE), None):
        with pytest.raises(UnsignedError, match="has no"):
            find_layers(empty, "v1", TARGETS[0], verify=verify, recipe=RECIPE)


def trust_in(entity):
    return trust_files(TrustAnchors((entity.root,)))


def test_a_root_hash_of_another_recipe(tmp_path, out):
    """The signature is good, but the recipe that the artifact records makes another image."""
    store = Layout.create(tmp_path / "layout")
    manifest = push_image(store, "v1", tars(2))
    signed = sign(store, "v1", **LAYERS_ALONE)[0]
    remove(store, *store.referrers(manifest.descriptor))
    other = Recipe.parse("osguard")
    attach_layers(store, manifest.descriptor, signatures_of(signed), recipe=other)
    with pytest.raises(VerificationError, match=r"gives the root hash .* is signed"):
        export(store, out, **LAYERS_ALONE)
    assert_nothing(out)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_damaged_layer(jobs, signed, out):
    store, image = signed
    path = store.path / "blobs" / image.layers[-1].digest.replace(":", "/")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DmsignError):
        export(store, out, jobs=jobs)
    assert_nothing(out)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, CancelledError])
def test_an_interruption(error, signed, out):
    store, _ = signed
    seen = []

    def progress(size):
        seen.append(size)
        if len(seen) == 3:
            raise error

    with pytest.raises(error):
        export(store, out, progress=progress)
    assert_nothing(out)


@pytest.fixture
def large(tmp_path):
    """A layout with an image of 3 MB, and its trust anchor."""
    store = Layout.create(tmp_path / "layout")
    push_image(store, "v1", [random_layer(1_500_000, seed) for seed in (1, 2)])
    sign(store, "v1")
    anchor = write(tmp_path / "root.pem", pem(ROOT.certificate))
    return ("--oci-layout", f"{store.path}:v1", "--trust", anchor, "--quiet")


@pytest.mark.parametrize("target", ["veritysetup", "containerd"])
@pytest.mark.parametrize("room", ["100k", "1600k", "2900k"])
def test_a_full_file_system(room, target, large, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ("export", *large, disk / "x", "--for", target)
    done = on_a_small_disk(disk, room, *DMSIGN, *command)
    assert done.exit_code == 4, done
    assert f"{disk}/x: cannot write" in done.err
    assert "No space left on device" in done.err
    assert len(done.err.splitlines()) == 1
    assert done.out == ""


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal(number, jobs, large, out):
    command = [*DMSIGN, "export", *map(str, large), str(out), "--jobs", jobs]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until(
            lambda: list(out.parent.glob("*/layer-0.erofs")) or process.poll() is not None, "a file"
        )
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    if process.returncode == 0:  # it was quicker
        assert out.exists()
        return
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert_nothing(out)
