"""Whether a node would take an image by the dm-verity artifact that it reads, and why not.

What each node does is what its program was read to do (docs/images.md, "Forms"): which form it
reads, which of several artifacts it takes, and what it checks before the kernel does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from dmsign_fast.envelope.facts import facts_of
from dmsign_fast.envelope.signed_data import parse_signed_data
from dmsign_fast.oci.manifest import OCI_MANIFEST, Manifest
from dmsign_fast.pipeline.artifact import CREATED, read_dm_verity, recipe_of
from dmsign_fast.pipeline.forms import SIGNATURE, Form, Several, form_of
from dmsign_fast.pipeline.image import is_image
from dmsign_fast.pipeline.published import check_published
from dmsign_fast.pipeline.strangers import Judgement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dmsign_fast.envelope.pkcs7 import VerifiedRootHash
    from dmsign_fast.oci.descriptor import Descriptor
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.artifact import LayerSignature
    from dmsign_fast.pipeline.nodes import Node
    from dmsign_fast.pipeline.verify_image import ImageVerdict

__all__ = ["node_problems"]

_EROFS = "application/vnd.erofs.layer"
_NEVER = "0001-01-01T00:00:00Z"  # what a node takes for the time of an artifact that has none


def node_problems(store: Store, verdict: ImageVerdict, node: Node) -> tuple[str, ...]:
    """Why such a node would not take an image that was verified; nothing if it would.

    An index and an artifact have no layers: there is nothing for a node to take or refuse.

    Raises:
        StorageError, RegistryError: the store cannot tell.
    """
    manifest = store.resolve(verdict.manifest)
    if not isinstance(manifest, Manifest) or not is_image(manifest):
        return ()
    if node.form is None:
        return (
            f"{node.name} passes no signature to the kernel, so that a kernel that requires one "
            "opens no layer: use a node that reads a form of signatures, or mount the image with "
            "dmsign-fast mount",
        )
    with Judgement() as judgement:
        return tuple(dict.fromkeys(_problems(store, manifest, verdict, node, form_of(node.form))))
    return (str(judgement.flaw),)


def _problems(
    store: Store, manifest: Manifest, verdict: ImageVerdict, node: Node, form: Form
) -> Iterator[str]:
    native = [one.digest for one in manifest.layers if one.media_type.startswith(_EROFS)]
    if native and not node.native:
        yield f"it takes no layers that are EROFS images: {', '.join(native)}"
    listed = [
        one
        for one in store.referrers(manifest.descriptor, form.artifact_type)
        if one.artifact_type == form.artifact_type
    ]
    if not listed:
        yield f"there is no artifact of the form {form.name}: sign with --artifact {form.name}"
        return
    if len(listed) > 1 and form.several is Several.REFUSED:
        yield (
            f"there are {len(listed)} artifacts of the form {form.name}, and it refuses more than "
            "one: sign with --replace, or delete others"
        )
        return
    taken = max(listed, key=_created)
    if taken.media_type != OCI_MANIFEST:
        yield f"{taken.digest} is of type {taken.media_type}, not {OCI_MANIFEST}"
    yield from _problems_of(store, manifest, verdict, node, form, taken)


def _created(described: Descriptor) -> str:
    return described.annotations.get(CREATED, _NEVER)


def _problems_of(
    store: Store,
    manifest: Manifest,
    verdict: ImageVerdict,
    node: Node,
    form: Form,
    taken: Descriptor,
) -> Iterator[str]:
    """What is wrong with the artifact that the node takes."""
    judged = next((one for one in verdict.referrers if one.digest == taken.digest), None)
    if judged is None:
        yield f"the artifact that it takes, {taken.digest}, was not verified"
        return
    if not judged.accepted:
        yield f"the artifact that it takes, {taken.digest}, is refused: {judged.problem}"
        return
    referrer = store.fetch_manifest(taken)
    assert isinstance(referrer, Manifest)  # noqa: S101
    recipe = recipe_of(referrer)
    if recipe and (misfit := form.misfit(recipe)):
        yield misfit
    copy = form.signature.key(SIGNATURE)
    for described in referrer.layers:
        is_signature = described.media_type == form.signature.media_type
        if is_signature and copy and copy not in described.annotations:
            yield f"it reads the signature {described.digest} from an annotation {copy!r}"
    verdicts = {one.layer: one.signature for one in judged.layers}
    signatures = read_dm_verity(store, referrer, [layer.digest for layer in manifest.layers])
    check_published(store, form, referrer, signatures)
    for one in signatures:
        if signature := verdicts.get(one.layer):
            for problem in _signature_problems(node, one, signature):
                yield f"layer {one.layer}: {problem}"


def _signature_problems(
    node: Node, one: LayerSignature, verdict: VerifiedRootHash
) -> Iterator[str]:
    digest = verdict.scheme.rpartition("-")[2]
    if node.keys and verdict.key_spec not in node.keys:
        yield f"it takes signatures by a key {' or '.join(node.keys)}, not {verdict.key_spec}"
    elif node.digests and digest not in node.digests:
        yield f"it takes signatures with {' or '.join(node.digests)}, not {digest}"
    if verdict.signed_attributes and not node.attributes:
        yield "it takes no signed attributes"
    if node.code_signing and not _is_for_code_signing(one, verdict):
        yield (
            "it wants the signer's certificate in the signature, with the extended key usage Code "
            "Signing"
        )


def _is_for_code_signing(one: LayerSignature, verdict: VerifiedRootHash) -> bool:
    for certificate in parse_signed_data(one.signature).certificates:
        if facts_of(certificate) != verdict.signer:
            continue
        try:
            found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        except (x509.ExtensionNotFound, ValueError):
            return False
        return ExtendedKeyUsageOID.CODE_SIGNING in found.value
    return False
