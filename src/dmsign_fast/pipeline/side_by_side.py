"""Consumers of one stream that work side by side, each in a thread of its own."""

from __future__ import annotations

import _thread
import contextlib
import queue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    Consumer = Callable[[Buffer], object]

__all__ = ["BUFFERS", "side_by_side"]

# So many pieces may wait for a consumer: enough for a short stop, and they cost little memory.
_DEPTH = 3
# After so many more pieces, a piece is consumed: some wait, a thread holds one, and the reader has
# looked at one. So a reader may use this many buffers in turn.
BUFFERS = _DEPTH + 3


class _Stage:
    """A thread that consumes pieces in order.

    After an error it takes pieces and drops them, so that nobody waits for it. Made of what a
    signal leaves whole at any time, which Queue and Thread are not (CPython issue 90882).
    """

    def __init__(self, consume: Consumer) -> None:
        self._consume = consume
        self._pieces: queue.SimpleQueue[Buffer | None] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(_DEPTH):
            self._room.put(None)
        self._error: BaseException | None = None
        self._dropping = False
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._running = False

    def start(self) -> None:
        self._running = bool(_thread.start_new_thread(self._run, ()))

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._room.put(None)
            if self._dropping:
                continue
            try:
                self._consume(piece)
            except BaseException as error:  # noqa: BLE001
                self._error = error
                self._dropping = True
        self._running = False
        self._ended.put(None)

    def put(self, piece: Buffer) -> None:
        self.check()
        self._room.get()
        self._pieces.put(piece)

    def check(self) -> None:
        if self._error:
            raise self._error

    def end(self, *, drop: bool) -> None:
        self._dropping |= drop
        self._pieces.put(None)

    def join(self) -> None:
        while self._running:
            self._ended.get()


def _end(stages: list[_Stage], *, drop: bool) -> None:
    """Wait for all, after a signal too: consumers use what the caller closes next."""
    try:
        for stage in stages:
            stage.end(drop=drop)
        for stage in stages:
            stage.join()
    except BaseException:
        _end(stages, drop=True)
        raise


@contextlib.contextmanager
def side_by_side(*consumers: Consumer) -> Iterator[Callable[[Buffer], None]]:
    """A function that gives a piece to every consumer, and waits where one is far behind.

    A piece must not change until BUFFERS more were given. The end of the ``with`` block waits until
    all pieces are consumed. The first error of a consumer comes out of the function or of the end;
    after it, or an error in the block, the other consumers get no more pieces, and no thread is
    left.
    """
    stages = [_Stage(consume) for consume in consumers]

    def put(piece: Buffer) -> None:
        for stage in stages:
            stage.put(piece)

    failed = True
    try:
        for stage in stages:
            stage.start()
        yield put
        failed = False
    finally:
        _end(stages, drop=failed)
    for stage in stages:
        stage.check()
