"""What the signatures of an image say, whether or not they hold."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dmsign_fast.envelope.facts import facts_of
from dmsign_fast.envelope.notary import parse_envelope
from dmsign_fast.envelope.signed_data import parse_signed_data
from dmsign_fast.errors import DmsignError, FormatError
from dmsign_fast.oci.manifest import Manifest
from dmsign_fast.pipeline.artifact import (
    CREATED,
    fetch_blob,
    kind_of,
    read_dm_verity,
    recipe_of,
    signatures_of,
)
from dmsign_fast.pipeline.forms import form_of_type
from dmsign_fast.pipeline.image import manifests_of
from dmsign_fast.pipeline.strangers import Judgement
from dmsign_fast.signing.scheme import ML_DSA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dmsign_fast.oci.descriptor import Descriptor
    from dmsign_fast.oci.manifest import Index
    from dmsign_fast.oci.store import Store

__all__ = ["inspect_image"]


def inspect_image(
    store: Store, reference: str, *, platform: str | None = None, recursive: bool = False
) -> list[dict[str, Any]]:
    """Every signature of what a tag or digest names, as JSON can hold it; nothing is believed.

    What cannot be read has an ``error`` instead; ``passed_over`` is what cannot be read in the list
    of referrers.

    Raises:
        ParameterError, FormatError, VerificationError, StorageError, RegistryError: the image
            itself cannot be read.
    """
    manifests = manifests_of(store, reference, platform=platform, recursive=recursive, whole=True)
    return [_inspect(store, manifest) for manifest in manifests]


def _inspect(store: Store, manifest: Manifest | Index) -> dict[str, Any]:
    listed = signatures_of(store, manifest.descriptor)
    return {
        "manifest": manifest.descriptor.digest,
        "media_type": manifest.descriptor.media_type,
        "signatures": _signatures(store, manifest, listed),
        "passed_over": list(listed.problems),
    }


def _signatures(
    store: Store, manifest: Manifest | Index, listed: Iterable[Descriptor]
) -> list[dict[str, Any]]:
    found = []
    for described in listed:
        known: dict[str, Any] = {
            "digest": described.digest,
            "artifact_type": described.artifact_type,
        }
        try:
            with Judgement() as judgement:
                referrer = store.fetch_manifest(described)
                kind = kind_of(referrer)
                if kind is None or not isinstance(referrer, Manifest):
                    continue
                read = _notary if kind == "notary" else _dm_verity
                known |= {"kind": kind} | read(store, referrer, manifest)
            if judgement.flaw is not None:
                known["error"] = judgement.flaw
        except DmsignError as error:  # that the store cannot tell is no verdict on the others
            known["error"] = str(error)
        found.append(known)
    return found


def _notary(store: Store, referrer: Manifest, _: Manifest | Index) -> dict[str, Any]:
    if len(referrer.layers) != 1:
        raise FormatError(f"a signature has one envelope, and this has {len(referrer.layers)}")
    layer = referrer.layers[0]
    envelope = parse_envelope(fetch_blob(store, layer), layer.media_type)
    return {
        "media_type": envelope.media_type,
        "algorithm": envelope.scheme.jose,
        "signing_scheme": envelope.signing_scheme,
        "signing_time": envelope.signing_time and envelope.signing_time.isoformat(),
        "expiry": envelope.expiry and envelope.expiry.isoformat(),
        "agent": envelope.agent,
        "timestamped": envelope.timestamp_token is not None,
        "target": envelope.target,
        "certificates": [dataclasses.asdict(facts_of(one)) for one in envelope.certificate_chain],
    }


def _dm_verity(store: Store, referrer: Manifest, manifest: Manifest | Index) -> dict[str, Any]:
    layers = manifest.layers if isinstance(manifest, Manifest) else ()
    signatures = read_dm_verity(store, referrer, [layer.digest for layer in layers])
    recipe = recipe_of(referrer)
    form = form_of_type(referrer.referrer.artifact_type)
    return {
        "form": form and form.name,
        "created": referrer.annotations.get(CREATED),
        "recipe": recipe and recipe.fields(),
        "layers": [
            {
                "layer": one.layer,
                "root_hash": one.root_hash.hex(),
                "signature": _pkcs7(one.signature),
            }
            for one in signatures
        ],
    }


def _pkcs7(der: bytes) -> dict[str, Any]:
    parsed = parse_signed_data(der)
    return {
        "size": len(der),
        "signers": [
            {
                "digest": one.digest,
                "algorithm": ML_DSA.get(one.signature_algorithm, one.signature_algorithm),
                "serial": f"{one.serial:x}",
            }
            for one in parsed.signers
        ],
        "certificates": [dataclasses.asdict(facts_of(one)) for one in parsed.certificates],
    }
