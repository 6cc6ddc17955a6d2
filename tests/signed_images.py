"""Signed images, and signatures that should not count: each made as a stranger could make it."""

import json
from dataclasses import replace
from datetime import timedelta

from forge import forge_jws
from helpers_pkcs7 import sign as sign_root
from helpers_pkcs7 import signer_of
from pki import DAY, NOW, Entity, make_intermediate, make_leaf, make_root

from dmsign_fast.envelope.notary import sign_manifest
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.manifest import EMPTY_JSON, OCI_MANIFEST, make_manifest, parse_manifest
from dmsign_fast.pipeline.artifact import NOTARY_TYPE, LayerSignature, make_dm_verity, make_notary
from dmsign_fast.pipeline.forms import form_of
from dmsign_fast.pipeline.sign_image import SignOptions, sign_image
from dmsign_fast.pipeline.verify_image import VerifyOptions, verify_image
from dmsign_fast.trust.verdict import trust_files

JWS, COSE = "application/jose+json", "application/cose"
DM_VERITY = "application/vnd.cncf.notary.signature.dm-verity"
LAYER, ROOT_HASH = "io.cncf.notary.layer.digest", "io.cncf.notary.dm-verity.root-hash"
RECIPE = Recipe.parse("containerd")
ROOT = make_root()
LEAF = make_leaf(make_intermediate(ROOT))
STRANGER = make_leaf(make_root("Strange Root"), "Stranger")
_OLD = {"start": NOW - 9 * DAY, "end": NOW - 2 * DAY}
EXPIRED = make_leaf(make_intermediate(ROOT), "Expired", **_OLD)
TRUST = trust_files(TrustAnchors((ROOT.certificate,)))


def sign(store, reference, entity: Entity = LEAF, *, recipe=RECIPE, **options):
    return sign_image(store, reference, signer_of(entity), SignOptions(recipe=recipe, **options))


def verify(store, reference, *, trust=TRUST, recipe=RECIPE, progress=lambda _: None, **options):
    """The verdict on the one manifest."""
    options = VerifyOptions(trust=trust, recipe=recipe, **options)
    (verdict,) = verify_image(store, reference, options, progress=progress)
    return verdict


def signatures_of(signed, entity: Entity = LEAF) -> list[LayerSignature]:
    """Those of what ``sign`` returned, by another key."""
    roots = [(Digest(one.digest), one.root_hash) for one in signed.layers]
    return [LayerSignature(layer, root, sign_root(root, entity)) for layer, root in roots]


def altered(manifest, change):
    """The manifest with its JSON changed, and so another one."""
    value = json.loads(manifest.raw)
    change(value)
    raw = json.dumps(value).encode()
    return parse_manifest(raw, Descriptor.of(raw, manifest.descriptor.media_type))


def attach(store, artifact, change=lambda _: None):
    """Push an artifact, its manifest changed or not; return the manifest."""
    for descriptor, content in artifact.blobs:
        store.push(descriptor, content)
    manifest = altered(artifact.manifest, change)
    store.attach([manifest])
    return manifest


def attach_layers(
    store, subject, signatures, change=lambda _: None, *, form="notation", recipe=RECIPE
):
    artifact = make_dm_verity(form_of(form), subject.plain(), signatures, recipe)
    return attach(store, artifact, change)


def attach_notary(
    store, subject, envelope=None, change=lambda _: None, *, entity=LEAF, media_type=JWS, **claims
):
    if envelope is None:
        envelope = sign_manifest(
            subject.plain().to_json(), signer_of(entity), media_type=media_type, **claims
        )
    chain = entity.chain
    artifact = make_notary(subject.plain(), envelope, media_type, chain, NOW, legacy=True)
    return attach(store, artifact, change)


def attach_raw(store, raw: bytes, artifact_type: str):
    """List bytes in the index of a layout that are no manifest, or none that can be read."""
    entry = Descriptor.of(raw, OCI_MANIFEST, artifact_type=artifact_type)
    store.push(entry, raw)
    path = store.path / "index.json"
    index = json.loads(path.read_text())
    index["manifests"].append(entry.to_json())
    path.write_text(json.dumps(index))
    return entry


