"""Export: the files of a signed image as a node, or a program on it, takes them."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256

from dmsign_fast.envelope.signed_data import parse_signed_data
from dmsign_fast.errors import (
    NotFoundError,
    ParameterError,
    StorageError,
    UnsignedError,
    VerificationError,
)
from dmsign_fast.oci.manifest import Manifest
from dmsign_fast.outputs import new_directory, storage_errors, write_all
from dmsign_fast.pipeline.artifact import CREATED, read_dm_verity, recipe_of, signatures_of
from dmsign_fast.pipeline.convert import DeviceFiles, sidecar_of
from dmsign_fast.pipeline.digests import SharedDigests
from dmsign_fast.pipeline.files import verity_sig_json
from dmsign_fast.pipeline.forms import form_of_type
from dmsign_fast.pipeline.image import hash_image_layer, image_layers, manifests_of
from dmsign_fast.pipeline.jobs import run_all
from dmsign_fast.pipeline.passed import check_passed
from dmsign_fast.pipeline.strangers import Judgement
from dmsign_fast.pipeline.targets import Kind
from dmsign_fast.pipeline.verify_image import verify_image

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.artifact import LayerSignature
    from dmsign_fast.pipeline.image import ImageLayer
    from dmsign_fast.pipeline.layers import Conversion
    from dmsign_fast.pipeline.targets import Target
    from dmsign_fast.pipeline.verify_image import ReferrerVerdict, VerifyOptions
    from dmsign_fast.verity.tree import HashTree

__all__ = ["LISTING", "Exported", "ExportedLayer", "SignedLayers", "export_layers", "find_layers"]

LISTING = "layers.json"
_EROFS = "application/vnd.erofs.layer"


@dataclass(frozen=True)
class SignedLayers:
    """An image and the artifact that holds the signatures of its layers.

    Attributes:
        manifest: of the image.
        artifact: its manifest.
        recipe: of the root hashes.
        layers: in the image's order, the lowest first, each with its signature.
        signers: SHA-256 of the signer's certificate, by the layer's digest, as far as known.
        verified: False if nobody asked whether the signatures are good.
    """

    manifest: Manifest
    artifact: Manifest
    recipe: Recipe
    layers: tuple[tuple[ImageLayer, LayerSignature], ...]
    signers: Mapping[str, str]
    verified: bool


@dataclass(frozen=True)
class ExportedLayer:
    """A layer whose files were written.

    Attributes:
        number: of the layer, from 0, the lowest.
        layer: what the image says of it.
        signature: with its root hash.
        files: names, below the directory.
        hash_offset: of the superblock in its file.
        tree: without its hash area.
    """

    number: int
    layer: ImageLayer
    signature: LayerSignature
    files: Mapping[Kind, str]
    hash_offset: int
    tree: HashTree = field(repr=False)

    @property
    def json(self) -> dict[str, object]:
        """For the list of layers."""
        described, params = self.layer.descriptor, self.tree.params
        return {
            "number": self.number,
            "digest": described.digest,
            "media_type": described.media_type,
            "size": described.size,
            "diff_id": self.layer.diff_id,
            "root_hash": self.signature.root_hash.hex(),
            "data_blocks": self.tree.data_blocks,
            "data_block_size": params.data_block_size,
            "hash_block_size": params.hash_block_size,
            "salt": params.salt.hex(),
            "hash_offset": self.hash_offset,
            **{kind.value: name for kind, name in self.files.items()},
        }


@dataclass(frozen=True)
class Exported:
    """A directory that export_layers made."""

    directory: Path
    target: Target
    image: SignedLayers
    layers: tuple[ExportedLayer, ...]

    @property
    def json(self) -> dict[str, object]:
        """What the list of layers holds."""
        form = form_of_type(self.image.artifact.artifact_type)
        return {
            "for": self.target.name,
            "manifest": self.image.manifest.descriptor.digest,
            "artifact": self.image.artifact.descriptor.digest,
            "form": form.name if form else None,
            "recipe": self.image.recipe.fields(),
            "verified": self.image.verified,
            "layers": [layer.json for layer in self.layers],
        }


def find_layers(
    store: Store,
    reference: str,
    target: Target,
    *,
    verify: VerifyOptions | None,
    recipe: Recipe,
    forms: Sequence[str] = (),
    platform: str | None = None,
    name: str = "the image",
) -> SignedLayers:
    """Verify an image and choose the artifact of its layers: the newest that fits the target.

    Args:
        store: where all is.
        reference: a tag, which is resolved once, or a digest.
        target: what the files are for.
        verify: what is wanted of the image; None to believe all that an artifact says.
        recipe: for artifacts that record none.
        forms: of the artifact, names in forms.FORMS; none for any.
        platform: of an index, this manifest.
        name: of the repository, for messages.

    Raises:
        UnsignedError, VerificationError: the image is not signed, or not by whom it should be.
        ParameterError: the target does not take what the recipe makes, or an index without a
            choice in it.
        FormatError, StorageError, RegistryError: as verify_image.
    """
    (manifest,) = manifests_of(store, reference, platform=platform)
    if not isinstance(manifest, Manifest):
        raise ParameterError(f"{reference} is an index of indexes: name a manifest by its digest")
    layers = image_layers(store, manifest)
    native = [one.descriptor for one in layers if one.descriptor.media_type.startswith(_EROFS)]
    if native and not target.native:
        raise ParameterError(
            f"layer {native[0].digest} is an EROFS image, and {target.name} holds none"
        )
    accepted = None
    if verify:
        (verdict,) = verify_image(store, manifest.descriptor.digest, verify)
        check_passed([verdict], name)
        accepted = {one.digest: one for one in verdict.referrers if one.accepted}
    found = []
    digests = [layer.descriptor.digest for layer in layers]
    for artifact in _artifacts(store, manifest, accepted, forms):
        with Judgement():
            signatures = {one.layer: one for one in read_dm_verity(store, artifact, digests)}
            pairs = tuple((layer, signatures[layer.descriptor.digest]) for layer in layers)
            made_by = recipe_of(artifact) or recipe
            signers = (
                _embedded_signers(signatures.values())
                if accepted is None
                else _signers(accepted[artifact.descriptor.digest])
            )
            found.append(SignedLayers(manifest, artifact, made_by, pairs, signers, bool(verify)))
    if not found:
        forms_wanted = f" of the form {' or '.join(forms)}" if forms else ""
        raise UnsignedError(
            f"{name}@{manifest.descriptor.digest} has no dm-verity artifact{forms_wanted} that can "
            "be read: sign it first"
        )
    misfits = [target.misfit(one.recipe) for one in found]
    fitting = [one for one, misfit in zip(found, misfits, strict=True) if misfit is None]
    if not fitting:
        raise ParameterError(misfits[0])
    return max(fitting, key=lambda one: one.artifact.annotations.get(CREATED, ""))


def _signers(verdict: ReferrerVerdict) -> dict[str, str]:
    return {one.layer: one.signature.signer.fingerprint for one in verdict.layers if one.signature}


def _embedded_signers(signatures: Iterable[LayerSignature]) -> dict[str, str]:
    messages = {one.layer: parse_signed_data(one.signature) for one in signatures}
    return {
        layer: certificate.fingerprint(SHA256()).hex()
        for layer, message in messages.items()
        for certificate in message.certificates
        if message.signers[0].names(certificate)
    }


def _artifacts(
    store: Store, manifest: Manifest, accepted: Collection[str] | None, forms: Sequence[str]
) -> Iterator[Manifest]:
    for described in signatures_of(store, manifest.descriptor):
        if accepted is not None and described.digest not in accepted:
            continue
        with Judgement() as judgement:
            artifact = store.fetch_manifest(described)
        if judgement.flaw is not None or not isinstance(artifact, Manifest):
            continue
        form = form_of_type(artifact.artifact_type)
        if form and (not forms or form.name in forms):
            yield artifact


def export_layers(
    store: Store,
    image: SignedLayers,
    target: Target,
    directory: Path,
    conversion: Conversion,
    *,
    jobs: int = 1,
    progress: Callable[[int], object] = lambda _: None,
) -> Exported:
    """Fetch and convert the layers, and write what the target takes into a new directory.

    The directory appears when every layer gave its signed root hash, and never otherwise.

    Raises:
        ParameterError: the directory exists.
        VerificationError: a layer is not what its digests or its signature say.
        DmsignError: as hash_image_layer.
    """

    def task(number: int) -> Callable[[threading.Event], ExportedLayer]:
        layer, signature = image.layers[number]
        files = target.names(number, layer.diff_id)

        def export(stop: threading.Event) -> ExportedLayer:
            with ExitStack() as opened:
                file = _open(opened, fresh / files[Kind.IMAGE])
                hash_file = files.get(Kind.HASH_FILE)
                device = DeviceFiles(
                    image.recipe.params,
                    file,
                    _open(opened, fresh / hash_file) if hash_file else file,
                )
                hashed = hash_image_layer(
                    store,
                    layer,
                    image.recipe,
                    conversion,
                    file=device,
                    progress=progress,
                    stop=stop,
                    digests=digests,
                )
                tree = hashed.image.tree
                _check_root_hash(tree.root_hash, signature, image.recipe)
                device.finish(tree)
            signer = image.signers.get(signature.layer)
            for kind in files.keys() & _CONTENTS.keys():
                content = _CONTENTS[kind](signature, device.hash_offset, signer)
                _write(fresh / files[kind], content)
            return ExportedLayer(number, layer, signature, files, device.hash_offset, tree)

        return export

    # by the names of the images: an image may have a layer twice, and a target hold it once
    numbers: dict[str, int] = {}
    for number, (layer, _) in enumerate(image.layers):
        numbers.setdefault(target.names(number, layer.diff_id)[Kind.IMAGE], number)
    with new_directory(directory) as fresh:
        try:
            with SharedDigests(min(jobs, len(numbers))) as digests:
                layers = run_all([task(number) for number in numbers.values()], jobs)
        except NotFoundError:
            raise
        except StorageError as error:
            error.args = (f"{directory}: {error}", *error.args[1:])
            raise
        exported = Exported(directory, target, image, tuple(layers))
        if target.listing:
            _write(fresh / LISTING, json.dumps(exported.json, indent=2).encode() + b"\n")
    return exported


# of a layer, its hash offset, and the fingerprint of its signer
_CONTENTS: Mapping[Kind, Callable[[LayerSignature, int, str | None], bytes]] = {
    Kind.ROOT_HASH: lambda signed, _, __: signed.root_hash.hex().encode(),
    Kind.SIGNATURE: lambda signed, _, __: signed.signature,
    Kind.SIDECAR: lambda signed, offset, _: sidecar_of(signed.root_hash, offset),
    Kind.VERITY_SIG: lambda signed, _, signer: verity_sig_json(
        signed.root_hash, signer, signed.signature
    ),
}


def _check_root_hash(root_hash: bytes, signed: LayerSignature, recipe: Recipe) -> None:
    if root_hash != signed.root_hash:
        raise VerificationError(
            f"layer {signed.layer} gives the root hash {root_hash.hex()} with {recipe.name}@"
            f"{recipe.mkfs_version}, and {signed.root_hash.hex()} is signed: verify --deep says "
            "which recipe gives that"
        )


def _open(opened: ExitStack, path: Path) -> tuple[Path, int]:
    """A new file, which is synced when all is well, and closed in any case."""
    with storage_errors("write", path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def close(kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with storage_errors("write", path.name):
                    os.fsync(fd)
        finally:
            os.close(fd)

    opened.push(close)
    return path, fd


def _write(path: Path, data: bytes) -> None:
    with ExitStack() as opened:
        _, fd = _open(opened, path)
        with storage_errors("write", path.name):
            write_all(fd, data, 0)
