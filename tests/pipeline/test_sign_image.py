"""Images signed in layouts and registries, before openssl, mkfs.erofs and ourselves."""

import _thread
import io
import json
import sys
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from container_images import (
    Home,
    push_artifact,
    push_attestation,
    push_image,
    push_index,
    tars,
)
from erofs import mkfs_twin
from helpers import run, veritysetup, wait_until
from helpers_pkcs7 import OpenSSL, signer_of
from pki import DAY, KEY_SPECS, NOW, make_expired_leaf, make_intermediate, make_leaf, make_root
from real_registries import REAL_REGISTRIES
from registry_server import hang_up, status

from dmsign_fast.envelope.media import FORMATS
from dmsign_fast.envelope.notary import check_envelope, parse_envelope, sign_manifest
from dmsign_fast.envelope.pkcs7 import verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.erofs.recipe import RECIPES, Recipe
from dmsign_fast.errors import (
    DmsignError,
    FormatError,
    NotFoundError,
    ParameterError,
    RegistryError,
    SigningError,
    VerificationError,
)
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.manifest import EMPTY_JSON, make_manifest
from dmsign_fast.pipeline import image as image_module
from dmsign_fast.pipeline.artifact import (
    FORMS,
    NOTARY_TYPE,
    LayerSignature,
    form_of,
    make_dm_verity,
    make_notary,
    read_dm_verity,
    recipe_of,
)
from dmsign_fast.pipeline.jobs import run_all
from dmsign_fast.pipeline.layers import Expected, hash_layer
from dmsign_fast.pipeline.sign_image import SignOptions, sign_image
from dmsign_fast.signing.local import LocalSigner

RECIPE = Recipe.parse("containerd")
ALGORITHMS = dict(
    zip(KEY_SPECS, ("PS256", "PS384", "PS512", "ES256", "ES384", "ES512"), strict=True)
)
DM_VERITY_TYPES = [form.artifact_type for form in FORMS]
homes = pytest.mark.parametrize("kind", ["layout", "api", "tag schema", *REAL_REGISTRIES])
ours = pytest.mark.parametrize("kind", ["layout", "api", "tag schema"])


@pytest.fixture(scope="module")
def leaf():
    return make_leaf(make_intermediate(make_root()))


@pytest.fixture
def home(tmp_path):
    return Home(Layout.create(tmp_path / "layout"))


def sign(home, leaf, reference="v1", **options):
    return sign_image(
        home.store, reference, signer_of(leaf), SignOptions(**{"recipe": RECIPE} | options)
    )


def referrers(home, manifest):
    """The referrers of a manifest by type; every blob of each is there and right."""
    found = {}
    for descriptor in home.store.referrers(manifest.descriptor):
        referrer = home.store.fetch_manifest(descriptor)
        for blob in (referrer.config, *referrer.layers):
            assert len(home.read(blob)) == blob.size  # and of its digest, or it would not come
        assert referrer.subject == manifest.descriptor
        assert descriptor.artifact_type == referrer.referrer.artifact_type
        found.setdefault(descriptor.artifact_type, []).append(referrer)
    return found


def root_hash_of(home, layer, diff_id, recipe=RECIPE):
    """What ``layer roothash`` says of a layer."""
    known = Expected(digest=layer.digest, diff_id=diff_id, media_type=layer.media_type)
    return hash_layer(io.BytesIO(home.read(layer)), recipe, known).image.root_hash


def root_hashes_of(home, manifest, recipe=RECIPE):
    diff_ids = json.loads(home.read(manifest.config))["rootfs"]["diff_ids"]
    pairs = zip(manifest.layers, diff_ids, strict=True)
    return [root_hash_of(home, layer, diff_id, recipe) for layer, diff_id in pairs]


def envelope_of(home, notary, target, media_type="application/jose+json"):
    (layer,) = notary.layers
    assert layer.media_type == media_type
    envelope = parse_envelope(home.read(layer), media_type)
    check_envelope(envelope, target=target.descriptor.to_json())
    return envelope


# what there is afterwards


