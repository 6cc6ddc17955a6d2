"""The artifacts that refer to an image and hold its signatures: made, and taken apart.

The dm-verity artifact has one of several forms, see ``forms``. The Notary Project signature is that
of its specification (signature-specification.md, "OCI Signatures").
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dmsign_fast.errors import FormatError, NotFoundError, ParameterError, VerificationError
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.manifest import EMPTY_CONFIG, EMPTY_JSON, Index, Manifest, make_manifest
from dmsign_fast.pipeline.forms import FORMS, LAYER, ROOT_HASH, SIGNATURE, Part, form_of_type

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from cryptography import x509

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.oci.store import Content, Referrers, Store
    from dmsign_fast.pipeline.forms import Form
    from dmsign_fast.pipeline.layer_file import LayerBlob

__all__ = [
    "CREATED",
    "NOTARY_TYPE",
    "Artifact",
    "LayerSignature",
    "blobs_of",
    "fetch_blob",
    "kind_of",
    "kind_of_type",
    "make_dm_verity",
    "make_notary",
    "read_dm_verity",
    "recipe_of",
    "rfc_3339",
    "signatures_of",
]

NOTARY_TYPE = "application/vnd.cncf.notary.signature"
_SIGNATURE_TYPES = (NOTARY_TYPE, *(form.artifact_type for form in FORMS))
_THUMBPRINTS = "io.cncf.notary.x509chain.thumbprint#S256"
CREATED = "org.opencontainers.image.created"
_OURS = "dmsign-fast.recipe."
_ROOT_HASH = re.compile("[0-9a-f]{64}")  # every recipe has SHA-256
# Of a signature or an envelope, before it is fetched: a chain of RSA-4096 has less than 10 KiB.
_BLOB_LIMIT = 1 << 20


@dataclass(frozen=True)
class LayerSignature:
    """The signature of one layer: ``signature`` is the DER over ``root_hash``, which is raw."""

    layer: Digest
    root_hash: bytes
    signature: bytes


@dataclass(frozen=True)
class Artifact:
    """A manifest and the blobs that it needs: those go first."""

    manifest: Manifest
    blobs: tuple[tuple[Descriptor, Content], ...]


def kind_of(referrer: Manifest | Index) -> str | None:
    """What a referrer is: ``notary``, ``dm-verity``, or nothing of ours."""
    if isinstance(referrer, Index):
        return None
    return kind_of_type(referrer.artifact_type or referrer.config.media_type)


def kind_of_type(artifact_type: str | None) -> str | None:
    """The same of its artifact type."""
    if artifact_type == NOTARY_TYPE:
        return "notary"
    return "dm-verity" if form_of_type(artifact_type) else None


def signatures_of(store: Store, subject: Descriptor) -> Referrers:
    """What refers to a manifest; where that is too much, what is listed as a signature."""
    found = store.referrers(subject)
    return store.referrers(subject, *_SIGNATURE_TYPES) if found.cut else found


def make_dm_verity(
    form: Form,
    subject: Descriptor,
    signatures: Sequence[LayerSignature],
    recipe: Recipe,
    *,
    blobs: Mapping[Digest, Mapping[Part, LayerBlob]] | None = None,
    created: datetime | None = None,
) -> Artifact:
    """The artifact of the signatures of all layers, in the order of the layers.

    Args:
        form: how it is written.
        subject: the image.
        signatures: of all layers.
        recipe: is recorded.
        blobs: of each layer, by its digest: what the form has besides signatures.
        created: by default now.
    """
    contents: dict[Digest, tuple[Descriptor, Content]] = {}
    layers = []
    for number, one in enumerate(dict.fromkeys(signatures) if form.once else signatures):
        values = {
            "layer": one.layer,
            "hex": one.layer.encoded,
            "root_hash": one.root_hash.hex(),
            "base64": base64.b64encode(one.signature).decode(),
            "number": number,
        }
        for blob in form.blobs:
            annotations = {
                name: value.format_map(values) for name, value in blob.annotations.items()
            }
            if blob.part is Part.SIGNATURE:
                content: Content = one.signature
                described = Descriptor.of(one.signature, blob.media_type, annotations=annotations)
            else:
                assert blobs is not None  # noqa: S101
                made = blobs[one.layer][blob.part]
                content = made.content
                described = Descriptor(blob.media_type, made.digest, made.size, annotations)
            layers.append(described)
            contents[described.digest] = (described, content)
    manifest = make_manifest(
        layers=layers,
        artifact_type=form.artifact_type,
        subject=subject,
        annotations={
            **form.annotations,
            **_record(recipe),
            CREATED: rfc_3339(created or datetime.now(UTC)),
        },
    )
    return Artifact(manifest, ((EMPTY_CONFIG, EMPTY_JSON), *contents.values()))


def rfc_3339(time: datetime) -> str:
    """A time as annotations have it, in whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _record(recipe: Recipe) -> dict[str, str]:
    return {f"{_OURS}{name}": value for name, value in recipe.fields().items()}


