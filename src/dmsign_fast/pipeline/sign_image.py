"""Sign an image: its layers for the kernel, its manifest for the Notary Project."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dmsign_fast.envelope.notary import parse_envelope, sign_manifest
from dmsign_fast.envelope.pkcs7 import sign_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import FormatError, ParameterError, VerificationError
from dmsign_fast.oci.manifest import Manifest
from dmsign_fast.pipeline.artifact import (
    Artifact,
    LayerSignature,
    form_of,
    make_dm_verity,
    make_notary,
)
from dmsign_fast.pipeline.binding import ROOT_HASHES, digest_of_roots
from dmsign_fast.pipeline.existing import find_layers, find_notary
from dmsign_fast.pipeline.image import hash_image_layer, image_layers, is_image, manifests_of
from dmsign_fast.pipeline.jobs import run_all
from dmsign_fast.pipeline.layers import Conversion
from dmsign_fast.pipeline.reuse import find_root_hashes
from dmsign_fast.signing.scheme import pkcs7_scheme
from dmsign_fast.signing.signer import EnvelopeSigner

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from cryptography import x509

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.oci.descriptor import Descriptor, Digest
    from dmsign_fast.oci.manifest import Index
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.image import ImageLayer
    from dmsign_fast.signing.signer import Signer

    _Layers = dict[Digest, "SignedLayer"]
    _Root = tuple[Digest, bytes]

__all__ = ["Reuse", "SignOptions", "SignedImage", "SignedLayer", "sign_image"]

JWS = "application/jose+json"


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """Where root hashes may come from, instead of from layers.

    Attributes:
        reference: the tag or digest of an image in the same store, besides the one to sign; by
            default all that the store lists, up to a bound.
        certificates: of signers who count as the signer himself does.
    """

    reference: str | None = None
    certificates: Sequence[x509.Certificate] = ()


@dataclass(frozen=True, kw_only=True)
class SignOptions:
    """What is signed and how.

    Attributes:
        recipe: of the nodes.
        form: of the dm-verity artifact, a name in artifact.FORMS.
        media_type: of the Notary Project envelope, JWS or COSE.
        legacy: whether the manifest of that signature is of the form that all versions of notation
            find.
        expiry: of the Notary Project signature.
        user_metadata: signed with the manifest's descriptor.
        timestamp: gets the signature, returns an RFC 3161 token.
        agent: what the envelope says made it.
        dm_verity: whether layers are signed.
        manifest_signature: whether the manifest is signed.
        force: sign again where a signature of the same key and content is there.
        platform: of an index, sign this manifest.
        recursive: of an index, sign all manifests.
        jobs: layers at a time.
        conversion: of the layers.
        pkcs7_digest: for the root hashes; by default that of the key.
        certificates: whether they are embedded in the signatures of root hashes.
        reuse: take root hashes that were signed before, see ``reuse``.
    """

    recipe: Recipe
    form: str = "notation"
    media_type: str = JWS
    legacy: bool = True
    expiry: datetime | None = None
    user_metadata: Mapping[str, str] = field(default_factory=dict)
    timestamp: Callable[[bytes], bytes] | None = None
    agent: str | None = None
    dm_verity: bool = True
    manifest_signature: bool = True
    force: bool = False
    platform: str | None = None
    recursive: bool = False
    jobs: int = 1
    conversion: Conversion = field(default_factory=Conversion)
    pkcs7_digest: str | None = None
    certificates: bool = True
    reuse: Reuse | None = None


@dataclass(frozen=True)
class SignedLayer:
    """A layer and its root hash.

    Attributes:
        digest: of its bytes.
        diff_id: of the uncompressed tar.
        size: of its bytes.
        root_hash: of the dm-verity device that the recipe makes of it.
        uncompressed_size: bytes; None if the layer was not read.
        reused: the dm-verity artifact that has the root hash, instead.
        seconds: that the conversion took.
    """

    digest: Digest
    diff_id: Digest
    size: int
    root_hash: bytes
    uncompressed_size: int | None = None
    reused: Digest | None = None
    seconds: float = 0


@dataclass(frozen=True)
class SignedImage:
    """What became of one manifest.

    Attributes:
        manifest: what was signed.
        layers: each different layer, with its root hash.
        dm_verity: the artifact of the layers' signatures; None if none was asked for.
        notary: the manifest's signature, the same.
        added: the artifacts that were not there before.
        seconds: what the stages took.
    """

    manifest: Descriptor
    layers: tuple[SignedLayer, ...]
    dm_verity: Descriptor | None
    notary: Descriptor | None
    added: tuple[Descriptor, ...]
    seconds: Mapping[str, float]


def sign_image(
    store: Store,
    reference: str,
    signer: Signer,
    options: SignOptions,
    *,
    progress: Callable[[int], object] = lambda _: None,
    found: Callable[[int], object] = lambda _: None,
) -> list[SignedImage]:
    """Sign what a tag or digest names, once it is resolved to a digest.

    Nothing is pushed before every layer has matched its digests and every signature has been
    verified; the blobs go first, then both artifacts of a manifest in one step.

    Args:
        store: where the image is and the signatures go.
        reference: a tag or digest.
        signer: of the root hashes and of the manifest.
        options: what and how.
        progress: called with the bytes of layers read since its last call.
        found: called with the bytes of layers to read, once they are known.

    Raises:
        ParameterError: an index without a choice in it, or nothing to sign.
        VerificationError: a layer or manifest is not what its digest or diff ID says.
        SigningError: the key cannot sign, or its signature does not hold.
        FormatError, StorageError, RegistryError: as hash_layer and Store have them.
    """
    if not options.dm_verity and not options.manifest_signature:
        raise ParameterError("neither the layers nor the manifest are to be signed")
    if options.dm_verity:
        pkcs7_scheme(signer.key_spec, options.pkcs7_digest)  # raises for a key that cannot
    if ROOT_HASHES in options.user_metadata:
        raise ParameterError(f"user metadata {ROOT_HASHES!r} is what sign itself says: rename it")
    manifests = manifests_of(
        store, reference, platform=options.platform, recursive=options.recursive
    )
    jobs = max(1, options.jobs)
    memory = options.conversion.memory // jobs
    shared = replace(options, jobs=jobs, conversion=replace(options.conversion, memory=memory))
    images = [one for one in manifests if isinstance(one, Manifest) and is_image(one)]
    if options.dm_verity and not images:
        raise FormatError(
            f"{reference} is no container image, so there are no layers to sign: sign the "
            "manifest alone with --no-dm-verity"
        )
    hashed: _Layers = {}
    if options.dm_verity:
        hashed = _hash_layers(store, images, signer, shared, progress, found)
    made = [_sign_one(store, manifest, signer, shared, hashed) for manifest in manifests]
    return [_push(store, signed, artifacts) for signed, artifacts in made]


def _hash_layers(
    store: Store,
    images: Sequence[Manifest],
    signer: Signer,
    options: SignOptions,
    progress: Callable[[int], object],
    found: Callable[[int], object],
) -> _Layers:
    """Every different layer once."""
    layers: dict[Digest, ImageLayer] = {}
    for image in images:
        for layer in image_layers(store, image):
            known = layers.setdefault(layer.descriptor.digest, layer)
            if known.diff_id != layer.diff_id:
                raise VerificationError(
                    f"layer {layer.descriptor.digest} should have the diff ID {known.diff_id} and "
                    f"also the diff ID {layer.diff_id}: push the image again"
                )
    hashed = _reused(store, images, layers, signer, options)
    rest = [layer for digest, layer in layers.items() if digest not in hashed]
    found(sum(layer.descriptor.size for layer in rest))

    def task(layer: ImageLayer) -> Callable[[threading.Event], SignedLayer]:
        def run(stop: threading.Event) -> SignedLayer:
            began = time.monotonic()
            checked = hash_image_layer(
                store, layer, options.recipe, options.conversion, progress=progress, stop=stop
            )
            return SignedLayer(
                layer.descriptor.digest,
                layer.diff_id,
                layer.descriptor.size,
                checked.image.root_hash,
                uncompressed_size=checked.uncompressed_size,
                seconds=time.monotonic() - began,
            )

        return run

    made = run_all([task(layer) for layer in rest], options.jobs)
    return hashed | {layer.digest: layer for layer in made}


def _reused(
    store: Store,
    images: Sequence[Manifest],
    layers: Mapping[Digest, ImageLayer],
    signer: Signer,
    options: SignOptions,
) -> _Layers:
    """The layers whose root hashes are known without a look at them."""
    if not options.reuse:
        return {}
    if options.conversion.mkfs_options:
        raise ParameterError("options of mkfs.erofs are not recorded: what has them is not reused")
    signers = (*signer.certificate_chain[:1], *options.reuse.certificates)
    if not signers:
        raise ParameterError(
            "the plugin shows its certificate only when it signs: give --cert, so that what it has "
            "signed before can be reused"
        )
    known = find_root_hashes(
        *(store, images, layers.values(), options.recipe),
        TrustAnchors(signers),
        options.reuse.reference,
    )
    return {
        layer.descriptor.digest: SignedLayer(
            layer.descriptor.digest,
            layer.diff_id,
            layer.descriptor.size,
            one.root_hash,
            reused=one.artifact,
        )
        for layer, one in known.items()
    }


def _sign_one(
    store: Store,
    manifest: Manifest | Index,
    signer: Signer,
    options: SignOptions,
    hashed: _Layers,
) -> tuple[SignedImage, list[Artifact]]:
    """Sign one manifest; the artifacts are those that are not there yet."""
    subject = manifest.descriptor
    known = [] if options.force else store.referrers(subject)
    began = time.monotonic()
    artifacts: list[Artifact] = []
    dm_verity = notary = root_hashes = None
    layers: _Layers = {}

    def find_or_add(
        find: Callable[[], Descriptor | None], make: Callable[[], Artifact]
    ) -> Descriptor:
        # where the certificates come with the signature, what is the same is known only then
        made = None if signer.certificate_chain else make()
        found = find()
        if found is None:
            artifacts.append(made or make())
            found = artifacts[-1].manifest.descriptor
        return found

    if hashed and isinstance(manifest, Manifest) and is_image(manifest):
        digests = [layer.digest for layer in manifest.layers]
        layers = {digest: hashed[digest] for digest in digests}
        roots = [(digest, layers[digest].root_hash) for digest in digests]
        root_hashes = digest_of_roots(roots, options.recipe)
        dm_verity = find_or_add(
            lambda: find_layers(store, subject, known, roots, signer, options),
            lambda: _sign_layers(subject, roots, signer, options),
        )
    if options.manifest_signature:
        notary = find_or_add(
            lambda: find_notary(store, subject, known, root_hashes, signer, options),
            lambda: _sign_manifest(subject, root_hashes, signer, options),
        )
    hashing = sum(layer.seconds for layer in layers.values())
    seconds = {"hash": hashing, "sign": time.monotonic() - began}
    added = tuple(artifact.manifest.descriptor for artifact in artifacts)
    signed = SignedImage(subject, tuple(layers.values()), dm_verity, notary, added, seconds)
    return signed, artifacts


def _push(store: Store, signed: SignedImage, artifacts: Sequence[Artifact]) -> SignedImage:
    began = time.monotonic()
    for artifact in artifacts:
        for descriptor, content in artifact.blobs:
            store.push(descriptor, content)
    if artifacts:
        store.attach(signed.manifest, [artifact.manifest for artifact in artifacts])
    return replace(signed, seconds={**signed.seconds, "push": time.monotonic() - began})


def _sign_layers(
    subject: Descriptor, roots: Sequence[_Root], signer: Signer, options: SignOptions
) -> Artifact:
    made = {
        root_hash: sign_root_hash(
            root_hash, signer, digest=options.pkcs7_digest, certificates=options.certificates
        )
        for root_hash in dict.fromkeys(root_hash for _, root_hash in roots)
    }
    signatures = [LayerSignature(layer, root, made[root]) for layer, root in roots]
    return make_dm_verity(form_of(options.form), subject, signatures, options.recipe)


def _sign_manifest(
    subject: Descriptor, root_hashes: str | None, signer: Signer, options: SignOptions
) -> Artifact:
    bound = {ROOT_HASHES: root_hashes} if root_hashes else {}
    data = sign_manifest(
        subject.plain().to_json(),
        signer,
        media_type=options.media_type,
        expiry=options.expiry,
        agent=options.agent,
        user_metadata={**options.user_metadata, **bound},
        timestamp=options.timestamp,
    )
    # the envelope, and not the signer, says when it was made and with which certificates
    made = parse_envelope(data, options.media_type)
    assert made.signing_time is not None  # noqa: S101
    return make_notary(
        subject,
        data,
        options.media_type,
        made.certificate_chain,
        made.signing_time,
        legacy=options.legacy,
        annotations=signer.annotations if isinstance(signer, EnvelopeSigner) else {},
    )
