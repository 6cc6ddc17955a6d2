"""Sign an image in two steps, for keys that no computer of ours can reach."""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dmsign_fast.envelope.pkcs7 import check_signers
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import ParameterError, SigningError, VerificationError
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.outputs import Outputs, storage_errors, write_all
from dmsign_fast.pipeline.artifact import signatures_of
from dmsign_fast.pipeline.forms import Part, form_of
from dmsign_fast.pipeline.layer_file import LayerBlob
from dmsign_fast.pipeline.plan import Plan, SignedLayer, SignOptions
from dmsign_fast.pipeline.sign_image import (
    plan_image,
    push_signed,
    sign_planned,
    sign_subject,
)
from dmsign_fast.pipeline.signing_request import (
    By,
    Message,
    SigningRequest,
    check_new,
    root_hash_messages,
)
from dmsign_fast.signing.offline import NotSignedError, Recorder
from dmsign_fast.strict_json import Members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cryptography import x509

    from dmsign_fast.envelope.timestamp import Timestamper
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.plan import SignedImage
    from dmsign_fast.signing.signer import Signer

__all__ = ["attach_image", "image_of", "prepare_image"]

_OPTIONS = (
    *("recipe", "forms", "media_type", "legacy", "expiry", "user_metadata", "agent"),
    *("manifest_signature", "pkcs7_digest", "certificates", "signing_time"),
)
_ROOT_HASH = re.compile("[0-9a-f]{64}")


def prepare_image(
    store: Store,
    wanted: str,
    chain: Sequence[x509.Certificate],
    options: SignOptions,
    directory: Path,
    *,
    reference: str,
    oci_layout: bool,
    others: Mapping[By, Sequence[x509.Certificate]] = MappingProxyType({}),
    progress: Callable[[int], object] = lambda _: None,
    found: Callable[[int], object] = lambda _: None,
) -> tuple[list[Plan], SigningRequest]:
    """Hash an image and write what must be signed; nothing is pushed.

    Args:
        store: where the image is.
        wanted: its tag or digest.
        chain: of the signer, leaf first.
        options: what is signed and how; what is there already does not matter.
        directory: for the files: new, or empty.
        reference: the image's name, for the record.
        oci_layout: whether that is in an OCI image layout.
        others: the certificates of a key that signs root hashes too, of another for manifests.
        progress: as sign_image.
        found: as sign_image.

    Raises:
        SigningError: the certificates must not sign.
        ParameterError: the directory is not empty; and as sign_image, also for the rest.
    """
    check_new(directory)  # before layers are read
    chains = {By.KEY: tuple(chain)} | {by: tuple(one) for by, one in others.items()}
    resolved = store.resolve(wanted).descriptor.digest
    now = datetime.now(UTC).replace(microsecond=0)
    signer, options = _signed_by({by: Recorder(one) for by, one in chains.items()}, options)
    options = replace(options, signing_time=now, expiry=options.expires(now))
    plans = plan_image(store, resolved, signer, options, progress=progress, found=found)
    messages = [*_root_hashes(plans, signer, options), *_notary(plans, chains, options)]
    made = {
        "reference": reference,
        "oci_layout": oci_layout,
        "resolved": resolved,
        "options": _options_json(options),
        "images": [_plan_json(plan) for plan in plans],
    }
    signing_request = SigningRequest(directory, "image", chains, tuple(messages), made)
    blobs = {
        blob.digest: blob for plan in plans for one in plan.blobs.values() for blob in one.values()
    }
    with Outputs() as outputs:
        signing_request.write(outputs, options.agent)
        for blob in blobs.values():
            _write(outputs, directory / _file_of(blob.digest), blob)
    return plans, signing_request


def _signed_by(keys: Mapping[By, Signer], options: SignOptions) -> tuple[Signer, SignOptions]:
    """Who signs, as sign_image has it: the key, and the others in the options."""
    and_by = tuple(one for by, one in keys.items() if by is By.AND)
    return keys[By.KEY], replace(options, and_by=and_by, manifest_signer=keys.get(By.MANIFEST))


