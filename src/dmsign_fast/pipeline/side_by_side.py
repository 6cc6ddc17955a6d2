"""Consumers that work side by side with what makes their pieces, in threads of their own."""

from __future__ import annotations

import _thread
import contextlib
import queue
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Buffer

    Consumer = Callable[[Buffer], object]

__all__ = ["BUFFERS", "in_step", "side_by_side"]

# So many pieces may wait for a consumer: enough for a short stop, and they cost little memory.
_DEPTH = 3
# After so many more pieces, a piece is consumed: some wait, a thread holds one, and the reader has
# looked at one. So a reader may use this many buffers in turn.
BUFFERS = _DEPTH + 3


def _room() -> queue.SimpleQueue[None]:
    room: queue.SimpleQueue[None] = queue.SimpleQueue()
    for _ in range(_DEPTH):
        room.put(None)
    return room


class _Stage:
    """A thread that consumes pieces in order.

    After an error it takes pieces and drops them, so that nobody waits for it. Made of what a
    signal leaves whole at any time, which Queue and Thread are not (CPython issue 90882).
    """

    def __init__(self, consume: Callable[[Any], object]) -> None:
        self._consume = consume
        self._pieces: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._room = _room()
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


class _StepStage(_Stage):
    """The same for pieces of several streams, consumed together: {stream: bytes}, all as long."""

    def __init__(self, consume: Callable[[Any], object], streams: int) -> None:
        super().__init__(consume)
        self._rooms = [_room() for _ in range(streams)]
        self._waiting: list[deque[memoryview]] = [deque() for _ in range(streams)]

    def put_of(self, stream: int, piece: Buffer) -> None:
        self.check()
        self._rooms[stream].get()
        self._pieces.put((stream, piece))

    def _run(self) -> None:
        more = True
        while more or any(self._waiting):
            # a stream waits for the others, until it has no room to wait
            can = all(self._waiting) or any(len(pieces) == _DEPTH for pieces in self._waiting)
            if more and not (can and self._pieces.empty()):
                more = self._take()
            else:
                self._step()
        self._running = False
        self._ended.put(None)

    def _take(self) -> bool:
        event = self._pieces.get()
        if event is not None:
            stream, piece = event
            self._waiting[stream].append(memoryview(piece).cast("B"))
        return event is not None

    def _step(self) -> None:
        streams = [stream for stream, pieces in enumerate(self._waiting) if pieces]
        size = min(len(self._waiting[stream][0]) for stream in streams)
        if not self._dropping:
            try:
                self._consume({stream: self._waiting[stream][0][:size] for stream in streams})
            except BaseException as error:  # noqa: BLE001
                self._error = error
                self._dropping = True
        for stream in streams:
            pieces = self._waiting[stream]
            pieces[0] = pieces[0][size:]
            if not pieces[0]:
                pieces.popleft()
                self._rooms[stream].put(None)


def _end(stages: Sequence[_Stage], *, drop: bool) -> None:
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


@contextlib.contextmanager
def in_step(
    consume: Callable[[Mapping[int, memoryview]], object], streams: int
) -> Iterator[list[Callable[[Buffer], None]]]:
    """Consume pieces of several streams in one thread; a function for each gives it a piece.

    ``consume`` is called with what comes next of each stream that has something, by the number of
    the stream, as many bytes of each. Pieces, errors and the end are as with side_by_side.
    """
    stage = _StepStage(consume, streams)
    failed = True
    try:
        stage.start()
        yield [partial(stage.put_of, stream) for stream in range(streams)]
        failed = False
    finally:
        _end([stage], drop=failed)
    stage.check()
