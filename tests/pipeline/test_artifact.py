"""The artifacts by the letter of their specifications, and those that are refused."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from container_images import push_image
from hypothesis import given
from hypothesis import strategies as st

from dmsign_fast.erofs.recipe import RECIPES, Recipe, UuidRule
from dmsign_fast.errors import FormatError, NotFoundError, ParameterError, VerificationError
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.manifest import make_manifest
from dmsign_fast.oci.store import pieces_of
from dmsign_fast.pipeline.artifact import (
    LayerSignature,
    fetch_blob,
    make_dm_verity,
    read_dm_verity,
    recipe_of,
)
from dmsign_fast.pipeline.forms import FORMS, Part, form_of
from dmsign_fast.pipeline.layer_file import LayerBlob

RECIPE = Recipe.parse("containerd@1.8.6")
SUBJECT = Descriptor.of(b"image", "application/vnd.oci.image.manifest.v1+json")
EMPTY = {
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2,
}
RECORD = {
    "dmsign-fast.recipe.name": "containerd",
    "dmsign-fast.recipe.layout": "full",
    "dmsign-fast.recipe.uuid": "digest",
    "dmsign-fast.recipe.mkfs-version": "1.8.6",
    "dmsign-fast.recipe.data-block-size": "4096",
    "dmsign-fast.recipe.hash-block-size": "4096",
    "dmsign-fast.recipe.salt": "00" * 32,
}
SIGNATURES = [
    LayerSignature(
        Digest.of(b"layer %d" % number), bytes([0xA0 + number]) * 32, b"\xff\xfe%d" % number
    )
    for number in range(3)
]
CREATED_AT = datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC)
CREATED = {"org.opencontainers.image.created": "2026-02-03T04:05:06Z"}
LAYERS = [one.layer for one in SIGNATURES]
forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


@pytest.fixture
def layout(tmp_path):
    return Layout.create(tmp_path / "layout")


def blob_of(content):
    return LayerBlob(Digest.of(content), len(content), lambda: iter([content]))


class AnyLayer(dict):
    """For each layer, by its digest, what a form may have besides its signature."""

    def __missing__(self, layer):
        return {part: blob_of(f"{part} of {layer}".encode()) for part in Part}


def make(form, signatures=SIGNATURES, recipe=RECIPE):
    return make_dm_verity(form, SUBJECT, signatures, recipe, blobs=AnyLayer(), created=CREATED_AT)


def put(store, artifact):
    for descriptor, content in artifact.blobs:
        store.push(descriptor, content)
    return artifact.manifest


def read(store, manifest, layers=LAYERS):
    return list(read_dm_verity(store, manifest, layers))


def expected(**members):
    whole = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "subject": SUBJECT.to_json(),
    }
    return whole | members


def described(data, media_type, **annotations):
    return Descriptor.of(data, media_type, annotations=annotations).to_json()


def test_the_artifact_of_the_proposal():
    """notaryproject/notation, specs/proposals/dm-verity.md."""
    artifact = make(form_of("notation"))
    layers = [
        described(
            one.signature,
            "application/pkcs7-signature",
            **{
                "io.cncf.notary.layer.digest": one.layer,
                "io.cncf.notary.dm-verity.root-hash": one.root_hash.hex(),
                "org.opencontainers.image.title": f"layer-{number}.pkcs7.sig",
            },
        )
        for number, one in enumerate(SIGNATURES)
    ]
    assert json.loads(artifact.manifest.raw) == expected(
        artifactType="application/vnd.cncf.notary.signature.dm-verity",
        config=EMPTY,
        layers=layers,
        annotations={"io.cncf.notary.dm-verity.signature": "true"} | CREATED | RECORD,
    )


def test_the_artifact_of_the_prototype():
    artifact = make(form_of("osguard"))
    layers = [
        described(
            one.signature,
            "application/vnd.oci.image.layer.v1.erofs.sig",
            **{
                "image.layer.digest": one.layer,
                "image.layer.root_hash": one.root_hash.hex(),
                "image.layer.signature": base64.b64encode(one.signature).decode(),
                "signature.blob.name": f"signature_for_layer_{one.layer[7:]}.json",
            },
        )
        for one in SIGNATURES
    ]
    assert json.loads(artifact.manifest.raw) == expected(
        artifactType="application/vnd.oci.mt.pkcs7",
        config=EMPTY,
        layers=layers,
        annotations=CREATED | RECORD,
    )


def test_the_artifact_of_azure_linux():
    """notation 2.0.0~alpha.1 of Azure Linux, internal/dmverity, CreateSignatureManifest."""
    artifact = make(form_of("azurelinux"))
    layers = [
        described(
            one.signature,
            "application/vnd.cncf.notary.dmverity.layer-signature+pkcs7",
            **{
                "io.cncf.notary.dmverity.layer-digest": one.layer,
                "io.cncf.notary.dmverity.layer-roothash": one.root_hash.hex(),
                "io.cncf.notary.dmverity.layer-signature": base64.b64encode(one.signature).decode(),
            },
        )
        for one in SIGNATURES
    ]
    assert json.loads(artifact.manifest.raw) == expected(
        artifactType="application/vnd.cncf.notary.dmverity.v1",
        config=EMPTY,
        layers=layers,
        annotations=CREATED | RECORD,
    )


def test_the_artifact_of_azure_container_linux():
    """acl/SPECS/containerd2/erofs-signed-dmverity.patch, readDmverityBundleManifest."""
    artifact = make(form_of("acl"))
    source = "io.containerd.erofs.v1/dmverity.source-layer-digest"
    kind = "application/vnd.containerd.erofs."
    layers = [
        described(content, kind + media_type, **{source: one.layer}, **more)
        for one in SIGNATURES
        for content, media_type, more in (
            (f"metadata of {one.layer}".encode(), "metadata.v1", {}),
            (f"hash-file of {one.layer}".encode(), "dmverity.merkle-tree.v1", {}),
            (
                one.signature,
                "dmverity.layer-signature.v1+pkcs7",
                {"io.containerd.erofs.v1/dmverity.root-hash": one.root_hash.hex()},
            ),
        )
    ]
    assert json.loads(artifact.manifest.raw) == expected(
        artifactType=kind + "dmverity.v1",
        config=EMPTY,
        layers=layers,
        annotations=CREATED | RECORD,
    )


def test_a_layer_that_an_image_has_twice_is_once_in_the_form_of_azure_container_linux(layout):
    twice = [SIGNATURES[0], SIGNATURES[1], SIGNATURES[0]]
    manifest = put(layout, make(form_of("acl"), twice))
    assert len(manifest.layers) == 6
    assert read(layout, manifest, [one.layer for one in twice]) == SIGNATURES[:2]


@forms
def test_the_blobs_are_all_that_the_manifest_names_once(form):
    twice = [*SIGNATURES, replace(SIGNATURES[0], layer=Digest.of(b"other"))]
    artifact = make(form, twice)
    named = {one.digest for one in (artifact.manifest.config, *artifact.manifest.layers)}
    assert [Digest.of(b"".join(pieces_of(content))) for _, content in artifact.blobs] == [
        descriptor.digest for descriptor, _ in artifact.blobs
    ]
    assert sorted(named) == sorted(descriptor.digest for descriptor, _ in artifact.blobs)
    assert len(artifact.manifest.layers) == 4 * len(form.blobs)


@forms
def test_what_is_written_is_read(form, layout):
    manifest = put(layout, make(form))
    assert read(layout, manifest) == SIGNATURES
    assert recipe_of(manifest) == RECIPE


def test_the_forms_have_names():
    assert [form_of(form.name) for form in FORMS] == list(FORMS)
    with pytest.raises(
        ParameterError, match="'other': use one of notation, osguard, azurelinux, acl"
    ):
        form_of("other")


# what others may have pushed


def signature_of(form, manifest, number=1):
    """The descriptor of a layer's signature."""
    wanted = form.signature.media_type
    return [one for one in manifest.layers if one.media_type == wanted][number]


