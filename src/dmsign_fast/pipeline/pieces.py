"""The bytes of a layer, piece by piece, wherever they come from."""

from __future__ import annotations

import itertools
import mmap
import os
import select
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from dmsign_fast.arguments import check_type
from dmsign_fast.errors import ParameterError
from dmsign_fast.oci.archives import check_is_layer
from dmsign_fast.outputs import storage_errors
from dmsign_fast.pipeline.side_by_side import BUFFERS

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from typing_extensions import Buffer

__all__ = ["PIECE", "cancelled", "first_bytes", "pieces_of", "read_pieces"]

PIECE = 2 << 20
_LAYER = "a path, a file that is open for reading bytes, or pieces of bytes"
_PAUSE = 0.1  # seconds between two looks at ``stop`` while a pipe is silent


def cancelled() -> BaseException:
    """What ends work that was stopped."""
    from concurrent.futures import CancelledError  # with logging and more, for one name

    return CancelledError()


def _buffer() -> memoryview:
    # bytearray begins 16 bytes into a page, where a Zen 3 reads at a third of the speed; 32 bytes
    # suit the block hash: behind a salt of 32 bytes it works on whole cache lines
    return memoryview(mmap.mmap(-1, PIECE + mmap.PAGESIZE))[32 : 32 + PIECE]


def read_pieces(path: Path, stop: threading.Event | None = None) -> Iterator[memoryview]:
    """The bytes of a file, or of standard input for ``-``, for hash_layer.

    A caller can use a piece until it has taken BUFFERS more: fresh memory for each piece would
    cost more than to read it. Once ``stop`` is set, waiting for a pipe ends with CancelledError.

    Raises:
        StorageError: it cannot be read.
        FormatError: it is the tar of a whole image, and no layer.
    """
    if str(path) != "-":
        check_is_layer(path)

    def read(fd: int, buffer: memoryview) -> int:
        while stop and not select.select([fd], [], [], _PAUSE)[0]:
            if stop.is_set():
                raise cancelled()
        return os.readv(fd, [buffer])

    if str(path) != "-":
        check_is_layer(path)
    with storage_errors("read", path):
        fd = os.dup(0) if str(path) == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for buffer in itertools.cycle([_buffer() for _ in range(BUFFERS)]):
                have = 0
                while have < PIECE and (got := read(fd, buffer[have:])):
                    have += got
                if have:
                    yield buffer[:have]
                if have < PIECE:
                    return
        finally:
            os.close(fd)


def pieces_of(
    stream: Path | str | BinaryIO | Iterable[Buffer], stop: threading.Event | None
) -> Iterator[Buffer]:
    """The bytes of a layer, however it is given; ParameterError for what is none of these."""
    if isinstance(stream, str | os.PathLike):
        return read_pieces(Path(stream), stop)
    if hasattr(stream, "read"):
        file = cast("BinaryIO", stream)
        return iter(lambda: file.read(PIECE), b"")
    if not isinstance(stream, bytes | bytearray | memoryview):
        check_type("the layer", stream, Iterable, _LAYER)
        return map(_checked, stream)
    return iter((stream,))


def _checked(piece: Buffer) -> Buffer:
    try:
        memoryview(piece)
    except TypeError as error:
        kind = type(piece).__name__
        raise ParameterError(f"a piece of the layer is of type {kind}: give {_LAYER}") from error
    return piece


def first_bytes(pieces: Iterator[Buffer], size: int) -> tuple[bytes, Iterator[Buffer]]:
    """The first bytes of a stream, and the stream with them."""
    taken: list[Buffer] = []
    head = b""
    while len(head) < size and (piece := next(pieces, None)) is not None:
        taken.append(piece)
        head += bytes(memoryview(piece)[:size])
    return head, itertools.chain(taken, pieces)
