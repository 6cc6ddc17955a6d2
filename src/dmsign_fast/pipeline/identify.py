"""Every root hash that a node may compute of a layer, and which recipe gives which."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from dmsign_fast.erofs.image_hasher import no_hash_area
from dmsign_fast.erofs.layer_versions import LayerVersions, VersionResult
from dmsign_fast.erofs.native_image import NativeImageHasher
from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.pipeline.layers import Conversion, Expected, hash_layer, read_layer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence
    from typing import BinaryIO

    from typing_extensions import Buffer

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.image import ImageLayer

__all__ = ["all_root_hashes", "every_root_hash"]


def all_root_hashes(
    open_layer: Callable[[], BinaryIO | Iterable[Buffer]],
    recipes: Sequence[Recipe],
    expected: Expected | None = None,
    conversion: Conversion | None = None,
    *,
    progress: Callable[[int], object] = lambda _: None,
    stop: threading.Event | None = None,
) -> list[VersionResult]:
    """The root hashes of a layer by many recipes, in their order, by our own converter.

    The layer is read once, and its data hashed once for all recipes of a layout and hash tree. Only
    where versions of mkfs.erofs read the tar itself differently, it is read again.

    Args:
        open_layer: begins to read the layer.
        recipes: what to try.
        expected: what the layer should be.
        conversion: bounds, threads, and whether what a node loses is accepted.
        progress: called with the number of bytes read since its last call.
        stop: once it is set, the work ends with concurrent.futures.CancelledError.

    Raises:
        VerificationError: a digest or the size is not the expected one.
        FormatError: the layer is damaged.
        ParameterError: the layer is larger than allowed; a recipe that none of several can share.
        StorageError: something cannot be read or written.
    """
    expected, conversion = expected or Expected(), conversion or Conversion()
    conversion = dataclasses.replace(conversion, converter="native", mkfs=None, mkfs_options=())
    found: dict[int, VersionResult] = {}
    alone = [at for at, recipe in enumerate(recipes) if not _shares(recipe)]
    waiting = [at for at in range(len(recipes)) if at not in alone]
    while waiting:
        made = _one_pass(
            open_layer(), [recipes[at] for at in waiting], expected, conversion, progress, stop
        )
        results = dict(zip(waiting, made, strict=True))
        found |= {at: result for at, result in results.items() if not result.again}
        waiting = [at for at, result in results.items() if result.again]
    for at in alone:
        try:
            hashed = hash_layer(
                open_layer(),
                recipes[at],
                expected,
                conversion,
                hash_area=no_hash_area,
                progress=progress,
                stop=stop,
            )
            found[at] = VersionResult(recipes[at], hashed.image.uuid, hashed.image.root_hash)
        except (FormatError, ParameterError) as error:
            found[at] = VersionResult(recipes[at], None, None, str(error))
    return [found[at] for at in range(len(recipes))]


def _shares(recipe: Recipe) -> bool:
    """Whether LayerVersions can hash it; others are rare, and each is hashed by itself."""
    params = recipe.params
    return params.hash_algorithm == "sha256" and params.data_block_size <= recipe.layout.block_size


def _one_pass(
    stream: BinaryIO | Iterable[Buffer],
    recipes: Sequence[Recipe],
    expected: Expected,
    conversion: Conversion,
    progress: Callable[[int], object],
    stop: threading.Event | None,
) -> list[VersionResult]:
    alike: dict[object, list[int]] = {}
    for at, recipe in enumerate(recipes):
        alike.setdefault((recipe.layout, recipe.params), []).append(at)
    found: dict[int, VersionResult] = {}
    with contextlib.ExitStack() as opened:
        hashers: list[LayerVersions | NativeImageHasher] = []

        def begin(native_image: bool) -> list[Callable[[Buffer], object]]:
            threads = conversion.threads
            for numbers in alike.values():
                hasher = (
                    NativeImageHasher(recipes[numbers[0]], threads=threads)
                    if native_image
                    else LayerVersions(
                        [recipes[at] for at in numbers],
                        threads=threads,
                        lossy=conversion.lossy,
                        memory=conversion.memory // len(alike),
                    )
                )
                opened.callback(hasher.close)
                hashers.append(hasher)
            return [hasher.update for hasher in hashers]

        read = read_layer(
            stream,
            {recipe.uuid for recipe in recipes},
            expected,
            conversion,
            begin,
            progress=progress,
            stop=stop,
        )
        for numbers, hasher in zip(alike.values(), hashers, strict=True):
            these = [recipes[at] for at in numbers]
            made = (
                _of_image(hasher, these)
                if isinstance(hasher, NativeImageHasher)
                else hasher.finalize(digest=read.digest, diff_id=read.diff_id)
            )
            found |= dict(zip(numbers, made, strict=True))
    return [found[at] for at in range(len(recipes))]


def _of_image(hasher: NativeImageHasher, recipes: Sequence[Recipe]) -> list[VersionResult]:
    """What recipes make of a layer that is an EROFS image: the same, if it can be mounted."""
    try:
        root_hash = hasher.finalize(hash_area=no_hash_area).root_hash
    except FormatError as error:
        return [VersionResult(recipe, None, None, str(error)) for recipe in recipes]
    return [VersionResult(recipe, None, root_hash) for recipe in recipes]


def every_root_hash(
    store: Store,
    layer: ImageLayer,
    recipes: Sequence[Recipe],
    conversion: Conversion,
    *,
    progress: Callable[[int], object] = lambda _: None,
    stop: threading.Event | None = None,
) -> list[VersionResult]:
    """As all_root_hashes, of a layer of an image."""
    return all_root_hashes(
        lambda: store.fetch(layer.descriptor),
        recipes,
        layer.expected,
        conversion,
        progress=progress,
        stop=stop,
    )
