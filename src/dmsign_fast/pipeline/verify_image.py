"""Verify an image: a verdict, with its reasons, on every signature that refers to it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256

from dmsign_fast.arguments import MAPPING, NUMBER, TEXT, TEXTS, instance, takes
from dmsign_fast.erofs.recipe import RECIPE, Recipe
from dmsign_fast.errors import FormatError, ParameterError, UnsignedError, VerificationError
from dmsign_fast.oci.manifest import Manifest
from dmsign_fast.oci.store import STORE, refers_to
from dmsign_fast.pipeline.artifact import (
    fetch_blob,
    kind_of,
    kind_of_type,
    read_dm_verity,
    recipe_of,
    signatures_of,
)
from dmsign_fast.pipeline.binding import bound_by, digest_of_roots
from dmsign_fast.pipeline.deep import LayerVerdict, RootHashes
from dmsign_fast.pipeline.forms import form_of, form_of_type
from dmsign_fast.pipeline.image import is_image, manifests_of
from dmsign_fast.pipeline.layers import CONVERSION, Conversion
from dmsign_fast.pipeline.published import check_published
from dmsign_fast.pipeline.strangers import MAX_SIGNATURES, Judgement
from dmsign_fast.trust.policy import Action, Validation
from dmsign_fast.trust.verdict import (
    TRUST,
    SignatureVerdict,
    Trust,
    envelope_verdict,
    verify_layer_signature,
)
from dmsign_fast.trust.verification_plugin import PluginOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dmsign_fast.oci.descriptor import Descriptor
    from dmsign_fast.oci.manifest import Index
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.artifact import LayerSignature
    from dmsign_fast.trust.revocation import Checker

__all__ = [
    "ImageVerdict",
    "ReferrerVerdict",
    "VerifyOptions",
    "checked_options",
    "verify_image",
    "verify_manifest",
]

_THUMBPRINTS = "io.cncf.notary.x509chain.thumbprint#S256"


@takes(trust=TRUST, recipe=RECIPE, forms=TEXTS, max_signatures=NUMBER, user_metadata=MAPPING)
@takes(platform=TEXT.or_none, jobs=NUMBER, conversion=CONVERSION)
@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """What a verified image needs.

    Attributes:
        trust: whom to believe.
        dm_verity: whether its layers must be signed.
        manifest_signature: whether its manifest must be signed.
        forms: of which there must be a dm-verity artifact each; names in forms.FORMS.
        require_bound: whether a signature of the manifest must bind the root hashes of its layers.
        user_metadata: must be among what was signed with the manifest.
        max_signatures: how many referrers of a manifest are judged.
        revocation: fetches CRLs and OCSP answers; nothing is fetched by default.
        plugin: what verification plugins are told that signatures of trusted chains name.
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
    forms: tuple[str, ...] = ()
    require_bound: bool = False
    max_signatures: int = MAX_SIGNATURES
    user_metadata: Mapping[str, str] = field(default_factory=dict)
    revocation: Checker | None = None
    plugin: PluginOptions = field(default_factory=PluginOptions)
    deep: bool = False
    platform: str | None = None
    recursive: bool = False
    jobs: int = 1
    conversion: Conversion = field(default_factory=Conversion)


@dataclass(frozen=True)
class ReferrerVerdict:
    """The verdict on an artifact that refers to the image.

    Attributes:
        digest: of its manifest.
        kind: ``notary`` or ``dm-verity``.
        form: of a dm-verity artifact, a name in forms.FORMS.
        accepted: whether it counts.
        problem: why not.
        signature: the verdict on a Notary Project signature.
        layers: the verdicts on the layers' signatures.
        recipe: that the artifact records.
        root_hashes: the digest that binds layers and root hashes. Of a dm-verity artifact it is
            computed from the layers, of a Notary signature it is what was signed.
        bound: True if an accepted signature of the manifest holds the digest of the layers, False
            if it holds another, None if no accepted signature holds any.
    """

    digest: str
    kind: str
    accepted: bool
    problem: str | None = None
    signature: SignatureVerdict | None = None
    layers: tuple[LayerVerdict, ...] = ()
    recipe: Mapping[str, str] | None = None
    root_hashes: str | None = None
    bound: bool | None = None
    form: str | None = None