def blob_path(store, descriptor):
    return store.path / "blobs" / descriptor.digest.replace(":", "/")


def _damage(store, manifest):
    path = blob_path(store, manifest.layers[0])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _own_notary(store, subject):
    """A signature whose blob nothing else shares."""
    files = len(list(store.path.rglob("*")))
    return attach_notary(store, subject, user_metadata={"which": str(files)})


def _damaged_notary(store, subject, _):
    _damage(store, _own_notary(store, subject))


def _missing_notary(store, subject, _):
    blob_path(store, _own_notary(store, subject).layers[0]).unlink()


def _damaged_manifest(store, subject, _):
    path = blob_path(store, _own_notary(store, subject).descriptor)
    path.write_bytes(path.read_bytes().replace(b"config", b"gonfic"))


def _over_another(store, subject, _):
    other = replace(subject.plain(), digest=Digest.of(b"another"))
    attach_notary(store, subject, forge_jws(LEAF, other.to_json()))


def _of_another_size(store, subject, _):
    other = replace(subject.plain(), size=subject.size + 1)
    attach_notary(store, subject, forge_jws(LEAF, other.to_json()))


def _no_longer_valid(store, subject, _):
    hour = timedelta(hours=1)
    attach_notary(store, subject, signing_time=NOW - 3 * hour, expiry=NOW - hour)


def _by_expired(store, subject, _):
    attach_notary(store, subject, forge_jws(EXPIRED, subject.plain().to_json()), entity=EXPIRED)


def _by_stranger(store, subject, _):
    attach_notary(store, subject, entity=STRANGER)


def _two_envelopes(store, subject, _):
    attach_notary(store, subject, None, lambda one: one["layers"].append(one["layers"][0]))


def _no_envelope(store, subject, _):
    attach_notary(store, subject, None, lambda one: one["layers"].clear())


def _huge_envelope(store, subject, _):
    attach_notary(store, subject, b"{" + b" " * (1 << 20))


def _huge_claim(store, subject, _):
    attach_notary(store, subject, None, lambda one: one["layers"][0].update(size=1 << 60))


def _not_json(store, subject, _):
    attach_notary(store, subject, b"\x1b[2J")


def _cose_that_is_jws(store, subject, _):
    envelope = forge_jws(LEAF, subject.plain().to_json())
    attach_notary(store, subject, envelope, media_type=COSE)


def _unknown_envelope(store, subject, _):
    attach_notary(store, subject, None, lambda one: one["layers"][0].update(mediaType="text/plain"))


def _nested(store, subject, _):
    deep: dict = {}
    for _level in range(300):
        deep = {"a": deep}
    attach_notary(store, subject, forge_jws(STRANGER, subject.plain().to_json() | {"x": deep}))


def _infinite(store, subject, _):
    target = json.dumps({"targetArtifact": subject.plain().to_json() | {"x": 7}})
    payload = target.replace("7}}", "1e999}}").encode()
    attach_notary(store, subject, forge_jws(STRANGER, {}, payload=payload))


def _hostile_manifest(store, subject, _):
    head = b'{"schemaVersion":2,"subject":' + json.dumps(subject.plain().to_json()).encode()
    attach_raw(store, head + b',"layers":[],"layers":[]}', NOTARY_TYPE)


def _manifest_without_config(store, subject, _):
    value = {"schemaVersion": 2, "subject": subject.plain().to_json(), "layers": []}
    attach_raw(store, json.dumps(value).encode(), DM_VERITY)


def _notary_called_dm_verity(store, subject, _):
    attach_notary(store, subject, None, lambda one: one.update(artifactType=DM_VERITY))


def _dm_verity_called_notary(store, subject, signed):
    signatures = signatures_of(signed)
    attach_layers(store, subject, signatures, lambda one: one.update(artifactType=NOTARY_TYPE))


def _missing_layer(store, subject, signed):
    attach_layers(store, subject, signatures_of(signed)[1:])