@homes
def test_both_artifacts_are_there_and_whole(kind, make_home, leaf, tmp_path):
    home = make_home(kind)
    image = push_image(home.store, "v1")
    (signed,) = sign(home, leaf)
    found = referrers(home, image)
    assert found.keys() == {NOTARY_TYPE, DM_VERITY_TYPES[0]}
    (dm_verity,), (notary,) = found[DM_VERITY_TYPES[0]], found[NOTARY_TYPE]
    assert signed.manifest == image.descriptor
    assert (signed.dm_verity, signed.notary) == (dm_verity.descriptor, notary.descriptor)
    assert signed.added == (dm_verity.descriptor, notary.descriptor)
    assert home.store.resolve("v1") == image

    root_hashes = root_hashes_of(home, image)
    assert [layer.image.root_hash for layer in signed.layers] == root_hashes
    digests = [layer.digest for layer in image.layers]
    signatures = [
        LayerSignature(digest, root_hash, home.read(blob))
        for digest, root_hash, blob in zip(digests, root_hashes, dm_verity.layers, strict=True)
    ]
    again = make_dm_verity(form_of("notation"), image.descriptor, signatures, RECIPE)
    assert dm_verity.raw == again.manifest.raw  # test_artifact.py says what that is
    for one in signatures:
        verdict = verify_root_hash(one.signature, one.root_hash, TrustAnchors((leaf.root,)))
        assert verdict.embedded == len(leaf.chain)
        openssl = OpenSSL(tmp_path / "openssl")
        done = openssl.verify("smime", one.signature, one.root_hash.hex().encode(), leaf)
        assert done.returncode == 0, done.stderr

    envelope = envelope_of(home, notary, image)
    assert notary.config == Descriptor.of(EMPTY_JSON, NOTARY_TYPE)
    assert notary.annotations["org.opencontainers.image.created"] == (
        f"{envelope.signing_time:%Y-%m-%dT%H:%M:%SZ}"
    )
    assert envelope.certificate_chain == leaf.chain


def test_the_root_hash_is_that_of_mkfs_erofs_and_veritysetup(home, leaf, tmp_path):
    contents = tars()
    image = push_image(home.store, "v1", contents)
    (signed,) = sign(home, leaf)
    twin = mkfs_twin.mkfs(RECIPE.mkfs_version)
    for tar, layer, known in zip(contents, image.layers, signed.layers, strict=True):
        (tmp_path / "tar").write_bytes(tar)
        uuid = RECIPE.image_uuid(digest=layer.digest, diff_id=None)
        twin.build(tmp_path / "tar", tmp_path / "image", "A", extra=("-U", str(uuid)))
        made = veritysetup(
            *("format", tmp_path / "image", tmp_path / "hashes", "--salt", "00" * 32)
        )
        assert known.image.root_hash == made.root_hash


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_with_every_recipe(form, recipe, home, leaf):
    image = push_image(home.store, "v1")
    sign(home, leaf, form=form.name, recipe=replace(recipe, mkfs_version="1.8.6"))
    found = referrers(home, image)
    assert found.keys() == {NOTARY_TYPE, form.artifact_type}
    (artifact,) = found[form.artifact_type]
    assert recipe_of(artifact) == replace(recipe, mkfs_version="1.8.6")
    digests = [layer.digest for layer in image.layers]
    read = read_dm_verity(home.store, artifact, digests)
    assert [one.layer for one in read] == digests
    hashes = root_hashes_of(home, image, replace(recipe, mkfs_version="1.8.6"))
    assert [one.root_hash for one in read] == hashes


@pytest.mark.parametrize("key", KEY_SPECS)
def test_every_key_in_every_format(key, home, tmp_path):
    leaf = make_leaf(make_root(), f"Signer {key}", key=key)
    image = push_image(home.store, "v1", tars(1))
    for number, media_type in enumerate(FORMATS):
        sign(home, leaf, media_type=media_type, legacy=number == 0, dm_verity=number == 0)
    found = referrers(home, image)
    by_type = {one.layers[0].media_type: one for one in found[NOTARY_TYPE]}
    assert by_type.keys() == set(FORMATS)
    for media_type, notary in by_type.items():
        envelope = envelope_of(home, notary, image, media_type)
        assert envelope.scheme.jose == ALGORITHMS[key]
    assert [one.artifact_type for one in found[NOTARY_TYPE]] == [None, NOTARY_TYPE]
    (blob,) = found[DM_VERITY_TYPES[0]][0].layers
    (root_hash,) = root_hashes_of(home, image)
    assert verify_root_hash(home.read(blob), root_hash, TrustAnchors(leaf.chain)).key_spec == key
    openssl = OpenSSL(tmp_path / "openssl")
    message = root_hash.hex().encode()
    assert openssl.verify("smime", home.read(blob), message, leaf).returncode == 0


@pytest.mark.parametrize("digest", ["sha384", "sha512"])
def test_the_digest_and_certificates_of_root_hash_signatures(digest, home):
    leaf = make_leaf(make_root(), key="RSA-2048")
    image = push_image(home.store, "v1", tars(1))
    sign(home, leaf, pkcs7_digest=digest, certificates=False)
    (blob,) = referrers(home, image)[DM_VERITY_TYPES[0]][0].layers
    (root_hash,) = root_hashes_of(home, image)
    verdict = verify_root_hash(home.read(blob), root_hash, TrustAnchors(leaf.chain))
    assert (verdict.embedded, digest[3:] in verdict.scheme) == (0, True)


