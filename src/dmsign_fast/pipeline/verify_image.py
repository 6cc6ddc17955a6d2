"""Verify an image: every signature that refers to it, each with what was found and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dmsign_fast.envelope.pkcs7 import Verdict, verify_root_hash
from dmsign_fast.errors import DmsignError, FormatError, NotFoundError, VerificationError
from dmsign_fast.oci.manifest import Manifest
from dmsign_fast.pipeline.artifact import (
    FORMS,
    NOTARY_TYPE,
    fetch_blob,
    read_dm_verity,
    recipe_of,
)
from dmsign_fast.pipeline.image import hash_image_layer, image_layers, is_image, manifests_of
from dmsign_fast.pipeline.layers import Conversion, run_all
from dmsign_fast.trust.verdict import SignatureVerdict, Trust, judge

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.oci.descriptor import Descriptor, Digest
    from dmsign_fast.oci.manifest import Index
    from dmsign_fast.oci.store import Store
    from dmsign_fast.trust.revocation import Checker

__all__ = [
    "ImageVerdict",
    "LayerVerdict",
    "ReferrerVerdict",
    "VerifyOptions",
    "kind_of",
    "verify_image",
]

_UNUSABLE = (FormatError, VerificationError, NotFoundError)


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """What a verified image needs.

    Attributes:
        trust: whom to believe.
        dm_verity: whether its layers must be signed.
        manifest_signature: whether its manifest must be signed.
        user_metadata: must be among what was signed with the manifest.
        revocation: fetches CRLs and OCSP answers; nothing is fetched by default.
        deep: whether the root hashes are made again from the layers.
        recipe: for artifacts that record none.
        platform: of an index, this manifest.
        recursive: of an index, all manifests.
        jobs: layers at a time.
        conversion: of the layers, for ``deep``.
    """

    trust: Trust
    recipe: Recipe
    dm_verity: bool = True
    manifest_signature: bool = True
    user_metadata: Mapping[str, str] = field(default_factory=dict)
    revocation: Checker | None = None
    deep: bool = False
    platform: str | None = None
    recursive: bool = False
    jobs: int = 1
    conversion: Conversion = field(default_factory=Conversion)


@dataclass(frozen=True)
class LayerVerdict:
    """The signature of one layer.

    Attributes:
        layer: its digest.
        root_hash: hex, as the artifact says.
        signature: by whom, if it holds.
        recomputed: whether the layer itself gives that root hash; None if it was not asked.
        problem: what is wrong; None if nothing is.
    """

    layer: str
    root_hash: str
    signature: Verdict | None
    recomputed: bool | None
    problem: str | None


@dataclass(frozen=True)
class ReferrerVerdict:
    """One artifact that refers to the image.

    Attributes:
        digest: of its manifest.
        kind: ``notary`` or ``dm-verity``.
        accepted: whether it counts.
        problem: why not.
        signature: what came of a Notary Project signature.
        layers: what came of the layers' signatures.
        recipe: that the artifact records.
    """

    digest: str
    kind: str
    accepted: bool
    problem: str | None = None
    signature: SignatureVerdict | None = None
    layers: tuple[LayerVerdict, ...] = ()
    recipe: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ImageVerdict:
    """What came of one manifest.

    Attributes:
        manifest: its digest.
        wanted: the kinds of signatures that it needs.
        referrers: every signature that was found.
    """

    manifest: str
    wanted: tuple[str, ...]
    referrers: tuple[ReferrerVerdict, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The kinds of which no signature is accepted."""
        good = {one.kind for one in self.referrers if one.accepted}
        return tuple(kind for kind in self.wanted if kind not in good)

    @property
    def verified(self) -> bool:
        """Whether there is an accepted signature of every kind that it needs."""
        return not self.missing


def kind_of(referrer: Manifest | Index) -> str | None:
    """What a referrer is: ``notary``, ``dm-verity``, or nothing of ours."""
    if not isinstance(referrer, Manifest):
        return None
    return _kind(referrer.artifact_type or referrer.config.media_type)


def _kind(artifact_type: str | None) -> str | None:
    if artifact_type == NOTARY_TYPE:
        return "notary"
    return "dm-verity" if artifact_type in [form.artifact_type for form in FORMS] else None


def verify_image(
    store: Store,
    reference: str,
    options: VerifyOptions,
    *,
    progress: Callable[[int], object] = lambda _: None,
) -> list[ImageVerdict]:
    """Verify what a tag or digest names, once it is resolved to a digest.

    A broken or foreign signature beside a good one is reported and does no harm.

    Raises:
        ParameterError: an index without a choice in it.
        FormatError, VerificationError: the image itself is not what its digest says.
        StorageError, RegistryError: the store cannot tell.
    """
    manifests = manifests_of(
        store, reference, platform=options.platform, recursive=options.recursive
    )
    hashes = _RootHashes(store, options, progress)
    return [_verify_one(store, manifest, options, hashes) for manifest in manifests]


