"""Sign an image: its layers for the kernel, its manifest for the Notary Project."""

from __future__ import annotations

import functools
import itertools
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from dmsign_fast.arguments import FUNCTION, TEXT, instance, takes
from dmsign_fast.envelope.notary import check_manifest_signer, parse_envelope, sign_manifest
from dmsign_fast.envelope.pkcs7 import check_signers, sign_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import FormatError, ParameterError, VerificationError
from dmsign_fast.oci.manifest import Manifest
from dmsign_fast.oci.store import STORE
from dmsign_fast.pipeline.already_signed import (
    find_former,
    find_layers,
    find_notary,
    other_roots,
)
from dmsign_fast.pipeline.artifact import (
    Artifact,
    LayerSignature,
    make_dm_verity,
    make_notary,
    signatures_of,
)
from dmsign_fast.pipeline.binding import ROOT_HASHES
from dmsign_fast.pipeline.digests import SharedDigests
from dmsign_fast.pipeline.forms import Several, form_of
from dmsign_fast.pipeline.image import hash_image_layer, image_layers, is_image, manifests_of
from dmsign_fast.pipeline.jobs import run_all
from dmsign_fast.pipeline.layer_file import LayerBlob, LayerFile
from dmsign_fast.pipeline.plan import Plan, SignedImage, SignedLayer, SignOptions
from dmsign_fast.signing.signer import SIGNER, EnvelopeSigner

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence

    from dmsign_fast.oci.descriptor import Descriptor, Digest
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.forms import Form
    from dmsign_fast.pipeline.image import ImageLayer
    from dmsign_fast.signing.signer import Signer

    _Layers = dict[ImageLayer, SignedLayer]

__all__ = [
    "SignOptions",
    "SignedImage",
    "check_same",
    "plan_image",
    "push_signed",
    "sign_image",
    "sign_layer",
    "sign_planned",
    "sign_subject",
]


@takes(
    store=STORE,
    reference=TEXT,
    signer=SIGNER,
    options=instance(SignOptions, "SignOptions"),
    progress=FUNCTION,
    found=FUNCTION,
    stage=FUNCTION,
)
def sign_image(
    store: Store,
    reference: str,
    signer: Signer,
    options: SignOptions,
    *,
    progress: Callable[[int], object] = lambda _: None,
    found: Callable[[int], object] = lambda _: None,
    stage: Callable[[str], object] = lambda _: None,
) -> list[SignedImage]:
    """Sign what a tag or digest names, once it is resolved to a digest.

    Nothing is pushed before every layer has matched its digests and every signature has been
    verified; the blobs go first, then both artifacts of a manifest in one step.

    Args:
        store: where the image is and the signatures go.
        reference: a tag or digest.
        signer: of the root hashes, and of the manifest unless the options name another.
        options: what and how.
        progress: called with the bytes of layers read since its last call.
        found: called with the bytes of layers to read, once they are known.
        stage: called with the name of each stage as it begins: ``hash`` (layers are fetched and
            hashed), ``sign`` and ``push``.

    Raises:
        ParameterError: an index without a choice in it, or nothing to sign.
        VerificationError: a layer or manifest is not what its digest or diff ID says.
        SigningError: the key cannot sign, or its signature does not hold.
        FormatError, StorageError, RegistryError: as hash_layer and Store have them.
    """
    stage("hash")
    plans = plan_image(store, reference, signer, options, progress=progress, found=found)
    stage("sign")
    made = [sign_planned(store, plan, signer, options) for plan in plans]
    stage("push")
    return push_signed(store, made)


def plan_image(
    store: Store,
    reference: str,
    signer: Signer,
    options: SignOptions,
    *,
    progress: Callable[[int], object] = lambda _: None,
    found: Callable[[int], object] = lambda _: None,
) -> list[Plan]:
    """Find all root hashes; the signer is not asked, only known. Arguments as sign_image."""
    if not options.dm_verity and not options.manifest_signature:
        raise ParameterError("neither the layers nor the manifest are to be signed")
    if options.manifest_signature:
        check_manifest_signer(options.manifest_signer or signer)
    if options.dm_verity:
        check_signers(
            signer, options.and_by, options.pkcs7_digest, certificates=options.certificates
        )
        for name in options.forms:
            if misfit := form_of(name).misfit(options.recipe):
                raise ParameterError(f"{misfit}: use another --recipe, or another --artifact")
    if ROOT_HASHES in options.user_metadata:
        raise ParameterError(f"user metadata {ROOT_HASHES!r} is what sign itself says: rename it")
    manifests = manifests_of(
        store, reference, platform=options.platform, recursive=options.recursive
    )
    images = [one for one in manifests if isinstance(one, Manifest) and is_image(one)]
    if not options.dm_verity:
        return [Plan(manifest.descriptor, ()) for manifest in manifests]
    if not images:
        raise FormatError(
            f"{reference} is no container image, so there are no layers to sign: sign the "
            "manifest alone with --no-dm-verity"
        )
    layers = {image.descriptor.digest: image_layers(store, image) for image in images}
    different = list(dict.fromkeys(itertools.chain.from_iterable(layers.values())))
    hashed = _hash_layers(store, images, different, signer, options, progress, found)
    return [
        Plan(one.descriptor, tuple(hashed[it] for it in layers.get(one.descriptor.digest, ())))
        for one in manifests
    ]