def change(manifest, one, **members):
    """The same artifact with other annotations or another type of one blob."""
    layers = [replace(one, **members) if it == one else it for it in manifest.layers]
    return make_manifest(
        layers=layers, artifact_type=manifest.artifact_type, subject=manifest.subject
    )


@forms
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "signature 1 of .* has no annotation"),
        ("", "is not a root hash"),
        ("xyz", "'xyz' is not a root hash"),
        ("AB" * 32, "not a root hash in lower-case hex digits"),
        ("ab " * 32, "not a root hash in lower-case hex digits"),
        ("abc", "'abc' is not a root hash"),
    ],
)
def test_a_root_hash_that_is_none(form, value, words, layout):
    manifest = put(layout, make(form))
    signature = signature_of(form, manifest)
    annotations = dict(signature.annotations)
    del annotations[form.signature.key("{root_hash}")]
    if value is not None:
        annotations[form.signature.key("{root_hash}")] = value
    with pytest.raises(FormatError, match=words):
        read(layout, change(manifest, signature, annotations=annotations))


@forms
@pytest.mark.parametrize("value", [None, "", "latest", "sha256:00", LAYERS[1].upper()])
def test_a_layer_digest_that_is_none(form, value, layout):
    manifest = put(layout, make(form))
    signature = signature_of(form, manifest)
    annotations = dict(signature.annotations)
    del annotations[form.signature.key("{layer}")]
    if value is not None:
        annotations[form.signature.key("{layer}")] = value
    with pytest.raises(FormatError):
        read(layout, change(manifest, signature, annotations=annotations))