def _extra_layer(store, subject, signed):
    signatures = signatures_of(signed)
    more = replace(signatures[0], layer=Digest.of(b"another"))
    attach_layers(store, subject, [*signatures, more])


def _two_for_one_layer(store, subject, signed):
    signatures = signatures_of(signed)
    attach_layers(store, subject, [*signatures, signatures[0]])


def _no_layers(store, subject, _):
    attach_layers(store, subject, [])


def _annotated(name, value):
    """An artifact of which one layer has another annotation."""

    def make(store, subject, signed):
        def change(manifest):
            annotations = manifest["layers"][0]["annotations"]
            annotations.pop(name)
            if value is not None:
                annotations[name] = value

        attach_layers(store, subject, signatures_of(signed), change)

    return make


def _upper_case(store, subject, signed):
    def change(manifest):
        annotations = manifest["layers"][0]["annotations"]
        annotations[ROOT_HASH] = annotations[ROOT_HASH].upper()

    attach_layers(store, subject, signatures_of(signed), change)


def _over_another_root_hash(store, subject, signed):
    attach_layers(
        store,
        subject,
        signatures_of(signed),
        lambda one: one["layers"][1]["annotations"].update({ROOT_HASH: "ab" * 32}),
    )


def _layers_by_stranger(store, subject, signed):
    attach_layers(store, subject, signatures_of(signed, STRANGER))


def _one_by_stranger(store, subject, signed):
    attach_layers(
        store, subject, [*signatures_of(signed)[:-1], signatures_of(signed, STRANGER)[-1]]
    )


def _damaged_pkcs7(store, subject, signed):
    signatures = signatures_of(signed, make_leaf(ROOT, "damaged"))
    _damage(store, attach_layers(store, subject, signatures))


def _missing_pkcs7(store, subject, signed):
    signatures = signatures_of(signed, make_leaf(ROOT, "missing"))
    blob_path(store, attach_layers(store, subject, signatures).layers[-1]).unlink()


def _not_pkcs7(store, subject, signed):
    first, *rest = signatures_of(signed)
    attach_layers(store, subject, [replace(first, signature=b"0\x80\x1b[2J"), *rest])


def _huge_pkcs7(store, subject, signed):
    first, *rest = signatures_of(signed)
    attach_layers(store, subject, [replace(first, signature=bytes(1 << 20) + b"1"), *rest])


def _wrong_blob_type(store, subject, signed):
    signatures = signatures_of(signed)
    kind = {"mediaType": "application/octet-stream"}
    attach_layers(store, subject, signatures, lambda one: one["layers"][0].update(kind))


def _odd_recipe(name, value):
    def make(store, subject, signed):
        record = {f"dmsign-fast.recipe.{name}": value}
        signatures = signatures_of(signed)
        attach_layers(store, subject, signatures, lambda one: one["annotations"].update(record))

    return make


def _copy_that_lies(store, subject, signed):
    lie = {"image.layer.signature": "QUFB"}
    attach_layers(
        store,
        subject,
        signatures_of(signed),
        lambda one: one["layers"][0]["annotations"].update(lie),
        form="osguard",
    )


