"""The forms of the dm-verity artifact, as nodes and programs read them: one table, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dmsign_fast.errors import ParameterError

__all__ = [
    "FORMS",
    "LAYER",
    "ROOT_HASH",
    "SIGNATURE",
    "Blob",
    "Form",
    "Part",
    "form_of",
    "form_of_type",
]

# Values of annotations that a reader looks for, see Blob.
LAYER = "{layer}"
ROOT_HASH = "{root_hash}"
SIGNATURE = "{base64}"


class Part(StrEnum):
    """What a blob holds of a layer."""

    SIGNATURE = "signature"
    """The PKCS#7 over the root hash, in DER."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A blob that a form has for each layer.

    Attributes:
        part: what it holds.
        media_type: of its descriptor.
        annotations: of its descriptor. In the values stand ``{layer}``, the layer's digest;
            ``{hex}``, the same without the algorithm; ``{root_hash}``; ``{base64}``, of the PKCS#7;
            ``{number}``, of the layer, from 0.
    """

    part: Part
    media_type: str
    annotations: Mapping[str, str]

    def key(self, value: str) -> str | None:
        """The name of the annotation with such a value; None if there is none."""
        return next((name for name, one in self.annotations.items() if one == value), None)


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a dm-verity artifact is written.

    Attributes:
        name: as users give it.
        artifact_type: of the manifest.
        blobs: for each layer, in this order; one of them is the signature.
        annotations: of the manifest.
    """

    name: str
    artifact_type: str
    blobs: tuple[Blob, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def signature(self) -> Blob:
        """The blob of the PKCS#7."""
        return next(blob for blob in self.blobs if blob.part is Part.SIGNATURE)


FORMS = (
    # notaryproject/notation, specs/proposals/dm-verity.md
    Form(
        name="notation",
        artifact_type="application/vnd.cncf.notary.signature.dm-verity",
        annotations={"io.cncf.notary.dm-verity.signature": "true"},
        blobs=(
            Blob(
                part=Part.SIGNATURE,
                media_type="application/pkcs7-signature",
                annotations={
                    "io.cncf.notary.layer.digest": LAYER,
                    "io.cncf.notary.dm-verity.root-hash": ROOT_HASH,
                    "org.opencontainers.image.title": "layer-{number}.pkcs7.sig",
                },
            ),
        ),
    ),
    # the prototype of that proposal, and the tardev snapshotter
    Form(
        name="osguard",
        artifact_type="application/vnd.oci.mt.pkcs7",
        blobs=(
            Blob(
                part=Part.SIGNATURE,
                media_type="application/vnd.oci.image.layer.v1.erofs.sig",
                annotations={
                    "image.layer.digest": LAYER,
                    "image.layer.root_hash": ROOT_HASH,
                    "image.layer.signature": SIGNATURE,
                    "signature.blob.name": "signature_for_layer_{hex}.json",
                },
            ),
        ),
    ),
)


def form_of(name: str) -> Form:
    """The form of that name; ParameterError, with those there are, without one."""
    for form in FORMS:
        if form.name == name:
            return form
    known = ", ".join(form.name for form in FORMS)
    raise ParameterError(f"no dm-verity artifact is called {name!r}: use one of {known}")


def form_of_type(artifact_type: str | None) -> Form | None:
    """The form of that artifact type, if there is one."""
    return next((form for form in FORMS if form.artifact_type == artifact_type), None)