def _root_hashes(plans: Sequence[Plan], signer: Signer, options: SignOptions) -> Iterator[Message]:
    """Each different root hash, for each key that signs it."""
    layers: dict[bytes, SignedLayer] = {}
    for one in itertools.chain.from_iterable(plan.layers for plan in plans):
        layers.setdefault(one.root_hash, one)
    if not layers:  # then the key need not be good for them
        return
    signers = check_signers(
        signer, options.and_by, options.pkcs7_digest, certificates=options.certificates
    )
    schemes = {by: scheme for by, (_, scheme) in zip((By.KEY, By.AND), signers, strict=False)}
    for number, layer in enumerate(layers.values(), 1):
        yield from root_hash_messages(layer.root_hash, number, f"layer {layer.digest}", schemes)


def _notary(
    plans: Sequence[Plan], chains: Mapping[By, Sequence[x509.Certificate]], options: SignOptions
) -> Iterator[Message]:
    """What is signed of each manifest."""
    by = By.MANIFEST if By.MANIFEST in chains else By.KEY
    for number, plan in enumerate(plans if options.manifest_signature else (), 1):
        recorder = Recorder(chains[by])
        with contextlib.suppress(NotSignedError):
            sign_subject(plan, recorder, options)
        ((content, scheme),) = recorder.asked
        what = f"the Notary Project signature of {plan.manifest.digest}"
        yield Message(f"{by}notary-{number}.bin", what, scheme, content, by)


def image_of(signing_request: SigningRequest) -> tuple[str, bool]:
    """The reference of the image that was prepared, and whether it is in an OCI image layout."""
    made = _made(signing_request)
    return made.text("reference"), made.flag("oci_layout")


def attach_image(
    store: Store,
    wanted: str,
    signing_request: SigningRequest,
    *,
    timestamp: Timestamper | None = None,
    manifest_signature: bool = True,
    replace_former: bool = False,
) -> list[SignedImage]:
    """Verify the signatures that were made, wrap and push them.

    What the image has already, byte by byte, is not added again. Whether the manifest is signed,
    and so its layers are bound to their root hashes, is said here again: nothing in the record is
    signed, and whoever carried it could have left that out.

    Args:
        store: where the image is.
        wanted: its tag or digest.
        signing_request: the directory, with the signatures.
        timestamp: as in SignOptions.
        manifest_signature: whether the record must have signatures of manifests, or none.
        replace_former: as ``replace`` in SignOptions.

    Raises:
        VerificationError: the tag names another image than was prepared.
        NotFoundError: the image is not there.
        StorageError: signatures are missing.
        SigningError: a signature is wrong, a file was changed, or the certificates are no longer
            valid.
        FormatError: the record is malformed.
        ParameterError: the signature would have expired.
    """
    made = _made(signing_request)
    options = replace(_options(made), timestamp=timestamp, replace=replace_former)
    if manifest_signature and not options.manifest_signature:
        raise SigningError(
            f"{made.what} has no Notary Project signature, so that nothing binds layers to root "
            "hashes: give --no-manifest-signature if prepare was told so, or else prepare again"
        )
    if options.manifest_signature and not manifest_signature:
        raise ParameterError(f"{made.what} has a Notary Project signature: attach it too")
    now = datetime.now(UTC)
    expiry = options.expires(now)
    if expiry is not None and expiry <= now:
        raise ParameterError(f"the signature expires on {expiry}: prepare again")
    plans = [
        _plan(
            signing_request,
            Members(one, ("manifest", "layers"), f"{made.what}, images[{number}]"),
            options.parts,
        )
        for number, one in enumerate(made.array("images"))
    ]
    if not plans:
        raise made.wrong("images", "are none, so nothing was prepared")
    resolved = store.resolve(wanted).descriptor.digest
    if resolved != made.text("resolved"):
        raise VerificationError(
            f"{wanted} names {resolved}, and named {made.text('resolved')} when it was prepared: "
            "it was moved meanwhile; prepare again"
        )
    for plan in plans:
        store.fetch_manifest(plan.manifest)
    answers = signing_request.answers()
    signer, options = _signed_by(answers, replace(options, force=True))
    ready = [sign_planned(store, plan, signer, options) for plan in plans]
    for each in answers.values():
        each.check_used()
    missing = []
    for signed, artifacts in ready:
        known = {one.digest for one in signatures_of(store, signed.manifest)}
        new = [one for one in artifacts if one.manifest.descriptor.digest not in known]
        added = tuple(one.manifest.descriptor for one in new)
        missing.append((replace(signed, added=added), new))
    return push_signed(store, missing)


def _made(signing_request: SigningRequest) -> Members:
    known = ("reference", "oci_layout", "resolved", "options", "images")
    return Members(signing_request.made, known, f"{signing_request.directory}/manifest.json, made")