def test_what_the_envelope_says(home, leaf):
    image = push_image(home.store, "v1", tars(1))
    sign(
        home,
        leaf,
        expiry=NOW + 5 * DAY,
        user_metadata={"build": "7", "grüße": "ö"},
        agent="dmsign-fast/test",
    )
    envelope = envelope_of(home, referrers(home, image)[NOTARY_TYPE][0], image)
    assert envelope.expiry == NOW + 5 * DAY
    assert envelope.user_metadata == {"build": "7", "grüße": "ö"}
    assert envelope.agent == "dmsign-fast/test"
    assert abs(envelope.signing_time - NOW) < timedelta(hours=1)


def test_one_of_both_alone(home, leaf):
    image = push_image(home.store, "v1")
    (signed,) = sign(home, leaf, manifest_signature=False)
    assert referrers(home, image).keys() == {DM_VERITY_TYPES[0]}
    assert signed.notary is None
    (signed,) = sign(home, leaf, dm_verity=False)
    assert signed.dm_verity is None
    assert signed.layers == ()
    assert signed.added == (signed.notary,)
    assert referrers(home, image).keys() == {DM_VERITY_TYPES[0], NOTARY_TYPE}
    with pytest.raises(ParameterError, match="neither the layers nor the manifest"):
        sign(home, leaf, dm_verity=False, manifest_signature=False)


def test_a_tag_that_moves_meanwhile_does_no_harm(home, leaf):
    image = push_image(home.store, "v1")
    other = push_image(home.store, "v2", seed=2)

    def move(_):
        home.store.tag(other, "v1")

    (signed,) = sign_image(
        home.store, "v1", signer_of(leaf), SignOptions(recipe=RECIPE), found=move
    )
    assert home.store.resolve("v1") == other
    assert signed.manifest == image.descriptor
    assert sum(map(len, referrers(home, image).values())) == 2
    assert referrers(home, other) == {}


# layers


def hashed_layers(monkeypatch):
    seen, hash_one = [], image_module.hash_layer

    def watched(*arguments, **options):
        seen.append(arguments[2].digest)
        return hash_one(*arguments, **options)

    monkeypatch.setattr(image_module, "hash_layer", watched)
    return seen


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_equal_layers_are_hashed_once_and_signed_each(form, home, leaf, monkeypatch):
    seen = hashed_layers(monkeypatch)
    one, two, three = tars(3)
    image = push_image(home.store, "v1", [one, two, three, two, two])
    (signed,) = sign(home, leaf, form=form.name)
    digests = [layer.digest for layer in image.layers]
    assert sorted(seen) == sorted(set(digests))
    assert [layer.digest for layer in signed.layers] == digests[:3]
    (artifact,) = referrers(home, image)[form.artifact_type]
    read = read_dm_verity(home.store, artifact, digests)
    assert [one.layer for one in read] == digests
    assert [one.root_hash for one in read] == root_hashes_of(home, image)
    assert len({one.signature for one in read}) == 3


def test_thirty_layers_four_at_a_time(make_home, leaf, monkeypatch):
    home = make_home("api")
    running, most, lock = 0, [], threading.Lock()
    hash_one = image_module.hash_layer
    gate = threading.Barrier(4)

    def watched(*arguments, **options):
        nonlocal running
        with lock:
            running += 1
            most.append(running)
            number = len(most)
        if number <= 4:
            gate.wait(30)  # four at a time there are
        try:
            return hash_one(*arguments, **options)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(image_module, "hash_layer", watched)
    image = push_image(home.store, "v1", tars(30))
    (signed,) = sign(home, leaf, jobs=4)
    assert max(most) == 4
    (artifact,) = referrers(home, image)[DM_VERITY_TYPES[0]]
    read = read_dm_verity(home.store, artifact, [layer.digest for layer in image.layers])
    assert [one.root_hash for one in read] == root_hashes_of(home, image)
    assert [layer.digest for layer in signed.layers] == [layer.digest for layer in image.layers]


