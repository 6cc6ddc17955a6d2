"""Root hashes that were signed before, so that their layers need no conversion.

A dm-verity artifact counts here only if a Notary Project signature by the same signer, over the
image that it refers to, binds layers and root hashes, see ``binding``. That image, whose digest is
signed, vouches for the size, media type and diff ID of each layer: they were checked before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dmsign_fast.envelope.pkcs7 import verify_root_hash
from dmsign_fast.errors import FormatError, NotFoundError, ParameterError, VerificationError
from dmsign_fast.oci.descriptor import Descriptor
from dmsign_fast.oci.manifest import Index, Manifest
from dmsign_fast.oci.store import refers_to
from dmsign_fast.pipeline.artifact import (
    blobs_of,
    fetch_blob,
    kind_of,
    read_dm_verity,
    signatures_of,
)
from dmsign_fast.pipeline.binding import bound_by, digest_of_roots
from dmsign_fast.pipeline.forms import form_of_type
from dmsign_fast.pipeline.image import ImageLayer, image_layers, is_image
from dmsign_fast.pipeline.published import check_published
from dmsign_fast.pipeline.strangers import Judgement
from dmsign_fast.trust.verdict import envelope_verdict, trust_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dmsign_fast.envelope.trust import TrustAnchors
    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.oci.descriptor import Digest
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.forms import Part

__all__ = ["MOST_MANIFESTS", "Reused", "find_root_hashes"]

# Of images and their referrers together, to be read: a repository may have any number of them.
MOST_MANIFESTS = 1000
_UNUSABLE = (FormatError, VerificationError, NotFoundError, ParameterError)


class Reused(NamedTuple):
    """A root hash, the dm-verity artifact that has it, and what else that has of the layer."""

    root_hash: bytes
    artifact: Digest
    blobs: Mapping[Part, Descriptor]


def find_root_hashes(
    store: Store,
    images: Sequence[Manifest],
    layers: Iterable[ImageLayer],
    recipe: Recipe,
    anchors: TrustAnchors,
    reference: str | None = None,
    parts: frozenset[Part] = frozenset(),
) -> dict[ImageLayer, Reused]:
    """The layers whose root hashes were signed before, as far as they are found.

    What is broken, foreign or gone is passed over.

    Args:
        store: looked through, for up to ``MOST_MANIFESTS``.
        images: where to look first.
        layers: of these images.
        recipe: that the root hashes must be of.
        anchors: the signers who count.
        reference: a tag or digest to look at, instead of all that the store lists.
        parts: what else an artifact must have of a layer; the root hash covers it.

    Raises:
        NotFoundError: the reference names nothing.
        StorageError, RegistryError: the store cannot tell.
    """
    search = _Search(store, recipe, anchors, parts)
    missing = set(layers)
    found: dict[ImageLayer, Reused] = {}
    for manifest in search.manifests(images, reference):
        if not missing:
            break
        wanted = {layer.descriptor.digest for layer in missing}
        if (
            isinstance(manifest, Manifest)
            and is_image(manifest)
            and not wanted.isdisjoint(layer.digest for layer in manifest.layers)
        ):
            known = search.root_hashes(manifest)
            found |= {layer: known[layer] for layer in known.keys() & missing}
            missing -= known.keys()
    return found


class _Search:
    def __init__(
        self, store: Store, recipe: Recipe, anchors: TrustAnchors, parts: frozenset[Part]
    ) -> None:
        self._store, self._recipe, self._anchors = store, recipe, anchors
        self._parts = parts
        self._left = MOST_MANIFESTS
        self._seen: set[str] = set()

    def manifests(
        self, images: Sequence[Manifest], reference: str | None
    ) -> Iterator[Manifest | Index]:
        """The images, and then what the reference names or the store lists, the last first."""
        self._seen.update(image.descriptor.digest for image in images)
        yield from images
        if reference is not None:
            yield from self._each([self._store.resolve(reference).descriptor])
        else:
            yield from self._each(reversed(self._store.references()))

    def _each(self, begin: Iterable[Descriptor | str]) -> Iterator[Manifest | Index]:
        """All of these, what they list and what they refer to, each once."""
        for one in begin:
            waiting = [one]
            while waiting:
                what = waiting.pop()
                if (what.digest if isinstance(what, Descriptor) else what) in self._seen:
                    continue
                manifest = self._fetch(what)
                if manifest is None or manifest.descriptor.digest in self._seen:
                    continue
                self._seen.add(manifest.descriptor.digest)
                yield manifest
                if isinstance(manifest, Index):
                    waiting += manifest.manifests
                if manifest.subject:  # which need not be listed itself
                    waiting.append(manifest.subject)

    def _fetch(self, what: Descriptor | str) -> Manifest | Index | None:
        if not self._left:
            return None
        self._left -= 1
        try:
            if isinstance(what, Descriptor):
                return self._store.fetch_manifest(what)
            return self._store.resolve(what)
        except _UNUSABLE:
            return None

    def root_hashes(self, image: Manifest) -> dict[ImageLayer, Reused]:
        """Those of an image's layers that signatures bind to them."""
        try:
            referrers = [self._fetch(one) for one in signatures_of(self._store, image.descriptor)]
        except _UNUSABLE:
            return {}
        by_kind: dict[str | None, list[Manifest]] = {}
        for one in referrers:
            if isinstance(one, Manifest) and refers_to(one, image.descriptor):
                by_kind.setdefault(kind_of(one), []).append(one)
        bound = {self._bound(one, image) for one in by_kind.get("notary", [])} - {None}
        found: dict[ImageLayer, Reused] = {}
        for artifact in by_kind.get("dm-verity", []) if bound else []:
            with Judgement():
                found |= self._bound_roots(artifact, image, bound)
        return found

    def _bound(self, notary: Manifest, image: Manifest) -> str | None:
        """The digest of root hashes that a signature of the image holds."""
        with Judgement():
            (layer,) = notary.layers
            envelope = fetch_blob(self._store, layer)
            target = image.descriptor.plain().to_json()
            trust = trust_files(self._anchors)
            return bound_by(envelope_verdict(envelope, layer.media_type, trust, target=target))
        return None

    def _bound_roots(
        self, artifact: Manifest, image: Manifest, bound: set[str | None]
    ) -> dict[ImageLayer, Reused]:
        form = form_of_type(artifact.referrer.artifact_type)
        if form is None or not form.parts >= self._parts:
            return {}
        layers = image_layers(self._store, image)
        digests = [layer.descriptor.digest for layer in layers]
        signatures = read_dm_verity(self._store, artifact, digests)
        roots = {one.layer: one.root_hash for one in signatures}
        if digest_of_roots(roots.items(), self._recipe) not in bound:
            return {}
        for one in signatures:
            verify_root_hash(one.signature, one.root_hash, self._anchors)
        if self._parts:
            check_published(self._store, form, artifact, signatures)
        blobs = blobs_of(form, artifact, roots)
        source = artifact.descriptor.digest
        return {
            layer: Reused(roots[layer.descriptor.digest], source, blobs[layer.descriptor.digest])
            for layer in layers
        }
