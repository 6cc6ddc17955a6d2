"""What the signatures of an image say, shown whether or not anybody would believe it."""

import json
from datetime import timedelta

import pytest
from container_images import push_image, push_index
from pki import NOW
from signed_images import (
    BAD,
    COSE,
    DM_VERITY,
    JWS,
    LEAF,
    RECIPE,
    STRANGER,
    attach_layers,
    attach_notary,
    blob_path,
    sign,
    signatures_of,
)

from dmsign_fast.envelope.facts import facts_of
from dmsign_fast.errors import NotFoundError
from dmsign_fast.oci.layout import Layout
from dmsign_fast.pipeline.artifact import NOTARY_TYPE
from dmsign_fast.pipeline.binding import ROOT_HASHES, digest_of_roots
from dmsign_fast.pipeline.inspect_image import inspect_image


@pytest.fixture
def layout(tmp_path):
    return Layout.create(tmp_path / "layout")


def signatures(store, reference="v1"):
    """Those of the one manifest, by their digests; they can be JSON."""
    (image,) = inspect_image(store, reference)
    assert json.loads(json.dumps(image)) == image
    return {one["digest"]: one for one in image["signatures"]}


@pytest.mark.parametrize(("media_type", "legacy"), [(JWS, True), (COSE, False)])
def test_a_notary_signature(media_type, legacy, layout):
    image = push_image(layout, "v1")
    (made,) = sign(
        layout,
        "v1",
        media_type=media_type,
        legacy=legacy,
        agent="tests/1",
        expiry=NOW + timedelta(days=2),
        user_metadata={"build": "7"},
    )
    found = signatures(layout)[made.notary.digest]
    assert found.pop("signing_time") >= NOW.isoformat()
    facts = [facts_of(one) for one in LEAF.chain]
    assert [one["subject"] for one in found["certificates"]] == [one.subject for one in facts]
    assert [one["fingerprint"] for one in found.pop("certificates")] == [
        one.fingerprint for one in facts
    ]
    roots = [(one.digest, one.root_hash) for one in made.layers]
    metadata = {"build": "7", ROOT_HASHES: digest_of_roots(roots, RECIPE)}
    assert found == {
        "digest": made.notary.digest,
        "kind": "notary",
        "artifact_type": NOTARY_TYPE,
        "media_type": media_type,
        "algorithm": "ES256",
        "signing_scheme": "notary.x509",
        "expiry": (NOW + timedelta(days=2)).isoformat(),
        "agent": "tests/1",
        "timestamped": False,
        "target": image.descriptor.to_json() | {"annotations": metadata},
    }


def test_a_dm_verity_artifact(layout):
    push_image(layout, "v1")
    (made,) = sign(layout, "v1")
    found = signatures(layout)[made.dm_verity.digest]
    assert (found["kind"], found["artifact_type"]) == ("dm-verity", DM_VERITY)
    assert found["recipe"] == RECIPE.fields()
    assert [(one["layer"], one["root_hash"]) for one in found["layers"]] == [
        (one.digest, one.root_hash.hex()) for one in made.layers
    ]
    for one in found["layers"]:
        signature = one["signature"]
        (signer,) = signature["signers"]
        assert signer["digest"] == "sha256"
        assert int(signer["serial"], 16) == LEAF.certificate.serial_number
        assert {each["subject"] for each in signature["certificates"]} == {
            facts_of(each).subject for each in LEAF.chain
        }


def test_strangers_are_shown_like_anybody(layout):
    image = push_image(layout, "v1")
    (made,) = sign(layout, "v1")
    notary = attach_notary(layout, image.descriptor, entity=STRANGER)
    layers = attach_layers(
        layout,
        image.descriptor,
        signatures_of(made, STRANGER),
        lambda one: [one["annotations"].pop(name) for name in list(one["annotations"])],
    )
    found = signatures(layout)
    assert len(found) == 4
    assert found[notary.descriptor.digest]["certificates"][0]["subject"] == "CN=Stranger"
    assert found[layers.descriptor.digest]["recipe"] is None


READABLE = {  # well-formed, though verify refuses them
    "an envelope over another manifest",
    "an envelope over another size",
    "an expired envelope",
    "an expired certificate",
    "a stranger",
    "a root hash like text",
    "another root hash",
    "layers by a stranger",
    "one layer by a stranger",
}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """What inspect says of an image with all of them, and which is which."""
    store = Layout.create(tmp_path_factory.mktemp("crowded") / "layout")
    push_image(store, "v1")
    (made,) = sign(store, "v1")
    known, named = set(signatures(store)), {}
    for what, (_, _, make) in BAD.items():
        make(store, made.manifest, made)
        (named[what],) = set(signatures(store)) - known
        known.add(named[what])
    return signatures(store), named, made


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_read_has_an_error(what, crowded):
    kind, reason, _ = BAD[what]
    found, named, made = crowded
    assert not any("error" in found[one.digest] for one in made.added)
    bad = found[named[what]]
    assert ("error" in bad) == (what not in READABLE)
    if what in READABLE:
        assert bad["kind"] == kind
    else:
        assert reason in bad["error"]


def test_an_index_alone_or_with_all_that_is_in_it(layout):
    image = push_image(layout, "v1")
    other = push_image(layout, "v2", seed=2)
    index = push_index(layout, "all", [(image, "linux/amd64"), (other, "linux/arm64")])
    sign(layout, "v1")
    sign(layout, "all", dm_verity=False, recursive=True)
    alone = inspect_image(layout, "all")
    assert [one["manifest"] for one in alone] == [index.descriptor.digest]
    assert [one["kind"] for one in alone[0]["signatures"]] == ["notary"]
    whole = inspect_image(layout, "all", recursive=True)
    assert [one["manifest"] for one in whole] == [
        one.descriptor.digest for one in (image, other, index)
    ]
    assert [len(one["signatures"]) for one in whole] == [2, 1, 1]
    (chosen,) = inspect_image(layout, "all", platform="linux/arm64")
    assert chosen["manifest"] == other.descriptor.digest


def test_no_layer_is_read(layout):
    image = push_image(layout, "v1")
    (made,) = sign(layout, "v1")
    for layer in image.layers:
        blob_path(layout, layer).unlink()
    assert set(signatures(layout)) == {one.digest for one in made.added}


def test_other_artifacts_are_left_out_and_nothing_is_nothing(layout):
    image = push_image(layout, "v1")
    attach_notary(
        layout,
        image.descriptor,
        None,
        lambda one: one.update(artifactType="application/vnd.example.sbom"),
    )
    assert signatures(layout) == {}
    with pytest.raises(NotFoundError):
        inspect_image(layout, "v2")