def test_an_interruption_while_threads_are_started_stops_those_that_run(monkeypatch):
    start, runs, stopped = _thread.start_new_thread, threading.Event(), []

    def interrupted(*arguments):
        if runs.is_set():
            raise KeyboardInterrupt
        start(*arguments)
        assert runs.wait(30)

    def task(stop):
        runs.set()
        stopped.append(stop.wait(30))

    monkeypatch.setattr(_thread, "start_new_thread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all([task, task], 2)
    wait_until(lambda: stopped, "the end of the one that runs")
    assert stopped == [True]


def test_progress_is_of_the_bytes_of_different_layers(home, leaf):
    one, two = tars(2)
    image = push_image(home.store, "v1", [one, two, two])
    seen, expected = [], []
    sign_image(
        home.store,
        "v1",
        signer_of(leaf),
        SignOptions(recipe=RECIPE),
        progress=seen.append,
        found=expected.append,
    )
    assert expected == [image.layers[0].size + image.layers[1].size]
    assert sum(seen) == expected[0]


# again, and by others


@homes
def test_signing_again_adds_nothing_but_by_force(kind, make_home, leaf):
    home = make_home(kind)
    image = push_image(home.store, "v1", tars(1))
    (first,) = sign(home, leaf, "v1")
    before = referrers(home, image)
    contents = None if kind in REAL_REGISTRIES else home.contents
    for _ in range(2):
        (again,) = sign(home, leaf, "v1")
        assert again == replace(first, added=(), layers=again.layers, seconds=again.seconds)
        assert [one.image.root_hash for one in again.layers] == [
            one.image.root_hash for one in first.layers
        ]
        assert referrers(home, image) == before
        assert contents is None or home.contents == contents
    (forced,) = sign(home, leaf, "v1", force=True)
    assert len(forced.added) == 2
    assert {kind: len(found) for kind, found in referrers(home, image).items()} == {
        DM_VERITY_TYPES[0]: 2,
        NOTARY_TYPE: 2,
    }


CHANGED = {
    "another mkfs.erofs": ({"recipe": replace(RECIPE, mkfs_version="1.8.6")}, (2, 1)),
    "another recipe": ({"recipe": Recipe.parse("osguard")}, (2, 1)),
    "another form": ({"form": "osguard"}, (1, 1)),
    "user metadata": ({"user_metadata": {"build": "7"}}, (1, 2)),
    "an expiry": ({"expiry": NOW + DAY}, (1, 2)),
    "another format": ({"media_type": "application/cose"}, (1, 2)),
    "another digest": ({"pkcs7_digest": "sha512"}, (2, 1)),
    "no certificates": ({"certificates": False}, (2, 1)),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_is_asked_for_and_not_there_is_added(what, home):
    leaf = make_leaf(make_root(), key="RSA-2048")
    options, (dm_verity, notary) = CHANGED[what]
    image = push_image(home.store, "v1", tars(1))
    sign(home, leaf)
    for _ in range(2):  # and this once
        sign(home, leaf, **options)
        found = referrers(home, image)
        assert (len(found[DM_VERITY_TYPES[0]]), len(found[NOTARY_TYPE])) == (dm_verity, notary)
    assert ("form" in options) == (DM_VERITY_TYPES[1] in found)


def test_another_key_adds(home, leaf):
    image = push_image(home.store, "v1", tars(1))
    for number in range(3):
        root = make_root(f"Root {number}")
        sign(home, make_leaf(root, f"Signer {number}"))
        found = referrers(home, image)
        assert [len(one) for one in found.values()] == [number + 1] * 2


def test_another_certificate_of_the_same_key_adds(home, leaf):
    image = push_image(home.store, "v1", tars(1))
    sign(home, leaf)
    sign(home, make_leaf(make_intermediate(make_root()), serial=99))
    assert [len(one) for one in referrers(home, image).values()] == [2, 2]


def test_a_signature_that_expired_is_no_signature(home, leaf, monkeypatch):
    image = push_image(home.store, "v1", tars(1))
    (first,) = sign(home, leaf, dm_verity=False, expiry=NOW + DAY)
    (again,) = sign(home, leaf, dm_verity=False, expiry=NOW + 2 * DAY)
    assert again.notary == first.notary

    class Later(type(NOW)):
        @classmethod
        def now(cls, zone):
            return NOW + 3 * DAY

    monkeypatch.setattr("dmsign_fast.pipeline.sign_image.datetime", Later)
    sign(home, leaf, dm_verity=False, expiry=NOW + 5 * DAY)
    assert len(referrers(home, image)[NOTARY_TYPE]) == 2


def broken(home, image, what):
    """Attach an artifact that looks like a good one, and is not."""
    raw = json.loads(home.store.fetch_manifest(home.store.referrers(image.descriptor)[0]).raw)
    store = home.store
    kind, layers, subject = raw["artifactType"], raw["layers"], image.descriptor
    annotations = raw["annotations"]
    if what == "of another image":
        subject = push_image(store, seed=7).descriptor
    elif what == "with another signature":
        bad = Descriptor.of(b"bad", "application/pkcs7-signature")
        store.push(bad, b"bad")
        layers[0] |= bad.to_json()
    elif what == "with a malformed record":
        annotations["dmsign-fast.recipe.salt"] = "?"
    elif what == "with another root hash":
        layers[0]["annotations"]["io.cncf.notary.dm-verity.root-hash"] = "00" * 32
    else:
        layers = []
    return make_manifest(
        layers=[Descriptor.from_json(one, "layer") for one in layers],
        artifact_type=kind,
        subject=subject,
        annotations=annotations,
    )


@pytest.mark.parametrize(
    "what",
    [
        "of another image",
        "with another signature",
        "with a malformed record",
        "with another root hash",
        "without layers",
    ],
)
def test_what_is_broken_is_not_taken_for_a_signature(what, make_home, leaf):
    home = make_home("tag schema")
    image = push_image(home.store, "v1", tars(1))
    (first,) = sign(home, leaf)
    bad = broken(home, image, what)
    home.store.push(bad.descriptor, bad.raw)
    repository = home.server.repository(home.store.repository)
    tag = image.descriptor.digest.referrers_tag
    _, raw = repository.manifests[repository.tags[tag]]
    index = json.loads(raw)
    index["manifests"] = [
        bad.referrer.to_json(),
        *(one for one in index["manifests"] if one["digest"] != first.dm_verity.digest),
    ]
    raw = json.dumps(index).encode()
    digest = Digest.of(raw)
    repository.manifests[digest] = ("application/vnd.oci.image.index.v1+json", raw)
    repository.tags[tag] = digest
    (again,) = sign(home, leaf)
    assert again.notary == first.notary
    assert again.added == (again.dm_verity,)
    assert again.dm_verity != bad.descriptor


@pytest.mark.parametrize("what", ["over another image", "with another signature"])
def test_what_is_broken_is_not_taken_for_a_signature_of_the_manifest(what, home, leaf):
    """Its manifest says that it is of this image."""
    image = push_image(home.store, "v1", tars(1))
    target = push_image(home.store, seed=7) if what == "over another image" else image
    data = sign_manifest(
        target.descriptor.to_json(), signer_of(leaf), media_type="application/jose+json"
    )
    if target == image:
        value = json.loads(data)
        value["signature"] = value["signature"][:-2] + "AA"
        data = json.dumps(value).encode()
    bad = make_notary(image.descriptor, data, "application/jose+json", leaf.chain, NOW, legacy=True)
    for descriptor, content in bad.blobs:
        home.store.push(descriptor, content)
    home.store.attach(image.descriptor, [bad.manifest])
    (signed,) = sign(home, leaf)
    assert signed.notary in signed.added
    assert len(referrers(home, image)[NOTARY_TYPE]) == 2


EIGHT = """
import os, sys
place, sys.path[:0] = sys.argv[1], sys.argv[2:]
from pathlib import Path
from helpers_pkcs7 import signer_of
from pki import make_leaf, make_root
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.reference import RegistryReference
from dmsign_fast.oci.registry import Registry
from dmsign_fast.oci.transport import Connection
from dmsign_fast.pipeline.sign_image import SignOptions, sign_image
import cryptography.x509.verification, numpy, oras.provider

root = make_root()
read, write = os.pipe()
children = []
for number in range(8):
    child = os.fork()
    if not child:
        os.close(write)
        if place[0] == "/":
            store = Layout(Path(place))
        else:
            store = Registry(RegistryReference.parse(place), Connection(settle=0.5))
        signer = signer_of(make_leaf(root, f"Signer {number}"))
        os.read(read, 1)  # until all are ready
        with store:
            sign_image(store, "v1", signer, SignOptions(recipe=Recipe.parse("containerd")))
        os._exit(0)
    children.append(child)
os.close(write)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""
PATHS = [path for path in sys.path if path.endswith(("tests", "tests/oci", "envelope", "src"))]


@homes
def test_eight_signers_at_once_lose_nothing(kind, make_home):
    home = make_home(kind)
    image = push_image(home.store, "v1")
    place = home.arguments[-1]
    done = run(sys.executable, "-c", EIGHT, place, *PATHS)
    assert done.exit_code == 0, done.err
    found = referrers(home, image)
    names = [envelope_of(home, one, image).certificate_chain[0] for one in found[NOTARY_TYPE]]
    assert sorted(one.subject.rfc4514_string() for one in names) == [
        f"CN=Signer {number}" for number in range(8)
    ]
    assert len(found[DM_VERITY_TYPES[0]]) == 8
    keys = set()
    for artifact in found[DM_VERITY_TYPES[0]]:
        digests = [layer.digest for layer in image.layers]
        for one in read_dm_verity(home.store, artifact, digests):
            verdict = verify_root_hash(
                one.signature, one.root_hash, TrustAnchors((names[0], *names[1:]))
            )
            keys.add(verdict.signer.subject)
    assert len(keys) == 8
    assert home.store.resolve("v1") == image
    if home.server:
        assert home.server.complaints == []


# when something is wrong, nothing is pushed


def other_bytes(data):
    return data[:-1] + bytes([data[-1] ^ 1])


def cut_off(data):
    return data[:-1]


def flip_diff_id(layers):
    return [Digest.of(b"other"), *(Digest.of(tar) for tar in layers[1:])]


LOSSY = {"path": "file", "SCHILY.xattr.user.x\0": "1"}


def lossy_tar():
    """What the node would lose a part of, without a word."""
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(".wh."))
    return buffer.getvalue()


def damaged(what, home):
    """Push an image that cannot be signed; the error and what it says."""
    contents = tars()
    if what == "a diff ID that lies":
        push_image(home.store, "v1", contents, diff_ids=flip_diff_id(contents))
        return VerificationError, "diff ID is .* and should be"
    if what == "too few diff IDs":
        push_image(home.store, "v1", contents, diff_ids=[Digest.of(contents[0])])
        return FormatError, "has 3 layers and its config 1 diff IDs"
    if what == "an entry that is lost":
        push_image(home.store, "v1", [*contents, lossy_tar()])
        return FormatError, "layer sha256:"
    if what == "no layers":
        push_image(home.store, "v1", [])
        return FormatError, "has no layers, so there is nothing"
    image = push_image(home.store, "v1", contents)
    layer = image.layers[2]
    if what == "another byte in a layer":
        home.damage(layer, other_bytes)
        return VerificationError, f"{layer.digest} from .* another digest"
    if what == "a layer cut off":
        home.damage(layer, cut_off)
        return VerificationError, "bytes instead of"
    if what == "a layer that goes on":
        home.damage(layer, lambda data: data + b"x")
        return VerificationError, "bytes instead of|longer than"
    if what == "a layer that is not there":
        home.remove(layer)
        return DmsignError, layer.digest.encoded
    if what == "another byte in the config":
        home.damage(image.config, other_bytes)
        return VerificationError, f"{image.config.digest} from .* another digest"
    assert what == "no config"
    home.remove(image.config)
    return DmsignError, image.config.digest.encoded


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("kind", ["layout", "api"])
@pytest.mark.parametrize(
    "what",
    [
        "another byte in a layer",
        "a layer cut off",
        "a layer that goes on",
        "a layer that is not there",
        "another byte in the config",
        "no config",
        "a diff ID that lies",
        "too few diff IDs",
        "an entry that is lost",
        "no layers",
    ],
)
def test_nothing_is_pushed_for_an_image_that_is_not_right(what, kind, jobs, make_home, leaf):
    home = make_home(kind, tries=2)
    error, words = damaged(what, home)
    before = home.contents
    with pytest.raises(error, match=words):
        sign(home, leaf, jobs=jobs)
    assert home.contents == before
    if home.server:
        posted = [one for one in home.server.requests if "uploads" in one.path]
        assert len(posted) % 2 == 0  # those of push_image


class Failing:
    """A signer that fails from its nth signature on."""

    def __init__(self, signer, good):
        self.key_spec, self.certificate_chain = signer.key_spec, signer.certificate_chain
        self.signer, self.left = signer, good

    def sign(self, message, scheme):
        self.left -= 1
        if self.left < 0:
            raise SigningError("the key is away")
        return self.signer.sign(message, scheme)


@pytest.mark.parametrize("good", range(4))
def test_nothing_is_pushed_when_the_key_fails(good, home, leaf):
    push_image(home.store, "v1")
    before = home.contents
    signer = Failing(signer_of(leaf), good)
    with pytest.raises(SigningError, match="the key is away"):
        sign_image(home.store, "v1", signer, SignOptions(recipe=RECIPE))
    assert home.contents == before
    sign_image(home.store, "v1", Failing(signer_of(leaf), 4), SignOptions(recipe=RECIPE))


def test_nothing_is_pushed_when_the_key_fails_for_the_last_of_an_index(home, leaf):
    one, two = (push_image(home.store, seed=seed) for seed in (1, 2))
    push_index(home.store, "v1", [(one, "linux/amd64"), (two, "linux/arm64")])
    before = home.contents
    signer = Failing(signer_of(leaf), 8)  # three layers and the manifest, twice
    with pytest.raises(SigningError, match="the key is away"):
        sign_image(home.store, "v1", signer, SignOptions(recipe=RECIPE, recursive=True))
    assert home.contents == before


def wrong_signers():
    root = make_root()
    good, other = make_leaf(root), make_leaf(root, "Other")
    return {
        "of another key": LocalSigner(signer_of(good).key_spec, good.chain, other.key),
        "expired": signer_of(make_expired_leaf(root)),
        "without its root": LocalSigner(signer_of(good).key_spec, good.chain[:1], good.key),
        "that must not sign": signer_of(make_leaf(root, "Usage", usage=("key_encipherment",))),
    }


@pytest.mark.parametrize("what", wrong_signers())
def test_nothing_is_pushed_with_a_certificate(what, home):
    push_image(home.store, "v1")
    before = home.contents
    with pytest.raises(SigningError):
        sign_image(home.store, "v1", wrong_signers()[what], SignOptions(recipe=RECIPE))
    assert home.contents == before


@pytest.mark.parametrize(
    "options",
    [
        {"user_metadata": {"io.cncf.notary.x": "1"}},
        {"expiry": NOW - DAY},
        {"form": "other"},
        {"media_type": "text/plain"},
        {"pkcs7_digest": "sha1"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_nothing_is_pushed_with_an_option_that_is_none(options, home, leaf):
    push_image(home.store, "v1")
    before = home.contents
    with pytest.raises(ParameterError):
        sign(home, leaf, **options)
    assert home.contents == before


def test_nothing_is_pushed_without_a_timestamp(home, leaf):
    def refuse(_):
        raise RegistryError("no time today")

    push_image(home.store, "v1")
    before = home.contents
    with pytest.raises(RegistryError, match="no time today"):
        sign(home, leaf, timestamp=refuse)
    assert home.contents == before


def uploads(server):
    return [one.path for one in server.requests if one.method in ("POST", "PUT")]


@pytest.mark.parametrize("fault", [status(403), hang_up], ids=["refused", "cut"])
@pytest.mark.parametrize("kind", ["api", "tag schema"])
def test_a_registry_that_fails_in_the_middle_of_the_pushes(kind, fault, make_home, leaf):
    """Whichever request it is: what refers to the image is whole, and signing again repairs."""
    home = make_home(kind, tries=2, settle=0.01)
    image = push_image(home.store, "v1")
    begin = len(uploads(home.server))
    sign(home, leaf)
    whole = len(uploads(home.server)) - begin
    assert whole == 2 * 5 + 2 + (kind == "tag schema")  # {}, three signatures and an envelope
    repository = home.server.repository(home.store.repository)
    first = (dict(repository.blobs), dict(repository.manifests), dict(repository.tags))
    for number in range(whole):
        seed = number + 50
        image = push_image(home.store, "v1", tars(3, seed))
        repository.blobs.pop(Digest.of(EMPTY_JSON), None)
        left = [number]

        def fail_from_then_on(handler, left=left):
            left[0] -= 1
            (fault if left[0] < 0 else type(handler).serve)(handler)

        home.server.fail("POST", "", fail_from_then_on, times=1000)
        home.server.fail("PUT", "", fail_from_then_on, times=1000)
        with pytest.raises(RegistryError):
            sign(home, leaf)
        home.server.faults.clear()
        found = referrers(home, image)  # which reads all blobs of those that are visible
        listed = sum(map(len, found.values()))
        assert listed <= (kind == "api" and number >= whole - 1)
        sign(home, leaf)
        assert {kind: len(one) for kind, one in referrers(home, image).items()} == {
            DM_VERITY_TYPES[0]: 1,
            NOTARY_TYPE: 1,
        }
    assert first[0].keys() - {Digest.of(EMPTY_JSON)} <= repository.blobs.keys()


# indexes


def push_multi(store):
    amd64, arm64 = (
        push_image(store, contents=tars(2, seed), architecture=name)
        for seed, name in ((1, "amd64"), (2, "arm64"))
    )
    attestation = push_attestation(store, amd64.descriptor)
    index = push_index(
        store,
        "v1",
        [(amd64, "linux/amd64"), (arm64, "linux/arm64/v8"), (attestation, "unknown/unknown")],
    )
    return index, amd64, arm64, attestation


def types(home, manifest):
    return sorted(referrers(home, manifest))


BOTH = sorted([NOTARY_TYPE, DM_VERITY_TYPES[0]])


def test_an_index_needs_a_choice(home, leaf):
    push_multi(home.store)
    before = home.contents
    with pytest.raises(ParameterError) as caught:
        sign(home, leaf)
    assert "is an index of 3 manifests" in str(caught.value)
    assert "linux/amd64, linux/arm64/v8" in str(caught.value)
    assert "--platform" in str(caught.value)
    assert "--recursive" in str(caught.value)
    with pytest.raises(ParameterError, match=r"no manifest for linux/s390x: it has linux/amd64, "):
        sign(home, leaf, platform="linux/s390x")
    assert home.contents == before


@pytest.mark.parametrize(("platform", "number"), [("linux/amd64", 1), ("linux/arm64/v8", 2)])
def test_one_platform_of_an_index(platform, number, home, leaf):
    pushed = push_multi(home.store)
    (signed,) = sign(home, leaf, platform=platform)
    assert signed.manifest == pushed[number].descriptor
    for at, manifest in enumerate(pushed):
        assert types(home, manifest) == (BOTH if at == number else [])


@homes
def test_all_of_an_index(kind, make_home, leaf):
    home = make_home(kind)
    index, amd64, arm64, attestation = push_multi(home.store)
    signed = sign(home, leaf, recursive=True)
    assert [one.manifest for one in signed] == [
        one.descriptor for one in (amd64, arm64, attestation, index)
    ]
    assert types(home, amd64) == types(home, arm64) == BOTH
    assert types(home, attestation) == types(home, index) == [NOTARY_TYPE]
    for manifest in (index, amd64, arm64, attestation):
        envelope_of(home, referrers(home, manifest)[NOTARY_TYPE][0], manifest)
    assert [len(one.layers) for one in signed] == [2, 2, 0, 0]
    assert not any(one.added for one in sign(home, leaf, recursive=True))


def test_indexes_in_an_index(home, leaf):
    one, two = (push_image(home.store, contents=tars(1, seed)) for seed in (1, 2))
    inner = push_index(home.store, "inner", [(one, "linux/amd64")])
    outer = push_index(home.store, "v1", [(inner, None), (two, "linux/arm64"), (inner, None)])
    signed = sign(home, leaf, recursive=True, force=True)
    assert [image.manifest for image in signed] == [
        each.descriptor for each in (one, inner, two, outer)
    ]
    assert types(home, one) == types(home, two) == BOTH
    assert types(home, inner) == types(home, outer) == [NOTARY_TYPE]
    for manifest in (one, two, inner, outer):
        assert all(len(found) == 1 for found in referrers(home, manifest).values())


def test_an_index_that_nests_too_deep(home, leaf):
    index = push_image(home.store, contents=tars(1))
    for _ in range(5):
        index = push_index(home.store, "v1", [(index, None)])
    before = home.contents
    with pytest.raises(FormatError, match="nests more than 4 deep"):
        sign(home, leaf, recursive=True)
    assert home.contents == before


def test_an_index_of_itself_many_times_over_takes_no_time(home, leaf):
    """Ten at each of four levels would be 10,000 manifests."""
    index = push_image(home.store, contents=tars(1))
    for _ in range(4):
        index = push_index(home.store, "v1", [(index, None)] * 30)
    assert len(sign(home, leaf, recursive=True)) == 5


def test_an_index_of_which_a_manifest_is_missing(home, leaf):
    one, two = (push_image(home.store, contents=tars(1, seed)) for seed in (1, 2))
    push_index(home.store, "v1", [(one, "linux/amd64"), (two, "linux/arm64")])
    home.remove(two.descriptor)
    before = home.contents
    with pytest.raises(NotFoundError, match=two.descriptor.digest.encoded):
        sign(home, leaf, recursive=True)
    assert home.contents == before


def test_images_of_an_index_share_layers_and_no_lies(home, leaf, monkeypatch):
    one, two, three = tars(3)
    first = push_image(home.store, contents=[one, two])
    second = push_image(home.store, contents=[one, two, three], architecture="arm64")
    push_index(home.store, "v1", [(first, "linux/amd64"), (second, "linux/arm64")])
    seen = hashed_layers(monkeypatch)
    sign(home, leaf, recursive=True)
    assert len(seen) == 3
    lie = push_image(
        home.store, contents=[one, two], diff_ids=[Digest.of(one), Digest.of(b"other")]
    )
    push_index(home.store, "v2", [(first, "linux/amd64"), (lie, "linux/arm64")])
    before = home.contents
    with pytest.raises(VerificationError, match=f"{first.layers[1].digest}.* diff ID"):
        sign(home, leaf, "v2", recursive=True, force=True)
    assert home.contents == before


def test_equal_layers_with_different_diff_ids(home, leaf):
    one, two = tars(2)
    push_image(
        home.store,
        "v1",
        [one, two, two],
        diff_ids=[Digest.of(one), Digest.of(two), Digest.of(b"other")],
    )
    before = home.contents
    with pytest.raises(VerificationError, match="diff ID"):
        sign(home, leaf)
    assert home.contents == before


def test_what_is_no_image(home, leaf):
    artifact = push_artifact(home.store, "v1")
    before = home.contents
    with pytest.raises(FormatError, match=r"v1 is no container image.*--no-dm-verity"):
        sign(home, leaf)
    assert home.contents == before
    (signed,) = sign(home, leaf, dm_verity=False)
    assert types(home, artifact) == [NOTARY_TYPE]
    assert signed.manifest == artifact.descriptor


def test_an_index_without_images(home, leaf):
    artifact = push_artifact(home.store)
    index = push_index(home.store, "v1", [(artifact, None)])
    with pytest.raises(FormatError, match="is no container image"):
        sign(home, leaf, recursive=True)
    sign(home, leaf, recursive=True, dm_verity=False)
    assert types(home, artifact) == types(home, index) == [NOTARY_TYPE]