def _hash_layers(
    store: Store,
    images: Sequence[Manifest],
    layers: Sequence[ImageLayer],
    signer: Signer,
    options: SignOptions,
    progress: Callable[[int], object],
    found: Callable[[int], object],
) -> _Layers:
    """All of the layers; a node converts one digest with two media types by each of them."""
    check_same("diff ID", ((layer.descriptor.digest, layer.diff_id) for layer in layers))
    jobs = max(1, options.jobs)
    conversion = replace(options.conversion, memory=options.conversion.memory // jobs)
    hashed = _reused(store, images, layers, signer, options)
    rest = [layer for layer in layers if layer not in hashed]
    found(sum(layer.descriptor.size for layer in rest))

    def task(layer: ImageLayer) -> Callable[[threading.Event], SignedLayer]:
        def run(stop: threading.Event) -> SignedLayer:
            began = time.monotonic()
            file = LayerFile(options.recipe.params) if options.parts else None
            checked = hash_image_layer(
                store,
                layer,
                options.recipe,
                conversion,
                file=file,
                progress=progress,
                stop=stop,
                digests=digests,
            )
            return SignedLayer(
                layer.descriptor.digest,
                layer.diff_id,
                layer.descriptor.size,
                checked.image.root_hash,
                uncompressed_size=checked.uncompressed_size,
                blobs=file.finish(checked.image.tree) if file else {},
                seconds=time.monotonic() - began,
            )

        return run

    # the largest first, so that none is alone at the end
    rest.sort(key=lambda layer: layer.descriptor.size, reverse=True)
    with SharedDigests(min(jobs, len(rest))) as digests:
        hashed |= zip(rest, run_all([task(layer) for layer in rest], jobs), strict=True)
    check_same("root hash", ((one.digest, one.root_hash.hex()) for one in hashed.values()))
    return hashed


def check_same(what: str, named: Iterable[tuple[Digest, str]]) -> None:
    """Raise VerificationError where a layer's digest has two values, such as root hashes."""
    known: dict[Digest, str] = {}
    for digest, value in named:
        if known.setdefault(digest, value) != value:
            raise VerificationError(
                f"layer {digest} should have the {what} {known[digest]} and also the {what} "
                f"{value}: push the image again"
            )


def _reused(
    store: Store,
    images: Sequence[Manifest],
    layers: Sequence[ImageLayer],
    signer: Signer,
    options: SignOptions,
) -> _Layers:
    """The layers whose root hashes are known without a look at them."""
    if not options.reuse:
        return {}
    from dmsign_fast.pipeline.reuse import find_root_hashes

    if options.conversion.mkfs_options:
        raise ParameterError("options of mkfs.erofs are not recorded: what has them is not reused")
    by = (signer, options.manifest_signer or signer)
    leaves = (one for each in by for one in each.certificate_chain[:1])
    signers = (*leaves, *options.reuse.certificates)
    if not signers:
        raise ParameterError(
            "the plugin shows its certificate only when it signs: give --cert, so that what it has "
            "signed before can be reused"
        )
    anchors = TrustAnchors(signers)
    known = find_root_hashes(
        store,
        images,
        layers,
        options.recipe,
        anchors,
        options.reuse.reference,
        options.parts,
    )

    def blob(described: Descriptor) -> LayerBlob:
        content = functools.partial(store.fetch, described)
        return LayerBlob(described.digest, described.size, content)

    return {
        layer: SignedLayer(
            layer.descriptor.digest,
            layer.diff_id,
            layer.descriptor.size,
            one.root_hash,
            reused=one.artifact,
            blobs={part: blob(one.blobs[part]) for part in options.parts},
        )
        for layer, one in known.items()
    }


def sign_planned(
    store: Store,
    plan: Plan,
    signer: Signer,
    options: SignOptions,
    *,
    sign: Callable[[bytes], bytes] | None = None,
) -> tuple[SignedImage, list[Artifact]]:
    """Sign one manifest; the artifacts are those that are not there yet.

    ``sign`` stands in for sign_layer, for who knows signatures of root hashes already.
    """
    options = replace(options, signing_time=options.now)  # of all artifacts the same
    subject = plan.manifest
    known = [] if options.force else signatures_of(store, subject)
    began = time.monotonic()
    artifacts: list[Artifact] = []
    dm_verity: dict[str, Descriptor] = {}
    notary = None

    def find_or_add(
        by: Iterable[Signer], find: Callable[[], Descriptor | None], make: Callable[[], Artifact]
    ) -> Descriptor:
        # where the certificates come with the signature, what is the same is known only then
        made = None if all(one.certificate_chain for one in by) else make()
        found = find()
        if found is None:
            artifacts.append(made or make())
            found = artifacts[-1].manifest.descriptor
        return found

    sign = sign or functools.partial(sign_layer, signer=signer, options=options)
    signatures = functools.cache(functools.partial(_sign_layers, plan, sign))
    forms = [form_of(name) for name in options.forms] if plan.layers else []
    for form in forms:
        dm_verity[form.name] = find_or_add(
            (signer, *options.and_by),
            functools.partial(find_layers, store, plan, known, form, signer, options),
            functools.partial(_make_layers, plan, form, signatures, options),
        )
    if options.manifest_signature:
        bound = plan.root_hashes(options)
        by = options.manifest_signer or signer
        notary = find_or_add(
            (by,),
            lambda: find_notary(store, subject, known, bound, by, options),
            lambda: sign_subject(plan, by, options),
        )
    layers = tuple(dict.fromkeys(plan.layers))
    seconds = {
        "hash": sum(layer.seconds for layer in layers),
        "sign": time.monotonic() - began,
    }
    added = tuple(artifact.manifest.descriptor for artifact in artifacts)
    removed: list[Descriptor] = []
    warnings: list[str] = []
    if options.replace:
        listed = known or signatures_of(store, subject)
        for form in forms:
            former = find_former(store, plan, listed, form, signer.certificate_chain[0])
            removed += [one for one in former if one.digest != dm_verity[form.name].digest]
            warnings += other_roots(store, plan, form, former)
    signed = SignedImage(
        subject, layers, dm_verity, notary, added, seconds, tuple(removed), tuple(warnings)
    )
    return signed, artifacts


def push_signed(
    store: Store, made: Sequence[tuple[SignedImage, Sequence[Artifact]]]
) -> list[SignedImage]:
    """Push the artifacts of manifests: all blobs, then those of each manifest together.

    Former artifacts that they replace are taken out when all are there.
    """
    began = time.monotonic()
    artifacts = [artifact for _, some in made for artifact in some]
    # configs of two types are one blob
    blobs = {blob[0].digest: blob for one in artifacts for blob in one.blobs}
    for descriptor, content in blobs.values():
        store.push(descriptor, content)
    if artifacts:
        store.attach([artifact.manifest for artifact in artifacts])
    for signed, _ in made:
        if signed.removed:
            store.detach(signed.manifest, signed.removed)
    seconds = (time.monotonic() - began) / max(1, len(made))
    return [
        replace(
            signed,
            warnings=(*signed.warnings, *_warnings(store, signed)),
            seconds={**signed.seconds, "push": seconds},
        )
        for signed, _ in made
    ]


def _warnings(store: Store, signed: SignedImage) -> tuple[str, ...]:
    """What nodes will make of several artifacts of a form."""
    forms = [form_of(name) for name in signed.artifacts]
    forms = [form for form in forms if form.several is not Several.UNKNOWN]
    types = [one.artifact_type for one in signatures_of(store, signed.manifest)] if forms else []
    return tuple(
        f"{signed.manifest.digest} has {count} artifacts of the form {form.name}: "
        f"{form.several.value}; --replace removes former ones of the same key"
        for form in forms
        if (count := types.count(form.artifact_type)) > 1
    )


def sign_layer(root_hash: bytes, signer: Signer, options: SignOptions) -> bytes:
    """The signature of a root hash, as the options want it."""
    return sign_root_hash(
        root_hash,
        signer,
        and_by=options.and_by,
        digest=options.pkcs7_digest,
        certificates=options.certificates,
    )


def _sign_layers(plan: Plan, sign: Callable[[bytes], bytes]) -> list[LayerSignature]:
    made = {
        root_hash: sign(root_hash) for root_hash in dict.fromkeys(root for _, root in plan.roots)
    }
    return [LayerSignature(layer, root, made[root]) for layer, root in plan.roots]


def _make_layers(
    plan: Plan,
    form: Form,
    signatures: Callable[[], list[LayerSignature]],
    options: SignOptions,
) -> Artifact:
    return make_dm_verity(
        form,
        plan.manifest,
        signatures(),
        options.recipe,
        blobs=plan.blobs,
        created=options.now,
    )


def sign_subject(plan: Plan, signer: Signer, options: SignOptions) -> Artifact:
    """The signature of the manifest, which binds layers to root hashes if there are any."""
    bound = plan.root_hashes(options)
    now = options.now
    data = sign_manifest(
        plan.manifest.plain().to_json(),
        signer,
        media_type=options.media_type,
        signing_time=now,
        expiry=options.expires(now),
        agent=options.agent,
        user_metadata={**options.user_metadata, **({ROOT_HASHES: bound} if bound else {})},
        timestamp=options.timestamp,
    )
    # the envelope, and not the signer, says when it was made and with which certificates
    envelope = parse_envelope(data, options.media_type)
    assert envelope.signing_time is not None  # noqa: S101
    return make_notary(
        plan.manifest,
        data,
        options.media_type,
        envelope.certificate_chain,
        envelope.signing_time,
        legacy=options.legacy,
        annotations=signer.annotations if isinstance(signer, EnvelopeSigner) else {},
    )
