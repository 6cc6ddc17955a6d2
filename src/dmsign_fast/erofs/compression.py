"""How a layer is compressed, and its contents.

The node decides what a layer is, so the rules are containerd's (``core/images/mediatypes.go`` and
``pkg/archive/compression``): the media type says whether a layer may be compressed, and then its
first bytes say how, whatever the suffix. Where nodes differ, the layer is refused: bytes after the
last gzip member, even zeros, fail in Go's readers, while ``igzip`` and ``unpigz``, which containerd
prefers where it has them, drop these bytes.

gzip is RFC 1952 (members one after another), zstd is RFC 8878 (frames, skippable ones too).
"""

from __future__ import annotations

import enum
import re
import sys
from typing import TYPE_CHECKING, Any

from dmsign_fast.erofs.bounds import (
    MAX_GZIP_HEADER,
    MAX_MEMBERS_FREE,
    MAX_ZSTD_WINDOW_LOG,
    MIN_BYTES_PER_MEMBER,
)
from dmsign_fast.erofs.tar_headers import BLOCK, is_tar_header
from dmsign_fast.errors import FormatError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

__all__ = ["Compression", "check_tar", "compression_of", "decompress", "format_of"]

# Measured (bench/decompression.py): flat from 64 KiB to 1 MiB.
_PIECE = 512 << 10

_PLAIN = {
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.erofs.layer.v1",
}
# containerd's differ looks at the bytes of this type; its converter takes them for plain.
_DOCKER_PLAIN = "application/vnd.docker.image.rootfs.diff.tar"
_BY_MAGIC = {
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    _DOCKER_PLAIN,
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.erofs.layer.v1+zstd",
}
_FOREIGN = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)


class Compression(enum.Enum):
    """How the bytes of a layer are compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


# Bytes that a decoder gets at once, and the least at the start of a member or frame. A decoder
# hands back what it has not used, so zstd:chunked, with a frame for each file, wants small slices.
_SLICE = {Compression.GZIP: 128 << 10, Compression.ZSTD: 32 << 10}
_MEMBER = {Compression.GZIP: "gzip members", Compression.ZSTD: "zstd frames"}
_HEAD = {Compression.GZIP: MAX_GZIP_HEADER, Compression.ZSTD: 8}


def _by_magic(head: bytes) -> Compression:
    """As containerd's DetectCompression."""
    if head[:3] == b"\x1f\x8b\x08":
        return Compression.GZIP
    skippable = len(head) >= 8 and 0x50 <= head[0] <= 0x5F and head[1:4] == b"\x2a\x4d\x18"
    if skippable or head[:4] == b"\x28\xb5\x2f\xfd":
        return Compression.ZSTD
    return Compression.NONE


def compression_of(
    head: bytes, media_type: str | None = None, *, docker_plain: bool = False
) -> Compression:
    """What a layer is compressed with.

    Args:
        head: its first bytes, 8 or more unless it is smaller.
        media_type: of its descriptor; None to look at the bytes alone.
        docker_plain: take Docker's type without a suffix for plain, as ``ctr images
            build-erofs-cache`` does.

    Raises:
        FormatError: the media type is not that of a layer that can be hashed, or it says that the
            layer is plain and the bytes are compressed, which a node would not notice.
    """
    found = _by_magic(head)
    plain = media_type in _PLAIN or (docker_plain and media_type == _DOCKER_PLAIN)
    if media_type is None or (media_type in _BY_MAGIC and not plain):
        return found
    if plain:
        if found is not Compression.NONE:
            raise FormatError(
                f"the media type {media_type} is that of a plain layer, and this one is compressed "
                f"with {found.value}: push it with the suffix +{found.value}"
            )
        return found
    if media_type.startswith(_FOREIGN):
        raise FormatError(
            f"a layer of media type {media_type} is not supported: its bytes need not be in the "
            "registry, so a node may not have what was signed; push it as an ordinary layer"
        )
    if "+encrypted" in media_type:
        raise FormatError(
            f"a layer of media type {media_type} is encrypted, and a root hash is of the plain "
            "layer: decrypt the image first"
        )
    known = ", ".join(sorted(_PLAIN | _BY_MAGIC))
    raise FormatError(f"{media_type!r} is not the media type of a layer; known are {known}")


# The formats of files that people take for layers, by how they begin; and what is no file at all.
_OTHERS = {
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"LZIP": "lzip",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\3\4": "zip",
    b"PK\5\6": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"\x7fELF": "an ELF program",
    b"hsqs": "squashfs",
    b"070701": "cpio",
    b"!<arch>\n": "an ar archive, such as a .deb",
    b"{": "JSON",
    b"<": "HTML or XML, perhaps an error page",
}


def format_of(head: bytes) -> str | None:
    """What begins with these bytes, of the formats that are no layers; None if it is unknown."""
    return next((name for magic, name in _OTHERS.items() if head.startswith(magic)), None)


def check_tar(head: bytes) -> None:
    """Say what a layer is that is no tar; its first bytes, decompressed.

    A tar may begin with the same bytes, as the name of a file, and then has a checksum over them.

    Raises:
        FormatError: it is something else.
    """
    found = format_of(head)
    if found is None or is_tar_header(head[:BLOCK]):
        return
    raise FormatError(
        f"the layer is {found} and not a tar: give a tar, plain or compressed by gzip or zstd and "
        "once only, or an EROFS image"
    )


