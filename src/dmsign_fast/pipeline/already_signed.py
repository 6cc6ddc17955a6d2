"""Signatures that are there already and say the same: signing again adds nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dmsign_fast.envelope.chain import chain_validity_problem
from dmsign_fast.envelope.notary import check_envelope, parse_envelope
from dmsign_fast.envelope.pkcs7 import check_signers, verify_root_hash
from dmsign_fast.envelope.signed_data import parse_signed_data
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.oci.manifest import Manifest
from dmsign_fast.oci.store import refers_to
from dmsign_fast.pipeline.artifact import (
    NOTARY_TYPE,
    blobs_of,
    fetch_blob,
    read_dm_verity,
    recipe_of,
)
from dmsign_fast.pipeline.binding import ROOT_HASHES
from dmsign_fast.pipeline.strangers import MAX_SIGNATURES, Judgement
from dmsign_fast.signing.certificates import has_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cryptography import x509

    from dmsign_fast.envelope.notary import Envelope
    from dmsign_fast.envelope.signed_data import SignerInfo
    from dmsign_fast.envelope.timestamp import Timestamper
    from dmsign_fast.oci.descriptor import Descriptor
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.artifact import LayerSignature
    from dmsign_fast.pipeline.forms import Form
    from dmsign_fast.pipeline.plan import Plan, SignOptions
    from dmsign_fast.signing.signer import Signer

__all__ = ["find_former", "find_layers", "find_notary", "other_roots"]


def find_layers(
    store: Store,
    plan: Plan,
    known: Sequence[Descriptor],
    form: Form,
    signer: Signer,
    options: SignOptions,
) -> Descriptor | None:
    """The referrer of that form with good signatures of this key and kind over a plan's layers."""
    signers = check_signers(
        signer, options.and_by, options.pkcs7_digest, certificates=options.certificates
    )
    chains = [one.certificate_chain for one, _ in signers]
    embedded = {one for chain in chains for one in chain} if options.certificates else set()
    # as assemble_root_hash verified them
    anchors = TrustAnchors(tuple(chain[-1 if options.certificates else 0] for chain in chains))
    wanted = dict(plan.roots)

    def same_signers(found: Sequence[SignerInfo]) -> bool:
        return len(found) == len(signers) and all(
            any(one.names(by.certificate_chain[0]) and one.is_of(scheme) for one in found)
            for by, scheme in signers
        )

    def same(manifest: Manifest) -> bool:
        if manifest.artifact_type != form.artifact_type or recipe_of(manifest) != options.recipe:
            return False
        signatures = read_dm_verity(store, manifest, [layer for layer, _ in plan.roots])
        for one in signatures:
            verify_root_hash(one.signature, wanted[one.layer], anchors)
            # the raw signature is of a key, which other certificates may have too
            parsed = parse_signed_data(one.signature)
            if not same_signers(parsed.signers) or set(parsed.certificates) != embedded:
                return False
        blobs = blobs_of(form, manifest, wanted)
        return all(one.root_hash == wanted[one.layer] for one in signatures) and all(
            described.digest == plan.blobs[layer][part].digest
            for layer, parts in blobs.items()
            for part, described in parts.items()
        )

    return _find(store, plan.manifest, known, same)


def find_former(
    store: Store, plan: Plan, known: Sequence[Descriptor], form: Form, leaf: x509.Certificate
) -> list[Descriptor]:
    """The referrers of that form whose signatures are all by the leaf's key, over any root hashes.

    Certificates of the key may have been renewed, and have expired.
    """

    def by_key(manifest: Manifest) -> bool:
        if manifest.artifact_type != form.artifact_type:
            return False
        signatures = read_dm_verity(store, manifest, [layer for layer, _ in plan.roots])
        return all(_is_by_key(one, leaf) for one in signatures)

    return [one for one in known if _find(store, plan.manifest, [one], by_key)]


def other_roots(
    store: Store, plan: Plan, form: Form, former: Iterable[Descriptor]
) -> Iterator[str]:
    """What nodes of a form will make of it that former referrers have other root hashes."""
    now = dict(plan.roots)
    for described in former if form.keeps else ():
        manifest = store.fetch_manifest(described)
        assert isinstance(manifest, Manifest)  # noqa: S101 - by find_former
        found = read_dm_verity(store, manifest, list(now))
        if changed := [one.layer for one in found if one.root_hash != now[one.layer]]:
            yield (
                f"{described.digest} had other root hashes for {len(changed)} of the layers, such "
                f"as {changed[0]}: nodes of the form {form.name} that have these layers refuse the "
                "image until their snapshots are removed; the former --recipe and version of "
                "mkfs.erofs keep the root hashes"
            )


def _is_by_key(one: LayerSignature, leaf: x509.Certificate) -> bool:
    embedded = parse_signed_data(one.signature).certificates
    for certificate in dict.fromkeys((leaf, *embedded)):
        if has_key(certificate, leaf.public_key()):
            anchors, at = TrustAnchors((certificate,)), certificate.not_valid_before_utc
            with Judgement() as judgement:
                verify_root_hash(one.signature, one.root_hash, anchors, at=at)
            if judgement.flaw is None:
                return True
    return False


def find_notary(
    store: Store,
    subject: Descriptor,
    known: Sequence[Descriptor],
    root_hashes: str | None,
    signer: Signer,
    options: SignOptions,
) -> Descriptor | None:
    """The referrer that is a good signature of this key, with these claims, over a manifest.

    Without ``root_hashes`` it may be of any.
    """

    def same(manifest: Manifest) -> bool:
        if NOTARY_TYPE not in (manifest.artifact_type, manifest.config.media_type):
            return False
        layer = manifest.layers[0] if len(manifest.layers) == 1 else None
        if layer is None or layer.media_type != options.media_type:
            return False
        envelope = parse_envelope(fetch_blob(store, layer), layer.media_type)
        check_envelope(envelope, target=subject.plain().to_json())
        metadata = envelope.user_metadata
        bound = metadata.pop(ROOT_HASHES, None)
        return (
            envelope.certificate_chain == tuple(signer.certificate_chain)
            and metadata == dict(options.user_metadata)
            and root_hashes in (None, bound)
            and (envelope.expiry is None) == (options.expiry is None)
            and (envelope.expiry is None or envelope.expiry > datetime.now(UTC))
            and _is_stamped(envelope, options.timestamp)
        )

    return _find(store, subject, known, same)


def _is_stamped(envelope: Envelope, wanted: Timestamper | None) -> bool:
    """Tell whether there is a good timestamp if one is wanted, and none otherwise."""
    token, chain = envelope.timestamp_token, envelope.certificate_chain
    if wanted is None or token is None:
        return wanted is None and token is None
    found = wanted.verify(token, envelope.signature)
    times = (found.earliest, found.latest)
    return all(chain_validity_problem(chain, time) is None for time in times)


def _find(
    store: Store,
    subject: Descriptor,
    known: Sequence[Descriptor],
    same: Callable[[Manifest], bool],
) -> Descriptor | None:
    """The first of the referrers that is the same; what is broken, gone or foreign is none."""
    for descriptor in known[:MAX_SIGNATURES]:
        with Judgement():
            manifest = store.fetch_manifest(descriptor)
            if isinstance(manifest, Manifest) and refers_to(manifest, subject) and same(manifest):
                return manifest.descriptor
    return None