def recipe_of(manifest: Manifest | Descriptor) -> Recipe | None:
    """The recipe that an artifact of ours records, or a list of referrers; None if it records none.

    Raises:
        FormatError: what it records is no recipe.
    """
    from dmsign_fast.erofs.recipe import Recipe

    fields = {
        name.removeprefix(_OURS): value
        for name, value in manifest.annotations.items()
        if name.startswith(_OURS)
    }
    if not fields:
        return None
    try:
        return Recipe.from_fields(fields)
    except (ParameterError, KeyError, ValueError) as error:
        raise FormatError(f"the recipe that the artifact records is malformed: {error}") from error


def fetch_blob(store: Store, descriptor: Descriptor) -> bytes:
    """A signature or envelope, verified; FormatError if it is too large to be one."""
    if descriptor.size > _BLOB_LIMIT:
        raise FormatError(
            f"{descriptor.digest} has {descriptor.size} bytes, a signature at most {_BLOB_LIMIT}"
        )
    return b"".join(store.fetch(descriptor))


def read_dm_verity(
    store: Store, manifest: Manifest, layers: Sequence[Digest]
) -> tuple[LayerSignature, ...]:
    """The signatures in a dm-verity artifact, none of them believed yet.

    Args:
        store: where its blobs are.
        manifest: the artifact's.
        layers: of the image: there must be one signature for each, and none for others.

    Raises:
        FormatError: an annotation is missing or malformed.
        VerificationError: a layer has no signature, or several, or one is for another layer; or
            there are no layers, and so no signature of anybody.
    """
    form = form_of_type(manifest.referrer.artifact_type)
    if form is None:
        raise FormatError(
            f"{manifest.referrer.artifact_type} is not the type of a dm-verity artifact"
        )
    _check_types(form, manifest)
    kind = form.signature.media_type
    signatures = [one for one in manifest.layers if one.media_type == kind]
    claims = [
        _claim(form, f"signature {number} of {manifest.descriptor.digest}", one)
        for number, one in enumerate(signatures)
    ]
    _check_layers(claims, layers)
    for parts in blobs_of(form, manifest, set(layers)).values():
        for one in parts.values():
            if not store.exists(one):
                raise NotFoundError(
                    f"there is no {one.digest}, which {manifest.descriptor.digest} names"
                )
    return tuple(
        LayerSignature(layer, root_hash, _signature(store, form, one))
        for (layer, root_hash), one in zip(claims, signatures, strict=True)
    )


def _check_types(form: Form, manifest: Manifest) -> None:
    """Raise FormatError for a blob that is none of the form's, unless nodes pass over it."""
    known = [blob.media_type for blob in form.blobs]
    for number, one in enumerate(manifest.layers):
        if one.media_type not in known and not form.others:
            raise FormatError(
                f"blob {number} of {manifest.descriptor.digest} is of type {one.media_type}, not "
                + " or ".join(known)
            )


