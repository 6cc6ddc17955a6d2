"""The forms of the dm-verity artifact, as nodes and programs read them: one table, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from dmsign_fast.erofs.recipe import ImageLayout
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    from dmsign_fast.erofs.recipe import Recipe

__all__ = [
    "FORMS",
    "LAYER",
    "ROOT_HASH",
    "SIGNATURE",
    "BlobKind",
    "Form",
    "Part",
    "Several",
    "form_of",
    "form_of_type",
]

# Values of annotations that a reader looks for, see BlobKind.
LAYER = "{layer}"
ROOT_HASH = "{root_hash}"
SIGNATURE = "{base64}"


class Part(StrEnum):
    """What a blob holds of a layer."""

    SIGNATURE = "signature"
    """The PKCS#7 over the root hash, in DER."""
    METADATA = "metadata"
    """The EROFS metadata of a tar index, which stands in front of the tar."""
    HASH_FILE = "hash-file"
    """The dm-verity superblock and the hash area."""


class Several(StrEnum):
    """What a node does with several artifacts of a form for one image."""

    UNKNOWN = "no node reads the form yet"
    NEWEST = "a node takes the newest by org.opencontainers.image.created"
    REFUSED = "a node refuses the image"


@dataclass(frozen=True, kw_only=True)
class BlobKind:
    """A kind of blob, which a form has one of for each layer.

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
        annotations: of the manifest, besides the time and the recipe, which all have.
        layouts: of the images that a node of this form mounts.
        several: what a node does with several artifacts of this form.
        once: a layer that an image has twice has its blobs once; otherwise twice.
        others: a node passes over blobs of other media types; otherwise they are an error.
        keeps: a node that has a layer refuses images with another root hash for it.
    """

    name: str
    artifact_type: str
    blobs: tuple[BlobKind, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    layouts: tuple[ImageLayout, ...] = tuple(ImageLayout)
    several: Several = Several.UNKNOWN
    once: bool = False
    others: bool = False
    keeps: bool = False

    @property
    def signature(self) -> BlobKind:
        """The blob of the PKCS#7."""
        return next(blob for blob in self.blobs if blob.part is Part.SIGNATURE)

    @property
    def parts(self) -> frozenset[Part]:
        """What a layer must be read for: all blobs but the signature."""
        return frozenset(blob.part for blob in self.blobs) - {Part.SIGNATURE}

    def misfit(self, recipe: Recipe) -> str | None:
        """Why a node of this form cannot mount what a recipe makes; None if it can."""
        if recipe.layout not in self.layouts:
            names = " or ".join(layout.value for layout in self.layouts)
            return (
                f"the form {self.name} is for images of the layout {names}, and the recipe "
                f"{recipe.name} makes {recipe.layout.value}"
            )
        params = recipe.params
        largest = max(params.data_block_size, params.hash_block_size)
        if self.parts and largest > recipe.layout.block_size:
            return (
                f"the form {self.name} needs hash trees of blocks of {recipe.layout.block_size} "
                f"bytes, and the recipe has {largest}"
            )
        return None


_ACL = "application/vnd.containerd.erofs"
_ACL_LAYER = {"io.containerd.erofs.v1/dmverity.source-layer-digest": LAYER}

FORMS = (
    # notaryproject/notation, specs/proposals/dm-verity.md
    Form(
        name="notation",
        artifact_type="application/vnd.cncf.notary.signature.dm-verity",
        annotations={"io.cncf.notary.dm-verity.signature": "true"},
        blobs=(
            BlobKind(
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
    # the prototype of that proposal, the tardev snapshotter, and a branch of containerd
    Form(
        name="osguard",
        artifact_type="application/vnd.oci.mt.pkcs7",
        several=Several.NEWEST,
        blobs=(
            BlobKind(
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
    # Azure Linux: notation 2.0.0~alpha.1, internal/dmverity, and its containerd2
    Form(
        name="azurelinux",
        artifact_type="application/vnd.cncf.notary.dmverity.v1",
        several=Several.NEWEST,
        others=True,
        blobs=(
            BlobKind(
                part=Part.SIGNATURE,
                media_type="application/vnd.cncf.notary.dmverity.layer-signature+pkcs7",
                annotations={
                    "io.cncf.notary.dmverity.layer-digest": LAYER,
                    "io.cncf.notary.dmverity.layer-roothash": ROOT_HASH,
                    "io.cncf.notary.dmverity.layer-signature": SIGNATURE,
                },
            ),
        ),
    ),
    # Azure Container Linux: acl/SPECS/containerd2/erofs-signed-dmverity.patch
    Form(
        name="acl",
        artifact_type=f"{_ACL}.dmverity.v1",
        layouts=(ImageLayout.TAR_INDEX,),
        several=Several.REFUSED,
        once=True,
        others=True,
        keeps=True,
        blobs=(
            BlobKind(part=Part.METADATA, media_type=f"{_ACL}.metadata.v1", annotations=_ACL_LAYER),
            BlobKind(
                part=Part.HASH_FILE,
                media_type=f"{_ACL}.dmverity.merkle-tree.v1",
                annotations=_ACL_LAYER,
            ),
            BlobKind(
                part=Part.SIGNATURE,
                media_type=f"{_ACL}.dmverity.layer-signature.v1+pkcs7",
                annotations={**_ACL_LAYER, "io.containerd.erofs.v1/dmverity.root-hash": ROOT_HASH},
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
