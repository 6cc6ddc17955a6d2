"""Sign an image: its layers for the kernel, its manifest for the Notary Project."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dmsign_fast.envelope.notary import check_envelope, parse_envelope, sign_manifest
from dmsign_fast.envelope.pkcs7 import sign_root_hash, verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import FormatError, NotFoundError, ParameterError, VerificationError
from dmsign_fast.oci.manifest import Manifest
from dmsign_fast.oci.store import refers_to
from dmsign_fast.pipeline.artifact import (
    NOTARY_TYPE,
    Artifact,
    LayerSignature,
    fetch_blob,
    form_of,
    make_dm_verity,
    make_notary,
    read_dm_verity,
    recipe_of,
)
from dmsign_fast.pipeline.image import hash_image_layer, image_layers, is_image, manifests_of
from dmsign_fast.pipeline.jobs import run_all
from dmsign_fast.pipeline.layers import Conversion
from dmsign_fast.signing.scheme import pkcs7_scheme
from dmsign_fast.signing.signer import EnvelopeSigner

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.oci.descriptor import Descriptor, Digest
    from dmsign_fast.oci.manifest import Index
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.image import ImageLayer
    from dmsign_fast.pipeline.layers import CheckedLayer
    from dmsign_fast.signing.signer import Signer

    _Hashed = dict[Digest, tuple[CheckedLayer, float]]
    _Root = tuple[Digest, bytes]

__all__ = ["SignOptions", "SignedImage", "sign_image"]

JWS = "application/jose+json"


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
    layers: tuple[CheckedLayer, ...]
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
    manifests = manifests_of(
        store, reference, platform=options.platform, recursive=options.recursive
    )
    jobs = max(1, options.jobs)
    memory = options.conversion.memory // jobs
    shared = replace(options, jobs=jobs, conversion=replace(options.conversion, memory=memory))
    images = [one for one in manifests if is_image(one)]
    if options.dm_verity and not images:
        raise FormatError(
            f"{reference} is no container image, so there are no layers to sign: sign the "
            "manifest alone with --no-dm-verity"
        )
    hashed = _hash_layers(store, images, shared, progress, found) if options.dm_verity else {}
    made = [_sign_one(store, manifest, signer, shared, hashed) for manifest in manifests]
    return [_push(store, signed, artifacts) for signed, artifacts in made]


def _hash_layers(
    store: Store,
    images: list[Manifest | Index],
    options: SignOptions,
    progress: Callable[[int], object],
    found: Callable[[int], object],
) -> _Hashed:
    """Every different layer once."""
    layers: dict[Digest, ImageLayer] = {}
    for image in images:
        assert isinstance(image, Manifest)  # noqa: S101
        for layer in image_layers(store, image):
            known = layers.setdefault(layer.descriptor.digest, layer)
            if known.diff_id != layer.diff_id:
                raise VerificationError(
                    f"layer {layer.descriptor.digest} should have the diff ID {known.diff_id} and "
                    f"also the diff ID {layer.diff_id}: push the image again"
                )
    found(sum(layer.descriptor.size for layer in layers.values()))

    def task(layer: ImageLayer) -> Callable[[threading.Event], tuple[CheckedLayer, float]]:
        def run(stop: threading.Event) -> tuple[CheckedLayer, float]:
            began = time.monotonic()
            checked = hash_image_layer(
                store, layer, options.recipe, options.conversion, progress=progress, stop=stop
            )
            return checked, time.monotonic() - began

        return run

    done = run_all([task(layer) for layer in layers.values()], options.jobs)
    return dict(zip(layers, done, strict=True))


def _sign_one(
    store: Store,
    manifest: Manifest | Index,
    signer: Signer,
    options: SignOptions,
    hashed: _Hashed,
) -> tuple[SignedImage, list[Artifact]]:
    """Sign one manifest; the artifacts are those that are not there yet."""
    subject = manifest.descriptor
    known = [] if options.force else store.referrers(subject)
    began = time.monotonic()
    artifacts: list[Artifact] = []
    dm_verity = notary = None
    layers: dict[Digest, CheckedLayer] = {}
    hashing = 0.0

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
        layers = {digest: hashed[digest][0] for digest in digests}
        hashing = sum(hashed[digest][1] for digest in layers)
        roots = [(digest, layers[digest].image.root_hash) for digest in digests]
        dm_verity = find_or_add(
            lambda: _find(
                store, subject, known, lambda one: _same_layers(store, one, roots, signer, options)
            ),
            lambda: _sign_layers(subject, roots, signer, options),
        )
    if options.manifest_signature:
        notary = find_or_add(
            lambda: _find(
                store,
                subject,
                known,
                lambda one: _same_claims(store, one, subject, signer, options),
            ),
            lambda: _sign_manifest(subject, signer, options),
        )
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


def _sign_manifest(subject: Descriptor, signer: Signer, options: SignOptions) -> Artifact:
    data = sign_manifest(
        subject.plain().to_json(),
        signer,
        media_type=options.media_type,
        expiry=options.expiry,
        agent=options.agent,
        user_metadata=options.user_metadata,
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


def _find(
    store: Store,
    subject: Descriptor,
    known: list[Descriptor],
    same: Callable[[Manifest], bool],
) -> Descriptor | None:
    """The first of the referrers that is the same; what is broken, gone or foreign is none."""
    for descriptor in known:
        try:
            manifest = store.fetch_manifest(descriptor)
            if isinstance(manifest, Manifest) and refers_to(manifest, subject) and same(manifest):
                return manifest.descriptor
        except (FormatError, VerificationError, NotFoundError, ParameterError):
            continue
    return None


def _same_layers(
    store: Store,
    manifest: Manifest,
    roots: Sequence[_Root],
    signer: Signer,
    options: SignOptions,
) -> bool:
    """Whether an artifact has good signatures of this key and kind over these root hashes."""
    form = form_of(options.form)
    if manifest.artifact_type != form.artifact_type or recipe_of(manifest) != options.recipe:
        return False
    anchors = TrustAnchors((signer.certificate_chain[0],))
    wanted = dict(roots)
    digests = [layer for layer, _ in roots]
    signatures = read_dm_verity(store, manifest, digests)
    form_of_each = (
        pkcs7_scheme(signer.key_spec, options.pkcs7_digest).name,
        len(signer.certificate_chain) if options.certificates else 0,
    )
    for one in signatures:
        verdict = verify_root_hash(one.signature, wanted[one.layer], anchors)
        if (verdict.scheme, verdict.embedded) != form_of_each:
            return False
    return all(one.root_hash == wanted[one.layer] for one in signatures)


def _same_claims(
    store: Store, manifest: Manifest, subject: Descriptor, signer: Signer, options: SignOptions
) -> bool:
    """Whether an artifact is a good signature of this key, with these claims, over a manifest."""
    if NOTARY_TYPE not in (manifest.artifact_type, manifest.config.media_type):
        return False
    layer = manifest.layers[0] if len(manifest.layers) == 1 else None
    if layer is None or layer.media_type != options.media_type:
        return False
    envelope = parse_envelope(fetch_blob(store, layer), layer.media_type)
    check_envelope(envelope, target=subject.plain().to_json())
    return (
        envelope.certificate_chain == tuple(signer.certificate_chain)
        and envelope.user_metadata == dict(options.user_metadata)
        and (envelope.expiry is None) == (options.expiry is None)
        and (envelope.expiry is None or envelope.expiry > datetime.now(UTC))
        and (envelope.timestamp_token is None) == (options.timestamp is None)
    )