# What it is: the kind it is reported as, words of the reason, and how it is made from the store,
# the image's descriptor and what was signed there.
BAD = {
    "a damaged envelope": ("notary", "has another digest", _damaged_notary),
    "a missing envelope": ("notary", "there is no", _missing_notary),
    "a damaged manifest": ("notary", "has another digest", _damaged_manifest),
    "an envelope over another manifest": ("notary", "for another artifact", _over_another),
    "an envelope over another size": ("notary", "its size is", _of_another_size),
    "an expired envelope": ("notary", "expired on", _no_longer_valid),
    "an expired certificate": ("notary", "Expired", _by_expired),
    "a stranger": ("notary", "Strange Root", _by_stranger),
    "two envelopes": ("notary", "this has 2", _two_envelopes),
    "no envelope": ("notary", "this has 0", _no_envelope),
    "a huge envelope": ("notary", "a signature at most", _huge_envelope),
    "an envelope said to be huge": ("notary", "a signature at most", _huge_claim),
    "an envelope that is no JSON": ("notary", "JSON", _not_json),
    "JWS said to be COSE": ("notary", "COSE", _cose_that_is_jws),
    "an unknown envelope": ("notary", "text/plain", _unknown_envelope),
    "a nested envelope": ("notary", "too deeply", _nested),
    "an infinite number": ("notary", "JSON", _infinite),
    "a manifest with a name twice": ("notary", "more than once", _hostile_manifest),
    "a manifest without a config": ("dm-verity", "config", _manifest_without_config),
    "a notary called dm-verity": ("dm-verity", "is of type", _notary_called_dm_verity),
    "a dm-verity called notary": ("notary", "one envelope", _dm_verity_called_notary),
    "a layer less": ("dm-verity", "no signature for layer", _missing_layer),
    "a layer more": ("dm-verity", "no layer of the image", _extra_layer),
    "two for one layer": ("dm-verity", "several signatures", _two_for_one_layer),
    "none at all": ("dm-verity", "no signature for layer", _no_layers),
    "an upper-case root hash": ("dm-verity", "lower-case", _upper_case),
    "no root hash": ("dm-verity", "has no annotation", _annotated(ROOT_HASH, None)),
    "an empty root hash": ("dm-verity", "is not a root hash", _annotated(ROOT_HASH, "")),
    "a long root hash": ("dm-verity", "is not a root hash", _annotated(ROOT_HASH, "ab" * 65)),
    "a root hash like text": ("dm-verity", "hex text", _annotated(ROOT_HASH, "30" * 32)),
    "a root hash and a line": ("dm-verity", "not a root", _annotated(ROOT_HASH, "ab" * 32 + "\n")),
    "no layer digest": ("dm-verity", "has no annotation", _annotated(LAYER, None)),
    "no digest": ("dm-verity", "is not a digest", _annotated(LAYER, "sha256:\x1b[2J")),
    "another root hash": ("dm-verity", "not over this root hash", _over_another_root_hash),
    "layers by a stranger": ("dm-verity", "not trusted", _layers_by_stranger),
    "one layer by a stranger": ("dm-verity", "not trusted", _one_by_stranger),
    "a damaged PKCS#7": ("dm-verity", "has another digest", _damaged_pkcs7),
    "a missing PKCS#7": ("dm-verity", "there is no", _missing_pkcs7),
    "no PKCS#7": ("dm-verity", "not DER", _not_pkcs7),
    "a huge PKCS#7": ("dm-verity", "a signature at most", _huge_pkcs7),
    "an unknown type of blob": ("dm-verity", "octet-stream", _wrong_blob_type),
    "a recipe in part": ("dm-verity", "malformed", _odd_recipe("salt", "zz")),
    "an unknown mkfs": ("dm-verity", "mkfs.erofs", _odd_recipe("mkfs-version", "0.1")),
    "an annotation that lies": ("dm-verity", "is not blob", _copy_that_lies),
}


def push_empty(store, tag=None):
    """A container image without layers."""
    raw = json.dumps({"rootfs": {"type": "layers", "diff_ids": []}}).encode()
    config = Descriptor.of(raw, "application/vnd.oci.image.config.v1+json")
    store.push(config, raw)
    manifest = make_manifest(config=config, layers=[])
    store.push(manifest.descriptor, manifest.raw)
    store.push(Descriptor.of(EMPTY_JSON, "application/vnd.oci.empty.v1+json"), EMPTY_JSON)
    if tag:
        store.tag(manifest, tag)
    return manifest


def remove(store, *descriptors):
    """Take artifacts out of the index of a layout."""
    path = store.path / "index.json"
    index = json.loads(path.read_text())
    gone = {one.digest for one in descriptors}
    index["manifests"] = [one for one in index["manifests"] if one["digest"] not in gone]
    path.write_text(json.dumps(index))


def accepted(verdict):
    return {one.digest for one in verdict.referrers if one.accepted}


def refused(verdict):
    return [one for one in verdict.referrers if not one.accepted]
