"""Layers: decompressed, checked, converted and hashed in one pass."""

from __future__ import annotations

import contextlib
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from dmsign_fast.arguments import FUNCTION, NUMBER, SECONDS, TEXT, TEXTS, instance, takes
from dmsign_fast.erofs.bounds import MAX_LAYER_SIZE, max_stored_size
from dmsign_fast.erofs.compression import Compression, check_tar, compression_of, decompress
from dmsign_fast.erofs.layer import LayerHasher
from dmsign_fast.erofs.native_image import NativeImageHasher, is_erofs
from dmsign_fast.erofs.recipe import RECIPE, Recipe, UuidRule
from dmsign_fast.errors import ParameterError, VerificationError
from dmsign_fast.pipeline.digests import LayerDigest, SharedDigests
from dmsign_fast.pipeline.pieces import PIECE, cancelled, first_bytes, pieces_of, read_pieces
from dmsign_fast.pipeline.side_by_side import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path
    from uuid import UUID

    from typing_extensions import Buffer

    from dmsign_fast.erofs.image_hasher import HashArea, HashedImage, ImageHasher
    from dmsign_fast.erofs.mkfs import MkfsErofs
    from dmsign_fast.pipeline.digests import NewDigest

__all__ = [
    "CONVERSION",
    "CONVERTERS",
    "EXPECTED",
    "Conversion",
    "Expected",
    "HashedLayer",
    "ReadLayer",
    "hash_layer",
    "hash_layer_by",
    "read_layer",
    "read_pieces",
]

CONVERTERS = ("native", "mkfs", "both")

_HEAD = 4096
_TOO_LARGE = (
    "the layer has {} bytes, too many for the {} of --max-layer-size: raise it if you trust the "
    "image"
)
_DIGEST = re.compile(r"(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})")


@takes(digest=TEXT.or_none, size=NUMBER.or_none, diff_id=TEXT.or_none, media_type=TEXT.or_none)
@dataclass(frozen=True, kw_only=True)
class Expected:
    """What is known of a layer before it is read.

    Attributes:
        digest: of its bytes, from the manifest: ``sha256:…``.
        size: of its bytes.
        diff_id: digest of the uncompressed tar, from the image's config.
        media_type: from the manifest; by default the first bytes decide.
        checked: the stream itself checks digest and size, as streams of a Store do.
    """

    digest: str | None = None
    size: int | None = None
    diff_id: str | None = None
    media_type: str | None = None
    checked: bool = False

    def __post_init__(self) -> None:
        for name in ("digest", "diff_id"):
            value = getattr(self, name)
            if value is not None and not _DIGEST.fullmatch(value):
                raise ParameterError(
                    f"{value!r} is not a {name.replace('_', ' ')}: give sha256: and 64 lower-case "
                    "hex digits (or sha384, sha512)"
                )