def _verify_one(
    store: Store, manifest: Manifest | Index, options: VerifyOptions, hashes: _RootHashes
) -> ImageVerdict:
    wanted = []
    if options.manifest_signature:
        wanted.append("notary")
    if options.dm_verity and is_image(manifest):
        wanted.append("dm-verity")
    subject = manifest.descriptor
    found = []
    for described in store.referrers(subject):
        listed = _kind(described.artifact_type)
        try:
            referrer = store.fetch_manifest(described)
            kind = kind_of(referrer)
            if kind not in wanted or not isinstance(referrer, Manifest):
                continue
            if referrer.subject is None or referrer.subject.digest != subject.digest:
                continue
            if kind == "notary":
                found.append(_judge_notary(store, referrer, subject, options))
            else:
                found.append(_judge_layers(store, referrer, manifest, options, hashes))
        except _UNUSABLE as error:
            if listed in wanted:
                found.append(ReferrerVerdict(described.digest, listed, False, str(error)))
    return ImageVerdict(subject.digest, tuple(wanted), tuple(found))


def _judge_notary(
    store: Store, referrer: Manifest, subject: Descriptor, options: VerifyOptions
) -> ReferrerVerdict:
    if len(referrer.layers) != 1:
        raise FormatError(f"a signature has one envelope, and this has {len(referrer.layers)}")
    layer = referrer.layers[0]
    try:
        verdict = judge(
            fetch_blob(store, layer),
            layer.media_type,
            options.trust,
            target=subject.plain().to_json(),
            user_metadata=options.user_metadata,
            revocation=options.revocation,
        )
    except DmsignError as error:
        return ReferrerVerdict(referrer.descriptor.digest, "notary", False, str(error))
    digest = referrer.descriptor.digest
    return ReferrerVerdict(digest, "notary", verdict.accepted, verdict.refusal(), verdict)


def _judge_layers(
    store: Store,
    referrer: Manifest,
    manifest: Manifest | Index,
    options: VerifyOptions,
    hashes: _RootHashes,
) -> ReferrerVerdict:
    assert isinstance(manifest, Manifest)  # noqa: S101
    digests = [layer.digest for layer in manifest.layers]
    recipe = recipe_of(referrer)
    signatures = read_dm_verity(store, referrer, digests)
    remade = hashes.of(manifest, recipe or options.recipe) if options.deep else {}
    layers = []
    for one in signatures:
        verdict, problem, recomputed = None, None, None
        try:
            if options.trust.anchors is None:
                raise VerificationError("no certificate is trusted for layers")
            verdict = verify_root_hash(one.signature, one.root_hash, options.trust.anchors)
        except (FormatError, VerificationError) as error:
            problem = str(error)
        if options.deep:
            recomputed = remade[one.layer] == one.root_hash
            if not recomputed:
                why = hashes.reason(manifest, one.layer, one.root_hash, recipe or options.recipe)
                problem = f"{problem}; {why}" if problem else why
        layers.append(LayerVerdict(one.layer, one.root_hash.hex(), verdict, recomputed, problem))
    bad = [f"layer {one.layer}: {one.problem}" for one in layers if one.problem]
    return ReferrerVerdict(
        referrer.descriptor.digest,
        "dm-verity",
        not bad,
        "; ".join(bad) or None,
        layers=tuple(layers),
        recipe=recipe.fields() if recipe else None,
    )


class _RootHashes:
    """Root hashes of layers by recipe, each made once."""

    def __init__(
        self, store: Store, options: VerifyOptions, progress: Callable[[int], object]
    ) -> None:
        self._store = store
        self._options = options
        self._progress = progress
        self._known: dict[tuple[Digest, str], bytes] = {}

    def of(self, manifest: Manifest, recipe: Recipe) -> dict[Digest, bytes]:
        """Those of all layers of an image; errors as hash_layer."""
        layers = {one.descriptor.digest: one for one in image_layers(self._store, manifest)}
        key = repr(recipe.fields())
        new = [digest for digest in layers if (digest, key) not in self._known]

        def task(digest: Digest) -> Callable[[threading.Event], bytes]:
            return lambda stop: (
                hash_image_layer(
                    self._store,
                    layers[digest],
                    recipe,
                    self._options.conversion,
                    progress=self._progress,
                    stop=stop,
                ).image.root_hash
            )

        made = run_all([task(digest) for digest in new], self._options.jobs)
        self._known |= {(digest, key): one for digest, one in zip(new, made, strict=True)}
        return {digest: self._known[digest, key] for digest in layers}

    def reason(self, manifest: Manifest, layer: Digest, root_hash: bytes, recipe: Recipe) -> str:
        """Why a layer does not give a root hash: what other recipe does."""
        for other in recipe.others():
            try:
                found = self.of(manifest, other).get(layer)
            except DmsignError:
                continue
            if found == root_hash:
                return (
                    f"the root hash is not that of {_name(recipe)} but of {_name(other)}: another "
                    "recipe or version of mkfs.erofs was used than is recorded"
                )
        return (
            f"the layer does not give this root hash with {_name(recipe)}, nor with any other "
            "recipe: the signature is of another layer, or of a converter that is not known"
        )


def _name(recipe: Recipe) -> str:
    return f"{recipe.name}@{recipe.mkfs_version}"
