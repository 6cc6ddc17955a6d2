"""Images signed in homes of every kind, and what is there afterwards."""

import io
import json

import pytest
from container_images import (
    push_attestation,
    push_image,
    push_index,
    tars,
)
from helpers_pkcs7 import signer_of
from real_registries import REAL_REGISTRIES

from dmsign_fast.envelope.notary import check_envelope, parse_envelope
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.pipeline import image as image_module
from dmsign_fast.pipeline.artifact import NOTARY_TYPE
from dmsign_fast.pipeline.forms import FORMS
from dmsign_fast.pipeline.layers import Expected, hash_layer
from dmsign_fast.pipeline.sign_image import SignOptions, sign_image

RECIPE = Recipe.parse("containerd")
DM_VERITY_TYPES = [form.artifact_type for form in FORMS]
homes = pytest.mark.parametrize("kind", ["layout", "api", "tag schema", *REAL_REGISTRIES])
ours = pytest.mark.parametrize("kind", ["layout", "api", "tag schema"])


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


def hashed_layers(monkeypatch):
    seen, hash_one = [], image_module.hash_layer_by

    def watched(*arguments, **options):
        seen.append(arguments[2].digest)
        return hash_one(*arguments, **options)

    monkeypatch.setattr(image_module, "hash_layer_by", watched)
    return seen


def uploads(server):
    return [one.path for one in server.requests if one.method in ("POST", "PUT")]


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