@takes(
    converter=TEXT,
    mkfs_options=TEXTS,
    threads=NUMBER.or_none,
    memory=NUMBER,
    max_layer_size=NUMBER,
    time_limit=SECONDS,
)
@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How a layer is converted, besides its recipe.

    Attributes:
        converter: one of CONVERTERS: ours; the program mkfs.erofs; both, and they must agree.
        mkfs: the program, for ``mkfs`` and ``both``; by default from PATH.
        mkfs_options: further options of mkfs.erofs, for ``mkfs`` alone: they make another image.
        lossy: do what the node does where it silently loses something, instead of failing.
        threads: of each layer; every core by default.
        memory: bytes of digests, of all layers at a time; more go to temporary files.
        max_layer_size: bytes of a layer, stored (and a little more, see bounds) and uncompressed.
        time_limit: seconds for the program.
    """

    converter: str = CONVERTERS[0]
    mkfs: MkfsErofs | None = None
    mkfs_options: tuple[str, ...] = ()
    lossy: bool = False
    threads: int | None = None
    memory: int = 1 << 30
    max_layer_size: int = MAX_LAYER_SIZE
    time_limit: float = 3600


@dataclass(frozen=True)
class HashedLayer:
    """A layer whose digests were checked, and its image.

    Attributes:
        digest: of its bytes; None if neither the caller nor the recipe needed it.
        diff_id: digest of the uncompressed tar; None if neither needed it.
        size: of its bytes.
        uncompressed_size: bytes.
        compression: of its bytes.
        image: its EROFS image and hash tree.
    """

    digest: str | None
    diff_id: str | None
    size: int
    uncompressed_size: int
    compression: Compression
    image: HashedImage


def _most_stored(expected: Expected, limit: int) -> int:
    """Bytes that a stored layer may have: so many as expected, within --max-layer-size."""
    most = max_stored_size(limit)
    if (expected.size or 0) > most:
        raise ParameterError(_TOO_LARGE.format(expected.size, limit))
    return most if expected.size is None else expected.size


def _hasher(
    conversion: Conversion,
    recipe: Recipe,
    *,
    native_image: bool,
    image: int | None,
    image_head: int | None,
) -> ImageHasher:
    if image_head is not None and native_image:
        raise ParameterError("a layer that is an EROFS image has no tar behind its metadata")
    if image_head is not None and conversion.converter == "mkfs":
        raise ParameterError("only our own converter gives the metadata of a layer by itself")
    if native_image:
        return NativeImageHasher(recipe, threads=conversion.threads, image=image)
    device_block, image_block = recipe.params.data_block_size, recipe.layout.block_size
    if device_block > image_block:
        raise ParameterError(
            f"the image has blocks of {image_block} bytes and cannot be mounted from a device of "
            f"{device_block}: give --data-block-size {image_block} or less"
        )
    mkfs = conversion.converter == "mkfs"
    ours = (
        None
        if mkfs
        else LayerHasher(
            recipe,
            threads=conversion.threads,
            lossy=conversion.lossy,
            memory=conversion.memory,
            image=image,
            head=image_head,
        )
    )
    if conversion.converter == "native" and ours:
        return ours
    from dmsign_fast.erofs.mkfs import MkfsErofs
    from dmsign_fast.erofs.mkfs_hasher import MkfsHasher, TwinHasher

    theirs = MkfsHasher(
        recipe,
        conversion.mkfs or MkfsErofs.find(),
        options=conversion.mkfs_options,
        threads=conversion.threads,
        time_limit=conversion.time_limit,
        image=image if mkfs else None,
    )
    return TwinHasher(ours, theirs) if ours else theirs


EXPECTED = instance(Expected, "an Expected")
CONVERSION = instance(Conversion, "a Conversion")


@takes(
    recipe=RECIPE,
    expected=EXPECTED.or_none,
    conversion=CONVERSION.or_none,
    progress=FUNCTION,
    stop=instance(threading.Event, "a threading.Event").or_none,
)
def hash_layer(
    stream: Path | str | BinaryIO | Iterable[Buffer],
    recipe: Recipe,
    expected: Expected | None = None,
    conversion: Conversion | None = None,
    *,
    image: int | None = None,
    image_head: int | None = None,
    hash_area: HashArea | None = None,
    progress: Callable[[int], object] = lambda _: None,
    stop: threading.Event | None = None,
    new_digest: NewDigest | None = None,
) -> HashedLayer:
    """Read a layer to its end, check it, and hash the EROFS image that a node makes of it.

    Args:
        stream: a path, a file object or pieces of bytes, of the layer as it is stored: a tar or an
            EROFS image, plain or compressed by gzip or zstd.
        recipe: decides the image.
        expected: what the layer should be.
        conversion: how the layer is converted.
        image: a new file, open for reading and writing, for the image.
        image_head: a new file that what stands before the image's data is written to; see
            LayerHasher.
        hash_area: takes the hash blocks as they are finished, instead of the tree; see LayerHasher.
        progress: called with the number of bytes read since its last call.
        stop: once it is set, the work ends with concurrent.futures.CancelledError.
        new_digest: of SharedDigests, where several layers are read at a time.

    Raises:
        VerificationError: a digest or the size is not the expected one.
        FormatError: the layer is damaged, or the node would fail with it or lose a part of it.
        ParameterError: the layer is larger than allowed, or its device could not be mounted.
        StorageError: something cannot be read or written.
    """
    (hashed,) = hash_layer_by(
        stream,
        [recipe],
        expected,
        conversion,
        image=image,
        image_head=image_head,
        hash_area=hash_area,
        progress=progress,
        stop=stop,
        new_digest=new_digest,
    )
    return hashed


def hash_layer_by(
    stream: Path | str | BinaryIO | Iterable[Buffer],
    recipes: Sequence[Recipe],
    expected: Expected | None = None,
    conversion: Conversion | None = None,
    *,
    image: int | None = None,
    image_head: int | None = None,
    hash_area: HashArea | None = None,
    progress: Callable[[int], object] = lambda _: None,
    stop: threading.Event | None = None,
    new_digest: NewDigest | None = None,
) -> list[HashedLayer]:
    """As hash_layer, by several recipes in one pass; the results have their order.

    ``image``, ``image_head`` and ``hash_area`` are for one recipe alone.
    """
    expected = expected or Expected()
    conversion = conversion or Conversion()
    with contextlib.ExitStack() as opened:
        hashers: list[ImageHasher] = []

        def begin(native_image: bool) -> list[Callable[[Buffer], object]]:
            for recipe in recipes:
                hasher = _hasher(
                    conversion,
                    recipe,
                    native_image=native_image,
                    image=image,
                    image_head=image_head,
                )
                hashers.append(hasher)
                opened.callback(hasher.close)
            return [hasher.update for hasher in hashers]

        rules = {recipe.uuid for recipe in recipes}
        read = read_layer(
            stream,
            rules,
            expected,
            conversion,
            begin,
            progress=progress,
            stop=stop,
            new_digest=new_digest,
        )
        images = [
            hasher.finalize(digest=read.digest, diff_id=read.diff_id, hash_area=hash_area)
            for hasher in hashers
        ]
    return [HashedLayer(*read, one) for one in images]


class ReadLayer(NamedTuple):
    """A layer that was read to its end and checked; see HashedLayer."""

    digest: str | None
    diff_id: str | None
    size: int
    uncompressed_size: int
    compression: Compression


def read_layer(
    stream: Path | str | BinaryIO | Iterable[Buffer],
    rules: Collection[UuidRule | UUID],
    expected: Expected,
    conversion: Conversion,
    begin: Callable[[bool], Sequence[Callable[[Buffer], object]]],
    *,
    progress: Callable[[int], object] = lambda _: None,
    stop: threading.Event | None = None,
    new_digest: NewDigest | None = None,
) -> ReadLayer:
    """Read a layer to its end and check it; errors as hash_layer.

    ``rules`` say which digests are needed. ``begin`` is told whether the layer is an EROFS image,
    and returns what takes the uncompressed layer, side by side.
    """
    limit = conversion.max_layer_size
    most = _most_stored(expected, limit)
    head, pieces = first_bytes(pieces_of(stream, stop), _HEAD)
    by_converter = set(rules) == {UuidRule.DIFF_ID}
    compression = compression_of(head, expected.media_type, docker_plain=by_converter)
    plain = compression is Compression.NONE
    wanted = UuidRule.DIGEST in rules and not expected.checked
    blob = LayerDigest("digest", None if expected.checked else expected.digest, wanted=wanted)
    tar = LayerDigest("diff ID", expected.diff_id, wanted=UuidRule.DIFF_ID in rules)

    if plain:
        tar.share(blob)

    def read(put: Callable[[Buffer], None]) -> Iterator[Buffer]:
        for piece in pieces:
            if stop and stop.is_set():
                raise cancelled()
            size = memoryview(piece).nbytes
            blob.size += size
            if blob.size > most and expected.size is None:
                raise ParameterError(_TOO_LARGE.format(blob.size, limit))
            if blob.size > most:
                raise VerificationError(
                    f"the layer has more than the {most} bytes that it should have: the source "
                    "sent another layer"
                )
            put(piece)
            blob.put(piece)
            progress(size)
            yield piece

    with contextlib.ExitStack() as stages:
        if not new_digest and blob.consumers and tar.consumers:
            shared = stages.enter_context(SharedDigests(1))
            new_digest = stages.enter_context(shared.of_layer())
        if new_digest:
            blob.share_thread(new_digest)
            tar.share_thread(new_digest)
        stored = read(stages.enter_context(side_by_side(*blob.consumers)))
        sizes = {"piece_size": PIECE} if plain else {}
        head, unpacked = first_bytes(decompress(stored, compression, limit=limit, **sizes), _HEAD)
        native = is_erofs(expected.media_type, head)
        if not native:
            check_tar(head)
        updates = begin(native)
        put = stages.enter_context(side_by_side(*updates, *tar.consumers))
        for piece in unpacked:
            put(piece)
            tar.put(piece)
            tar.size += memoryview(piece).nbytes
    if expected.size not in (None, blob.size):
        raise VerificationError(
            f"the layer has {blob.size} bytes and should have {expected.size}: it is cut short"
        )
    digest = expected.digest if expected.checked else blob.check()
    return ReadLayer(digest, tar.check(), blob.size, tar.size, compression)
