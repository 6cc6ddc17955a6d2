"""Root hashes made again from the layers, for ``verify --deep``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dmsign_fast.errors import FormatError
from dmsign_fast.pipeline.digests import SharedDigests
from dmsign_fast.pipeline.identify import every_root_hash
from dmsign_fast.pipeline.image import hash_image_layer, image_layers
from dmsign_fast.pipeline.jobs import run_all

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from dmsign_fast.envelope.pkcs7 import VerifiedRootHash
    from dmsign_fast.erofs.layer_versions import VersionResult
    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.oci.manifest import Manifest
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.image import ImageLayer
    from dmsign_fast.pipeline.layers import Conversion

__all__ = ["LayerVerdict", "RootHashes"]


@dataclass(frozen=True)
class LayerVerdict:
    """The signature of one layer.

    Attributes:
        layer: its digest.
        root_hash: hex, as the artifact says.
        signature: by whom, if it holds.
        recomputed: whether the layer itself gives that root hash; None without --deep, or if a
            signature of the artifact does not hold.
        problem: what is wrong; None if nothing is.
    """

    layer: str
    root_hash: str
    signature: VerifiedRootHash | None
    recomputed: bool | None
    problem: str | None


class RootHashes:
    """Root hashes of layers by recipe, each made once."""

    def __init__(
        self,
        store: Store,
        conversion: Conversion,
        jobs: int,
        progress: Callable[[int], object],
    ) -> None:
        """Take what ``hash_image_layer`` needs; ``jobs`` layers are read at a time."""
        self._store = store
        self._conversion = conversion
        self._jobs = jobs
        self._progress = progress
        self._known: dict[tuple[ImageLayer, str], str] = {}
        self._others: dict[tuple[ImageLayer, str], list[VersionResult]] = {}

    def compare(
        self, manifest: Manifest, signed: list[LayerVerdict], recipe: Recipe
    ) -> list[LayerVerdict]:
        """The same, held against the layers themselves; errors as hash_layer."""
        # two entries of a layer may differ in the diff ID, and then one is wrong
        layers = list(dict.fromkeys(image_layers(self._store, manifest)))
        made = dict(zip(layers, self._make(layers, recipe), strict=True))
        compared = []
        for one in signed:
            these = [layer for layer in layers if layer.descriptor.digest == one.layer]
            wrong = [layer for layer in these if made[layer] != one.root_hash]
            problem = self._reason(wrong[0], one.root_hash, recipe) if wrong else None
            compared.append(replace(one, recomputed=not wrong, problem=problem))
        return compared

    def _make(self, layers: list[ImageLayer], recipe: Recipe) -> list[str]:
        key = repr(recipe.fields())
        new = [layer for layer in layers if (layer, key) not in self._known]

        def task(layer: ImageLayer) -> Callable[[threading.Event], str]:
            return lambda stop: hash_image_layer(
                self._store,
                layer,
                recipe,
                self._conversion,
                progress=self._progress,
                stop=stop,
                digests=digests,
            ).image.root_hash.hex()

        with SharedDigests(min(self._jobs, len(new))) as digests:
            made = run_all([task(layer) for layer in new], self._jobs)
        self._known |= {(layer, key): one for layer, one in zip(new, made, strict=True)}
        return [self._known[layer, key] for layer in layers]

    def _by_others(self, layer: ImageLayer, recipe: Recipe) -> list[VersionResult]:
        key = layer, repr(recipe.fields())

        def task(stop: threading.Event) -> list[VersionResult]:
            return every_root_hash(
                self._store,
                layer,
                list(recipe.others()),
                self._conversion,
                progress=self._progress,
                stop=stop,
            )

        if key not in self._others:
            (self._others[key],) = run_all([task], 1)
        return self._others[key]

    def _reason(self, layer: ImageLayer, root_hash: str, recipe: Recipe) -> str:
        """Say why a layer does not give a root hash, and which other recipe gives it."""
        try:
            for one in self._by_others(layer, recipe):
                if one.root_hash is not None and one.root_hash.hex() == root_hash:
                    return (
                        f"the layer gives this root hash with {_name(one.recipe)}, not with "
                        f"{_name(recipe)}: its signer used another recipe or version of mkfs.erofs"
                    )
        except FormatError:  # no recipe at all reads it
            pass
        return (
            f"the layer does not give this root hash with {_name(recipe)}, nor with any other "
            "recipe: the signature is of another layer, or of a converter that is not known"
        )


def _name(recipe: Recipe) -> str:
    return f"{recipe.name}@{recipe.mkfs_version}"
