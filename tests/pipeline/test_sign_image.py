"""What is there after an image was signed, before openssl, mkfs.erofs and ourselves."""

import _thread
import hashlib
import json
import threading
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from container_images import (
    push_image,
    tars,
)
from erofs import mkfs_twin
from helpers import veritysetup, wait_until
from helpers_pkcs7 import OpenSSL, signer_of
from pki import DAY, KEY_SPECS, NOW, make_leaf, make_root
from signed_homes import (
    DM_VERITY_TYPES,
    RECIPE,
    envelope_of,
    hashed_layers,
    homes,
    referrers,
    root_hashes_of,
    sign,
)

from dmsign_fast.envelope.media import FORMATS
from dmsign_fast.envelope.pkcs7 import verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.erofs.recipe import RECIPES, Recipe
from dmsign_fast.errors import (
    ParameterError,
)
from dmsign_fast.oci.descriptor import Descriptor
from dmsign_fast.oci.manifest import EMPTY_JSON
from dmsign_fast.pipeline import image as image_module
from dmsign_fast.pipeline.artifact import (
    CREATED,
    NOTARY_TYPE,
    LayerSignature,
    make_dm_verity,
    read_dm_verity,
    recipe_of,
)
from dmsign_fast.pipeline.forms import FORMS, form_of
from dmsign_fast.pipeline.jobs import run_all
from dmsign_fast.pipeline.sign_image import SignOptions, sign_image

INDEX = Recipe.parse("containerd-tar-index")
ALGORITHMS = dict(
    zip(KEY_SPECS, ("PS256", "PS384", "PS512", "ES256", "ES384", "ES512"), strict=True)
)


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
    assert [layer.root_hash for layer in signed.layers] == root_hashes
    digests = [layer.digest for layer in image.layers]
    signatures = [
        LayerSignature(digest, root_hash, home.read(blob))
        for digest, root_hash, blob in zip(digests, root_hashes, dm_verity.layers, strict=True)
    ]
    created = datetime.fromisoformat(notary.annotations[CREATED])
    again = make_dm_verity(
        form_of("notation"), image.descriptor, signatures, RECIPE, created=created
    )
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
        assert known.root_hash == made.root_hash


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_with_every_recipe(form, recipe, home, leaf):
    image = push_image(home.store, "v1")
    if form.misfit(recipe):
        with pytest.raises(ParameterError, match="use another --recipe, or another --artifact"):
            sign(home, leaf, forms=(form.name,), recipe=recipe)
        assert referrers(home, image) == {}
        return
    sign(home, leaf, forms=(form.name,), recipe=replace(recipe, mkfs_version="1.8.6"))
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
    (root_hash,) = root_hashes_of(home, image)
    bound = {"layers": {image.layers[0].digest: root_hash.hex()}, "recipe": RECIPE.fields()}
    text = json.dumps(bound, sort_keys=True, separators=(",", ":"))
    assert envelope.user_metadata == {
        "build": "7",
        "grüße": "ö",
        "dmsign-fast.root-hashes": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}",
    }
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


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_equal_layers_are_hashed_once_and_signed_each(form, home, leaf, monkeypatch):
    seen = hashed_layers(monkeypatch)
    one, two, three = tars(3)
    image = push_image(home.store, "v1", [one, two, three, two, two])
    (signed,) = sign(home, leaf, forms=(form.name,), recipe=INDEX)
    digests = [layer.digest for layer in image.layers]
    assert sorted(seen) == sorted(set(digests))
    assert [layer.digest for layer in signed.layers] == digests[:3]
    (artifact,) = referrers(home, image)[form.artifact_type]
    read = read_dm_verity(home.store, artifact, digests)
    expected = digests[:3] if form.once else digests
    assert [one.layer for one in read] == expected
    assert [one.root_hash for one in read] == root_hashes_of(home, image, INDEX)[: len(expected)]
    assert len({one.signature for one in read}) == 3


def test_thirty_layers_four_at_a_time(make_home, leaf, monkeypatch):
    home = make_home("api")
    running, most, lock = 0, [], threading.Lock()
    hash_one = image_module.hash_layer_by
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

    monkeypatch.setattr(image_module, "hash_layer_by", watched)
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