def _sliced(pieces: Iterable[Buffer], size: int) -> Iterator[bytearray | memoryview]:
    """The same bytes in slices of ``size``, the last one shorter; whole slices are not copied."""
    kept = bytearray()
    for piece in pieces:
        view = memoryview(piece).cast("B")
        start = 0
        if kept:
            start = size - len(kept)
            kept += view[:start]
            if len(kept) < size:
                continue
            yield kept
            kept = bytearray()
        for at in range(start, len(view), size):
            part = view[at : at + size]
            if len(part) == size:
                yield part
            else:
                kept += part
    if kept:
        yield kept


def _decoders(compression: Compression) -> tuple[Callable[[], Any], Any]:
    """A function that makes a decoder of a member or frame, as those of bz2, and its error."""
    if compression is Compression.GZIP:
        from isal import igzip_lib

        return lambda: igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP), igzip_lib.error
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: MAX_ZSTD_WINDOW_LOG}
    return lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError


_NUMBER = re.compile(r"^Error -?\d+ ")  # that isal puts before its words
# What the messages of libzstd mean for a layer.
_ADVICE = {
    "Dictionary mismatch": "it needs a dictionary, which no node has",
    "too much memory": f"its window is larger than {1 << MAX_ZSTD_WINDOW_LOG >> 20} MiB: compress "
    "it without --long or --ultra",
}


def _decompressed(
    pieces: Iterable[Buffer], compression: Compression, piece_size: int
) -> Iterator[bytes]:
    """The contents of all members or frames, each by a decoder of its own."""
    new_decoder, decoder_error = _decoders(compression)
    name = compression.value
    slices = _sliced(pieces, _SLICE[compression])
    taken = made = members = 0

    def take() -> bytes | bytearray | memoryview:
        nonlocal taken
        data = next(slices, b"")
        taken += len(data)
        return data

    data = take()
    while data:
        if len(data) < _HEAD[compression]:
            data = b"".join((data, take()))
        head = bytes(data[:8])
        reserved = compression is Compression.GZIP and head[3:4] > b"\x1f"
        if _by_magic(head) is not compression or reserved:
            found = format_of(head)
            raise FormatError(
                f"at byte {taken - len(data)} of the layer, after {made} bytes of its contents, "
                f"is {f'{found}, and ' if found else ''}neither {name} data nor its end: nodes "
                "treat such bytes differently, so compress the layer again, by gzip or zstd"
            )
        members += 1
        if members > MAX_MEMBERS_FREE + (taken + made) // MIN_BYTES_PER_MEMBER:
            raise FormatError(
                f"the layer has {members} {_MEMBER[compression]} in its first {taken} bytes, with "
                f"{made} bytes of contents: so many empty ones only cost time; compress it again"
            )
        decoder = new_decoder()
        while not decoder.eof:
            if not data and decoder.needs_input:
                data = take()
                if not data:
                    raise FormatError(
                        f"the layer ends within {name} data, at byte {taken}, after {made} bytes "
                        "of its contents: fetch it again"
                    )
            try:
                piece = decoder.decompress(data, piece_size)
            except decoder_error as error:
                advice = (advice for text, advice in _ADVICE.items() if text in str(error))
                raise FormatError(
                    f"cannot decompress the layer's {name} data at or before byte {taken}, after "
                    f"{made} bytes of its contents: "
                    + next(advice, f"{_NUMBER.sub('', str(error))}; fetch it or compress it again")
                ) from error
            data = b""
            if piece:
                made += len(piece)
                yield piece
        data = decoder.unused_data or take()


def decompress(
    pieces: Iterable[Buffer], compression: Compression, *, limit: int, piece_size: int = _PIECE
) -> Iterator[bytes | memoryview]:
    """The contents of a layer as pieces of 1 to ``piece_size`` bytes.

    All checksums and sizes in the compressed data are verified, up to its end: a caller must not
    use pieces that came before an error. Memory stays at a few pieces and the zstd window, at most
    128 MiB, whatever the data.

    Args:
        pieces: the bytes of the layer, in pieces of any size; a piece must not change until the
            next piece is taken.
        compression: from compression_of().
        limit: of the bytes of contents; ``--max-layer-size``.
        piece_size: in bytes. Pieces of plain data are parts of ``pieces``, without a copy.

    Raises:
        FormatError: the data is damaged, cut off, or goes on after its end; zstd data that needs a
            dictionary or a large window, or has too many frames.
        ParameterError: the contents are larger than ``limit``.
    """
    total = 0
    parts: Iterator[bytes | memoryview]
    if compression is Compression.NONE:
        views = (memoryview(piece).cast("B") for piece in pieces)
        parts = (
            view[at : at + piece_size] for view in views for at in range(0, len(view), piece_size)
        )
    else:
        parts = _decompressed(pieces, compression, piece_size)
    for part in parts:
        if total + len(part) > limit:
            raise ParameterError(
                f"the contents of the layer are larger than {limit} bytes, the limit of "
                "--max-layer-size: raise it if you trust the image"
            )
        total += len(part)
        yield part