@dataclass(frozen=True)
class ImageVerdict:
    """The verdict on a manifest.

    Attributes:
        manifest: its digest.
        wanted: the kinds of signatures that it needs; ``dm-verity FORM`` for a form of artifact.
        referrers: every signature that was judged.
        skipped: the trust policy wants no verification of the manifest's signature.
        unjudged: how many referrers were not looked at, since there are too many.
        passed_over: what cannot be read in the list of referrers.
    """

    manifest: str
    wanted: tuple[str, ...]
    referrers: tuple[ReferrerVerdict, ...]
    skipped: bool = False
    unjudged: int = 0
    passed_over: tuple[str, ...] = ()

    @property
    def bound(self) -> bool:
        """True if a signature of the manifest binds the root hashes of an accepted artifact."""
        return any(one.accepted and one.bound for one in self.referrers)

    @property
    def missing(self) -> tuple[str, ...]:
        """The kinds of which no signature is accepted."""
        accepted = [one for one in self.referrers if one.accepted]
        good = {one.kind for one in accepted} | {f"{one.kind} {one.form}" for one in accepted}
        return tuple(kind for kind in self.wanted if kind not in good)

    @property
    def verified(self) -> bool:
        """True if at least one kind is wanted and each wanted kind has an accepted signature."""
        return bool(self.wanted) and not self.missing

    @property
    def passed(self) -> bool:
        """True if the manifest is verified, or the policy skips it and no layers are missing."""
        return self.verified or (self.skipped and not self.missing)


@takes(store=STORE, reference=TEXT, options=instance(VerifyOptions, "VerifyOptions"))
def verify_image(
    store: Store,
    reference: str,
    options: VerifyOptions,
    *,
    progress: Callable[[int], object] = lambda _: None,
) -> list[ImageVerdict]:
    """Verify what a tag or digest names, once it is resolved to a digest.

    A broken or foreign signature beside a good one is reported and does no harm. An index has no
    layers of its own, so that there is no verdict on it where no manifest needs a signature.

    Raises:
        ParameterError: an index without a choice in it, or nothing to verify is asked for.
        UnsignedError: an index without a manifest whose layers could be signed.
        FormatError, VerificationError: the image itself is not what its digest says.
        StorageError, RegistryError: the store cannot tell.
    """
    options = checked_options(options)
    manifests = manifests_of(
        store,
        reference,
        platform=options.platform,
        recursive=options.recursive,
        # where nothing at all is verified there is nothing to choose
        whole=_is_skipped(options) and not options.dm_verity,
    )
    if not options.manifest_signature:
        manifests = [one for one in manifests if isinstance(one, Manifest)]
    if not manifests:
        raise UnsignedError(f"{reference} lists no manifest, so there are no layers to verify")
    hashes = RootHashes(store, options.conversion, options.jobs, progress)
    return [_verify_one(store, manifest, options, hashes) for manifest in manifests]


def checked_options(options: VerifyOptions) -> VerifyOptions:
    """The options as verify_manifest takes them for many images: each CRL is fetched once.

    Raises:
        ParameterError: they contradict each other.
    """
    if not options.dm_verity and not options.manifest_signature:
        raise ParameterError("neither the layers nor the manifest are to be verified")
    if options.forms and not options.dm_verity:
        raise ParameterError("a form is one of the layers' signatures: verify those too")
    if options.require_bound and not (options.dm_verity and options.manifest_signature):
        raise ParameterError(
            "--require-bound is about signatures of the manifest and of the layers: verify both"
        )
    if options.revocation:
        options = replace(options, revocation=_once(options.revocation))
    return options


def verify_manifest(
    store: Store, manifest: Manifest | Index, options: VerifyOptions
) -> ImageVerdict:
    """Verify a manifest, an index without those in it; see verify_image."""
    hashes = RootHashes(store, options.conversion, options.jobs, lambda _: None)
    return _verify_one(store, manifest, options, hashes)


def _is_skipped(options: VerifyOptions) -> bool:
    skips = options.trust.actions[Validation.INTEGRITY] is Action.SKIP
    return options.manifest_signature and skips


def _once(check: Checker) -> Checker:
    known = functools.cache(check)
    return lambda chain, count: known(tuple(chain), count)


def _verify_one(
    store: Store, manifest: Manifest | Index, options: VerifyOptions, hashes: RootHashes
) -> ImageVerdict:
    skipped = _is_skipped(options)
    wanted = []
    if options.manifest_signature and not skipped:
        wanted.append("notary")
    # without a signature over it, what a manifest says that it is excuses nothing
    if options.dm_verity and (is_image(manifest) or not options.manifest_signature):
        wanted += ["dm-verity", *(f"dm-verity {form_of(name).name}" for name in options.forms)]
    subject = manifest.descriptor
    found: dict[Descriptor, ReferrerVerdict] = {}
    artifacts = []
    known = signatures_of(store, subject)
    listed = _in_order(known, options.trust)
    judged, unjudged = listed[: options.max_signatures], listed[options.max_signatures :]
    for described in judged:
        kind = kind_of_type(described.artifact_type)  # as the store says, until the manifest does
        with Judgement() as judgement:
            referrer = store.fetch_manifest(described)
            kind = kind_of(referrer)
            if kind not in wanted or not isinstance(referrer, Manifest):
                continue
            if not refers_to(referrer, subject):
                raise VerificationError(f"it refers to {referrer.subject or 'nothing'}, not here")
            if kind == "notary":
                found[described.plain()] = _judge_notary(store, referrer, subject, options)
            else:
                artifacts.append(referrer)
        if kind in wanted and judgement.flaw is not None:
            found[described.plain()] = _refused(described, kind, judgement.flaw)
    # the root hashes that signers of the manifest stand for; if there are any, only those count
    bound = {one.root_hashes for one in found.values() if one.root_hashes}
    if unjudged or known.cut:  # among them may be the signature that binds
        options = replace(options, require_bound=True)
    for referrer in artifacts:
        with Judgement() as judgement:
            found[referrer.descriptor] = _judge_layers(
                store, referrer, manifest, options, hashes, bound
            )
        if judgement.flaw is not None:
            found[referrer.descriptor] = _refused(referrer.referrer, "dm-verity", judgement.flaw)
    in_order = tuple(found[one.plain()] for one in judged if one.plain() in found)
    return ImageVerdict(
        subject.digest, tuple(wanted), in_order, skipped, len(unjudged), known.problems
    )