@forms
def test_a_layer_of_another_type(form, layout):
    """Nodes of some forms pass over it; then the signature is missing."""
    manifest = put(layout, make(form))
    changed = change(manifest, signature_of(form, manifest), media_type="text/plain")
    expected = (
        pytest.raises(VerificationError, match=f"no signature for layer {LAYERS[1]}")
        if form.others
        else pytest.raises(FormatError, match=r"blob 1 of .* is of type text/plain, not ")
    )
    with expected:
        read(layout, changed)


ACL = form_of("acl")
METADATA, HASH_FILE = ACL.blobs[:2]


def of_kind(manifest, blob):
    return next(one for one in manifest.layers if one.media_type == blob.media_type)


@pytest.mark.parametrize("blob", [METADATA, HASH_FILE], ids=lambda blob: blob.part.value)
@pytest.mark.parametrize(
    ("members", "error", "words"),
    [
        ({"media_type": "text/plain"}, VerificationError, "has no {part} of layer {layer}"),
        ({"annotations": {}}, FormatError, "has no annotation"),
        ({"size": 0}, FormatError, "is empty"),
        (
            {"annotations": {METADATA.key("{layer}"): LAYERS[1]}},
            VerificationError,
            "several blobs {part} of layer {other}",
        ),
        (
            {"annotations": {METADATA.key("{layer}"): Digest.of(b"foreign")}},
            VerificationError,
            "no layer of the image",
        ),
        ({"digest": Digest.of(b"gone")}, NotFoundError, "there is no " + Digest.of(b"gone")),
    ],
)
def test_what_a_layer_needs_besides_its_signature(blob, members, error, words, layout):
    manifest = put(layout, make(ACL))
    wanted = words.format(part=blob.part, layer=LAYERS[0], other=LAYERS[1])
    with pytest.raises(error, match=wanted):
        read(layout, change(manifest, of_kind(manifest, blob), **members))


@pytest.mark.parametrize("name", ["containerd", "containerd-cache"])
def test_only_a_tar_index_fits_azure_container_linux(name):
    assert "tar-index" in ACL.misfit(Recipe.parse(name))
    for other in ("containerd-tar-index", "osguard"):
        assert ACL.misfit(Recipe.parse(other)) is None
    index = Recipe.parse("osguard")
    large = replace(index, params=index.params._replace(hash_block_size=4096))
    assert "blocks of 512" in ACL.misfit(large)
    assert all(form.misfit(Recipe.parse(name)) is None for form in FORMS if form != ACL)


