"""Images: the manifests that a reference names, and their layers with their diff IDs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsign_fast.erofs.bounds import MAX_READ_TO_EXPLAIN
from dmsign_fast.errors import FormatError, NotFoundError, ParameterError
from dmsign_fast.oci.descriptor import Digest, Platform
from dmsign_fast.oci.manifest import Index, Manifest
from dmsign_fast.pipeline.convert import DeviceFiles
from dmsign_fast.pipeline.digests import SharedDigests
from dmsign_fast.pipeline.layer_file import LayerFile
from dmsign_fast.pipeline.layers import Expected, hash_layer_by
from dmsign_fast.strict_json import Members, read_object

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.oci.descriptor import Descriptor
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.layers import Conversion, HashedLayer

__all__ = [
    "ImageLayer",
    "hash_image_layer",
    "hash_image_layer_by",
    "image_layers",
    "is_image",
    "manifests_of",
]

_MOST_MANIFESTS = 1000
_CONFIG_LIMIT = 16 << 20
_CONFIG_TYPES = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
# What buildkit puts beside images in an index: no files to mount.
_IN_TOTO = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class ImageLayer:
    """A layer as its image describes it.

    Attributes:
        descriptor: of the layer as it is stored: media type, digest and size alone, so that equal
            layers are equal values.
        diff_id: digest of its contents, from the image's config.
    """

    descriptor: Descriptor
    diff_id: Digest

    @property
    def expected(self) -> Expected:
        """What the layer must be, from a store that checks size and digest itself."""
        return Expected(
            digest=self.descriptor.digest,
            size=self.descriptor.size,
            diff_id=self.diff_id,
            media_type=self.descriptor.media_type,
            checked=True,
        )


def manifests_of(
    store: Store,
    reference: str,
    *,
    platform: str | None = None,
    recursive: bool = False,
    whole: bool = False,
) -> list[Manifest | Index]:
    """The manifests that a tag or digest names, each once; an index after its manifests.

    Args:
        store: where they are.
        reference: a tag or digest.
        platform: of an index, the one manifest of ``OS/ARCHITECTURE[/VARIANT]``.
        recursive: of an index, all of them and itself.
        whole: of an index without another choice, itself.

    Raises:
        ParameterError: an index, and neither option is given, or no manifest is for the platform,
            or several.
        NotFoundError: one of them is not there.
        FormatError: all of an index is wanted, and an entry of it cannot be read.
    """
    found = store.resolve(reference)
    if isinstance(found, Manifest):
        return [found]
    listed = [str(one.platform) for one in found.manifests if one.platform]
    if platform:
        return [store.fetch_manifest(_for_platform(found, platform, reference))]
    if whole and not recursive:
        return [found]
    if not recursive:
        raise ParameterError(
            f"{reference} is an index of {len(found.manifests)} manifests ({', '.join(listed)}): "
            "give --platform for one of them, or --recursive for all"
        )
    return [*_within(store, found, 4, {found.descriptor.digest}), found]


def _for_platform(index: Index, platform: str, reference: str) -> Descriptor:
    wanted = Platform.parse(platform).normal
    listed = [one for one in index.manifests if one.platform]
    fitting = {one.plain(): one for one in listed if one.platform and one.platform.normal == wanted}
    if len(fitting) > 1:
        raise ParameterError(
            f"{reference} has {len(fitting)} manifests for {platform}: name one of them by its "
            f"digest, {', '.join(one.digest for one in fitting)}"
        )
    if not fitting:
        names = ", ".join(str(one.platform) for one in listed)
        unread = f"; {'; '.join(index.problems)}" if index.problems else ""
        raise ParameterError(
            f"{reference} has no manifest for {platform}: it has {names or 'none'}{unread}"
        )
    return next(iter(fitting.values()))


def _within(
    store: Store, index: Index, depth: int, seen: set[Digest]
) -> Iterator[Manifest | Index]:
    if not depth:
        raise FormatError(f"index {index.descriptor.digest} nests more than 4 deep")
    if index.problems:
        raise FormatError(f"index {index.descriptor.digest}: {'; '.join(index.problems)}")
    for descriptor in index.manifests:
        if descriptor.digest in seen:
            continue
        seen.add(descriptor.digest)
        if len(seen) > _MOST_MANIFESTS:
            raise FormatError(f"an index lists more than {_MOST_MANIFESTS} manifests in all")
        manifest = store.fetch_manifest(descriptor)
        if isinstance(manifest, Index):
            yield from _within(store, manifest, depth - 1, seen)
        yield manifest


def is_image(manifest: Manifest | Index) -> bool:
    """Whether it has layers that a node mounts: no index, artifact or attestation."""
    return (
        isinstance(manifest, Manifest)
        and manifest.config.media_type in _CONFIG_TYPES
        and not any(layer.media_type == _IN_TOTO for layer in manifest.layers)
    )


def image_layers(store: Store, manifest: Manifest) -> tuple[ImageLayer, ...]:
    """The layers of an image, in order, with the diff IDs of its config.

    Raises:
        FormatError: it is no image, has no layers, or its config does not fit them.
        VerificationError: the config is not what its digest stands for.
    """
    what = f"manifest {manifest.descriptor.digest}"
    if not is_image(manifest):
        raise FormatError(
            f"{what} is no container image (its config is {manifest.config.media_type}): it has "
            "no layers that a node mounts; sign it with --no-dm-verity"
        )
    if manifest.config.size > _CONFIG_LIMIT:
        raise FormatError(f"the config of {what} has {manifest.config.size} bytes, too many")
    config = read_object(b"".join(store.fetch(manifest.config)), f"the config of {what}")
    rootfs = Members(config, ["rootfs"], f"the config of {what}").value("rootfs")
    diff_ids = Members(rootfs, ["type", "diff_ids"], f"rootfs of {what}").texts("diff_ids")
    if len(diff_ids) != len(manifest.layers):
        raise FormatError(
            f"{what} has {len(manifest.layers)} layers and its config {len(diff_ids)} diff IDs: "
            "push the image again"
        )
    if not diff_ids:
        raise FormatError(f"{what} has no layers, so there is nothing for a kernel to check")
    pairs = zip(manifest.layers, diff_ids, strict=True)
    return tuple(ImageLayer(layer.plain(), Digest(diff_id)) for layer, diff_id in pairs)


def hash_image_layer(
    store: Store,
    layer: ImageLayer,
    recipe: Recipe,
    conversion: Conversion,
    *,
    file: LayerFile | DeviceFiles | None = None,
    progress: Callable[[int], object] = lambda _: None,
    stop: threading.Event | None = None,
    digests: SharedDigests | None = None,
) -> HashedLayer:
    """Fetch a layer, check it and hash its EROFS image, all at once; errors as hash_layer.

    ``file`` takes the metadata and the hash area, or the whole image and the hash area. Layers that
    are read at the same time share ``digests``.
    """
    (hashed,) = hash_image_layer_by(
        store,
        layer,
        [recipe],
        conversion,
        file=file,
        progress=progress,
        stop=stop,
        digests=digests,
    )
    return hashed


def hash_image_layer_by(
    store: Store,
    layer: ImageLayer,
    recipes: Sequence[Recipe],
    conversion: Conversion,
    *,
    file: LayerFile | DeviceFiles | None = None,
    progress: Callable[[int], object] = lambda _: None,
    stop: threading.Event | None = None,
    digests: SharedDigests | None = None,
) -> list[HashedLayer]:
    """As hash_image_layer, by several recipes in one pass; see hash_layer_by."""
    from dmsign_fast.erofs.image_hasher import no_hash_area

    described = layer.descriptor
    with contextlib.ExitStack() as opened:
        digests = digests or opened.enter_context(SharedDigests(1))
        new_digest = opened.enter_context(digests.of_layer())
        stored = store.fetch(described, new_digest(described.digest.algorithm))
        try:
            return hash_layer_by(
                stored,
                recipes,
                layer.expected,
                conversion,
                image=file.fd if isinstance(file, DeviceFiles) else None,
                image_head=file.head if isinstance(file, LayerFile) else None,
                hash_area=file.hash_area if file else no_hash_area,
                progress=progress,
                stop=stop,
                new_digest=new_digest,
            )
        except NotFoundError:
            raise
        except (FormatError, ParameterError) as error:
            if isinstance(error, FormatError):
                # a wrong digest explains it better, and is known at the end of the stream
                read = 0
                for piece in stored:
                    read += len(piece)
                    if read > MAX_READ_TO_EXPLAIN or (stop and stop.is_set()):
                        break
            error.args = (f"layer {described.digest}: {error}", *error.args[1:])
            raise