def blobs_of(
    form: Form, manifest: Manifest, layers: Collection[Digest]
) -> dict[Digest, dict[Part, Descriptor]]:
    """What an artifact has of each layer besides its signature; nothing for most forms.

    Raises:
        FormatError: a blob is empty, or does not say which layer it is of.
        VerificationError: a layer lacks one, has two, or one is of another layer.
    """
    parts = {blob.media_type: blob for blob in form.blobs if blob.part in form.parts}
    found: dict[Digest, dict[Part, Descriptor]] = {layer: {} for layer in layers}
    for one in manifest.layers:
        if (blob := parts.get(one.media_type)) is None:
            continue
        key = str(blob.key(LAYER))
        if key not in one.annotations or not one.size:
            raise FormatError(f"blob {one.digest} is empty, or has no annotation {key!r}")
        layer = Digest(one.annotations[key])
        if layer not in found:
            raise VerificationError(
                f"the artifact has a blob of {layer}, which is no layer of the image"
            )
        if blob.part in found[layer]:
            raise VerificationError(f"the artifact has several blobs {blob.part} of layer {layer}")
        found[layer][blob.part] = one
    for layer, has in found.items():
        if missing := sorted(form.parts - has.keys()):
            raise VerificationError(f"the artifact has no {', '.join(missing)} of layer {layer}")
    return found


def _claim(form: Form, what: str, described: Descriptor) -> tuple[Digest, bytes]:
    """The layer and the root hash that a signature is said to be for."""
    wanted = form.signature
    values = {value: described.annotations.get(name) for name, value in wanted.annotations.items()}
    for value in (LAYER, ROOT_HASH):
        if values[value] is None:
            raise FormatError(f"{what} has no annotation {wanted.key(value)!r}")
    layer, root_hash = Digest(str(values[LAYER])), str(values[ROOT_HASH])
    if not _ROOT_HASH.fullmatch(root_hash):
        raise FormatError(f"{what}: {root_hash!r} is not a root hash in lower-case hex digits")
    return layer, bytes.fromhex(root_hash)


def _check_layers(claims: Sequence[tuple[Digest, bytes]], layers: Sequence[Digest]) -> None:
    counted, wanted = Counter(layer for layer, _ in claims), Counter(layers)
    if not wanted:
        raise VerificationError("the image has no layers, so that nothing is signed")
    # equal layers of an image may share one signature
    if counted not in (wanted, Counter(set(layers))):
        missing = sorted(set(wanted) - set(counted))
        foreign = sorted(set(counted) - set(wanted))
        raise VerificationError(
            "the artifact has "
            + "; ".join(
                [f"no signature for layer {one}" for one in missing]
                + [f"a signature for {one}, which is no layer of the image" for one in foreign]
                or ["several signatures for one layer"]
            )
        )
    if len(set(claims)) > len(counted):
        raise VerificationError("the artifact has several root hashes for one layer")


def _signature(store: Store, form: Form, described: Descriptor) -> bytes:
    signature = fetch_blob(store, described)
    # some nodes take the blob, some its copy in the annotation
    name = form.signature.key(SIGNATURE)
    copy = described.annotations.get(name) if name else None
    if copy not in (None, base64.b64encode(signature).decode()):
        raise FormatError(f"annotation {name} is not blob {described.digest}")
    return signature


def make_notary(
    subject: Descriptor,
    envelope: bytes,
    media_type: str,
    chain: Sequence[x509.Certificate],
    signing_time: datetime,
    *,
    legacy: bool,
    annotations: Mapping[str, str] | None = None,
) -> Artifact:
    """The artifact of a Notary Project signature.

    ``legacy`` is the form without an artifact type, which is the only one that notation finds in
    an OCI layout. ``annotations`` join those that it has, and replace none.
    """
    from cryptography.hazmat.primitives.hashes import SHA256

    thumbprints = [one.fingerprint(SHA256()).hex() for one in chain]
    layer = Descriptor.of(envelope, media_type)
    config = Descriptor.of(EMPTY_JSON, NOTARY_TYPE) if legacy else EMPTY_CONFIG
    manifest = make_manifest(
        layers=[layer],
        config=config,
        artifact_type=None if legacy else NOTARY_TYPE,
        subject=subject,
        annotations={
            **(annotations or {}),
            _THUMBPRINTS: json.dumps(thumbprints, separators=(",", ":")),
            CREATED: rfc_3339(signing_time),
        },
    )
    return Artifact(manifest, ((config, EMPTY_JSON), (layer, envelope)))