def _in_order(listed: Sequence[Descriptor], trust: Trust) -> list[Descriptor]:
    """Return the referrers, those first that are listed as signatures of a trusted signer.

    What a list says proves nothing: who pushes many can copy it. The order brings the right
    signatures before those of other signers and before what is no signature.
    """
    names = [one.fingerprint(SHA256()).hex() for one in trust.certificates]

    def place(described: Descriptor) -> int:
        kind = kind_of_type(described.artifact_type)
        said = described.annotations.get(_THUMBPRINTS, "")
        if kind == "dm-verity" or (kind == "notary" and any(name in said for name in names)):
            return 0
        return 1 if kind else 2

    return sorted(listed, key=place)


def _refused(described: Descriptor, kind: str, problem: str) -> ReferrerVerdict:
    return ReferrerVerdict(described.digest, kind, False, problem, form=_form_name(described))


def _judge_notary(
    store: Store, referrer: Manifest, subject: Descriptor, options: VerifyOptions
) -> ReferrerVerdict:
    if len(referrer.layers) != 1:
        raise FormatError(f"a signature has one envelope, and this has {len(referrer.layers)}")
    layer = referrer.layers[0]
    verdict = envelope_verdict(
        fetch_blob(store, layer),
        layer.media_type,
        options.trust,
        target=subject.plain().to_json(),
        user_metadata=options.user_metadata,
        revocation=options.revocation,
        plugin=options.plugin,
    )
    return ReferrerVerdict(
        referrer.descriptor.digest,
        "notary",
        verdict.accepted,
        verdict.refusal(),
        verdict,
        root_hashes=bound_by(verdict),
    )


def _judge_layers(
    store: Store,
    referrer: Manifest,
    manifest: Manifest | Index,
    options: VerifyOptions,
    hashes: RootHashes,
    bound: set[str],
) -> ReferrerVerdict:
    assert isinstance(manifest, Manifest)  # noqa: S101
    digests = [layer.digest for layer in manifest.layers]
    recipe = recipe_of(referrer)
    signatures = list(dict.fromkeys(read_dm_verity(store, referrer, digests)))
    root_hashes = digest_of_roots(((one.layer, one.root_hash) for one in signatures), recipe)
    unbound = bool(bound) and root_hashes not in bound
    layers = [_judge_layer(one, options) for one in signatures]
    # layers are not read for a stranger: that may take hours, for each artifact
    if options.deep and not any(one.problem for one in layers):
        layers = hashes.compare(manifest, layers, recipe or options.recipe)
        if (form := form_of_type(referrer.referrer.artifact_type)) and form.parts:
            check_published(store, form, referrer, signatures)
    bad = _problems_of(layers)
    if unbound:
        bad.append(
            "the signature of the manifest binds the layers to other root hashes, or to another "
            "recipe"
        )
    elif options.require_bound and not bound:
        bad.append("no signature of the manifest that counts binds the layers to root hashes")
    return ReferrerVerdict(
        referrer.descriptor.digest,
        "dm-verity",
        not bad,
        "; ".join(bad) or None,
        layers=tuple(layers),
        recipe=recipe.fields() if recipe else None,
        root_hashes=root_hashes,
        bound=not unbound if bound else None,
        form=_form_name(referrer),
    )


def _problems_of(layers: Sequence[LayerVerdict]) -> list[str]:
    """Why layers are refused: once, where it is the same with all of them."""
    problems = {one.problem for one in layers}
    if len(layers) > 1 and len(problems) == 1 and None not in problems:
        return [f"each of {len(layers)} layers: {problems.pop()}"]
    return [f"layer {one.layer}: {one.problem}" for one in layers if one.problem]


def _form_name(described: Manifest | Descriptor) -> str | None:
    listed = described.referrer if isinstance(described, Manifest) else described
    form = form_of_type(listed.artifact_type)
    return form.name if form else None


def _judge_layer(one: LayerSignature, options: VerifyOptions) -> LayerVerdict:
    verdict = None
    with Judgement() as judgement:
        verdict = verify_layer_signature(
            one.signature, one.root_hash, options.trust, revocation=options.revocation
        )
    return LayerVerdict(one.layer, one.root_hash.hex(), verdict, None, judgement.flaw)