def test_an_artifact_of_another_type(layout):
    with pytest.raises(FormatError, match="is not the type of a dm-verity artifact"):
        read(layout, push_image(layout))


@forms
def test_a_signature_that_is_not_there(form, layout):
    artifact = make(form)
    gone = signature_of(form, artifact.manifest, -1)
    for descriptor, content in artifact.blobs:
        if descriptor != gone:
            layout.push(descriptor, content)
    with pytest.raises(NotFoundError):
        read(layout, artifact.manifest)


FOREIGN = Digest.of(b"foreign")


@forms
@pytest.mark.parametrize(
    ("signed", "layers", "words"),
    [
        ((0, 1), LAYERS, f"no signature for layer {LAYERS[2]}"),
        ((), LAYERS[:1], f"no signature for layer {LAYERS[0]}"),
        ((0, 1, 2), LAYERS[:2], f"a signature for {LAYERS[2]}, which is no layer"),
        ((0, 1), [LAYERS[0], FOREIGN], f"no signature for layer {FOREIGN}; a signature for"),
        ((0, 1, 1), LAYERS[:2], "several signatures for one layer"),
        ((0, 0, 1), [LAYERS[0], LAYERS[1], LAYERS[1]], "several signatures for one layer"),
        ((0, 0), [LAYERS[0]] * 3, "several signatures for one layer"),
    ],
)
def test_one_signature_for_each_layer(form, signed, layers, words, layout):
    chosen = [SIGNATURES[number] for number in signed]
    if len(set(signed)) < len(signed):
        form = replace(form, once=False)  # what another program may write
    manifest = put(layout, make(form, chosen))
    with pytest.raises(VerificationError, match=words):
        read(layout, manifest, layers)


@forms
@pytest.mark.parametrize("signed", [(0, 1), (0, 1, 0), (1, 0, 0)])
def test_equal_layers_may_share_a_signature(form, signed, layout):
    chosen = [SIGNATURES[number] for number in signed]
    manifest = put(layout, make(form, chosen))
    wanted = list(dict.fromkeys(chosen)) if form.once else chosen
    assert read(layout, manifest, [LAYERS[0], LAYERS[1], LAYERS[0]]) == wanted


def test_a_blob_that_is_too_large_is_not_fetched(layout):
    with pytest.raises(FormatError, match="has 1048577 bytes, a signature at most 1048576"):
        fetch_blob(layout, replace(SUBJECT, size=(1 << 20) + 1))
    data = bytes(1 << 20)
    largest = Descriptor.of(data, "application/cose")
    layout.push(largest, data)
    assert fetch_blob(layout, largest) == data


# the record of the recipe


recipes = st.builds(
    lambda base, version, rule, salt: replace(
        base, mkfs_version=version, uuid=rule, params=base.params._replace(salt=salt)
    ),
    st.sampled_from(RECIPES),
    st.sampled_from(["1.8.6", "1.9.4"]),
    st.one_of(st.sampled_from(UuidRule), st.uuids()),
    st.binary(max_size=256),
)


@given(recipes)
def test_every_recipe_is_recorded_whole(recipe):
    assert recipe_of(make(FORMS[0], recipe=recipe).manifest) == recipe


def record(annotations):
    return make_manifest(layers=[], subject=SUBJECT, annotations=annotations)


def test_an_artifact_of_others_records_none():
    assert recipe_of(record({"io.cncf.notary.dm-verity.signature": "true"})) is None


MALFORMED = [
    (name, value)
    for name in RECORD
    for value in (None, "", "x", "-1", "4096 blocks")
    if value is None or not (name.endswith("name") or (name.endswith("salt") and not value))
]


@pytest.mark.parametrize(("name", "value"), MALFORMED)
def test_a_record_that_is_malformed(name, value):
    fields = {**RECORD, name: value}
    with pytest.raises(FormatError, match="recipe that the artifact records is malformed"):
        recipe_of(record({name: one for name, one in fields.items() if one is not None}))