def _options_json(options: SignOptions) -> dict[str, Any]:
    value = {name: getattr(options, name) for name in _OPTIONS}
    for name in ("expiry", "signing_time"):
        value[name] = value[name] and value[name].isoformat()
    return value | {
        "recipe": options.recipe.fields(),
        "forms": list(options.forms),
        "user_metadata": dict(options.user_metadata),
    }


def _options(made: Members) -> SignOptions:
    value = Members(made.value("options"), _OPTIONS, f"{made.what}, options")
    forms = tuple(form_of(name).name for name in value.texts("forms"))
    if not forms:
        raise value.wrong("forms", "is empty")
    try:
        recipe = Recipe.from_fields(value.annotations("recipe"))
    except (KeyError, ValueError) as error:
        raise value.wrong("recipe", f"is malformed: {error}") from error
    return SignOptions(
        recipe=recipe,
        forms=forms,
        media_type=value.text("media_type"),
        legacy=value.flag("legacy"),
        expiry=_time(value, "expiry") if value.has("expiry") else None,
        user_metadata=value.annotations("user_metadata"),
        agent=value.optional_text("agent"),
        manifest_signature=value.flag("manifest_signature"),
        pkcs7_digest=value.optional_text("pkcs7_digest"),
        certificates=value.flag("certificates"),
        signing_time=_time(value, "signing_time"),
    )


def _time(value: Members, name: str) -> datetime:
    try:
        time = datetime.fromisoformat(value.text(name))
        in_utc = time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise value.wrong(name, "is not a time within the calendar") from None
    if time.tzinfo is None:
        raise value.wrong(name, "has no time zone")
    return in_utc


def _plan_json(plan: Plan) -> dict[str, Any]:
    layers = [
        {
            "digest": layer.digest,
            "diff_id": layer.diff_id,
            "size": layer.size,
            "root_hash": layer.root_hash.hex(),
            "uncompressed_size": layer.uncompressed_size,
            "reused": layer.reused,
            "blobs": {
                part: {"digest": blob.digest, "size": blob.size}
                for part, blob in layer.blobs.items()
            },
        }
        for layer in plan.layers
    ]
    return {"manifest": plan.manifest.plain().to_json(), "layers": layers}


def _file_of(digest: Digest) -> str:
    """The name of the file that keeps a blob until the signatures are there."""
    return f"{digest.encoded}.blob"


def _write(outputs: Outputs, path: Path, blob: LayerBlob) -> None:
    fd, offset = outputs.open(path), 0
    with storage_errors("write", path):
        for piece in blob.content():
            write_all(fd, piece, offset)
            offset += len(piece)


def _blobs(
    signing_request: SigningRequest, entry: Members, parts: frozenset[Part]
) -> dict[Part, LayerBlob]:
    """What is pushed besides signatures; the push sees whether a file was changed."""
    listed = Members(entry.value("blobs"), tuple(Part), f"{entry.what}, blobs")
    if entry.value("blobs").keys() != parts:
        raise entry.wrong("blobs", f"are not {', '.join(sorted(parts)) or 'empty'}")
    found = {}
    for part in sorted(parts):
        one = Members(listed.value(part), ("digest", "size"), f"{listed.what}, {part}")
        digest = Digest(one.text("digest"))
        content = functools.partial(signing_request.pieces, _file_of(digest))
        found[part] = LayerBlob(digest, one.integer("size"), content)
    return found


def _plan(signing_request: SigningRequest, value: Members, parts: frozenset[Part]) -> Plan:
    def layer(one: Any) -> SignedLayer:
        entry = Members(one, (), f"{value.what}, layers")
        if not _ROOT_HASH.fullmatch(entry.text("root_hash")):
            raise entry.wrong("root_hash", "is not a root hash in lower-case hex digits")
        reused = entry.optional_text("reused")
        return SignedLayer(
            Digest(entry.text("digest")),
            Digest(entry.text("diff_id")),
            entry.integer("size"),
            bytes.fromhex(entry.text("root_hash")),
            entry.integer("uncompressed_size") if entry.has("uncompressed_size") else None,
            Digest(reused) if reused else None,
            _blobs(signing_request, entry, parts),
        )

    manifest = Descriptor.from_json(value.value("manifest"), f"{value.what}, manifest")
    return Plan(manifest, tuple(layer(one) for one in value.array("layers")))
