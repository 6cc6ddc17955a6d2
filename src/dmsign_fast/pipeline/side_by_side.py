"""Consumers that work side by side with what makes their pieces, in threads of their own."""

from __future__ import annotations

import _thread
import contextlib
import queue
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Buffer

    Consumer = Callable[[Buffer], object]

__all__ = ["BUFFERS", "StepStream", "in_step", "side_by_side"]

K = TypeVar("K")

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


class StepStream(Generic[K]):
    """One of the streams of in_step(); end or leave it, or the others wait for it a little."""

    def __init__(self, stage: _StepStage[K], key: K) -> None:
        self.key = key
        self.over = self.lost = False
        self.waiting: deque[memoryview] = deque()
        self._stage = stage
        self._room = _room()
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def put(self, piece: Buffer) -> None:
        """Give a piece, as to the function of side_by_side."""
        view = memoryview(piece).cast("B")
        self._check(self._stage.closed)
        if view:
            self._room.get()
            self._stage.take(self, view)

    def end(self) -> None:
        """Wait until all pieces are consumed; an error if one was not."""
        if not self.over:
            self._stage.take(self, None)
            if not self._stage.closed:
                self._ended.get()
        self._check(self.lost or not self.over)

    def _check(self, lost: bool) -> None:
        self._stage.check()
        if lost:
            raise RuntimeError("what consumed this stream ended before it")

    def leave(self) -> None:
        """Say that there are no more pieces, without waiting."""
        if not self.over:
            self._stage.take(self, None)

    @property
    def full(self) -> bool:
        """Whether its giver may be waiting: for room, or for the end."""
        return len(self.waiting) >= _DEPTH or self.over

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return sum(map(len, self.waiting))

    def first(self, size: int) -> list[memoryview]:
        """The first bytes that wait, of which there must be as many."""
        taken = []
        for piece in self.waiting:
            taken.append(piece[:size])
            size -= len(taken[-1])
            if not size:
                break
        return taken

    def drop(self, size: int, *, lost: bool) -> None:
        """Let go of the first bytes that wait, which were consumed or are lost."""
        self.lost |= lost
        while size:
            piece = self.waiting.popleft()
            if len(piece) > size:
                self.waiting.appendleft(piece[size:])
                return
            size -= len(piece)
            self._room.put(None)

    def let_go(self) -> None:
        """Let nobody wait any more; what still waits is lost."""
        self.over, self.lost = True, self.lost or bool(self.waiting)
        self._room.put(None)
        self._ended.put(None)


class _StepStage(_Stage, Generic[K]):
    """The same for pieces of several streams, of which some are consumed together.

    A stream is known from its first piece to its end.
    """

    def __init__(self, consume: Callable[[dict[K, list[memoryview]]], object], most: int) -> None:
        super().__init__(consume)
        self.closed = False
        self._most = most
        self._streams: list[StepStream[K]] = []

    def take(self, stream: StepStream[K], piece: memoryview | None) -> None:
        self._pieces.put((stream, piece))

    def _run(self) -> None:
        more = True
        while more or self._streams:
            if more and not (self._due() and self._pieces.empty()):
                more = self._hear(self._pieces.get())
            else:
                self._step()
        self.closed = self._dropping = True
        while not self._pieces.empty():  # of givers who did not see that in time
            self._hear(self._pieces.get())
        for stream in self._streams:
            stream.let_go()
        self._running = False
        self._ended.put(None)

    def _hear(self, event: tuple[StepStream[K], memoryview | None] | None) -> bool:
        """Take what was put; False if there is no more of any stream."""
        if event is None:
            for stream in self._streams:
                stream.over = True
            return False
        stream, piece = event
        if stream not in self._streams:
            self._streams.append(stream)
        if piece is None:
            stream.over = True
        else:
            stream.waiting.append(piece)
        return True

    def _due(self) -> bool:
        """Whether to go on: a stream waits for the others until it is full."""
        have = sum(bool(stream.waiting) for stream in self._streams)
        together = min(len(self._streams), self._most)
        return any(stream.full for stream in self._streams) or 0 < have == together

    def _step(self) -> None:
        """Consume what can be consumed together, and part with streams that are at their end."""
        some = [stream for stream in self._streams if stream.waiting][: self._most]
        size = min((stream.size for stream in some), default=0)
        lost = self._dropping
        if size and not lost:
            try:
                self._consume({stream.key: stream.first(size) for stream in some})
            except BaseException as error:  # noqa: BLE001
                self._error = error
                self._dropping = lost = True
        for stream in some:
            stream.drop(size, lost=lost)
            self._streams.remove(stream)
            self._streams.append(stream)  # if there are more, it is their turn
        for stream in [one for one in self._streams if one.over and not one.waiting]:
            self._streams.remove(stream)
            stream.let_go()


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
    consume: Callable[[dict[K, list[memoryview]]], object], most: int
) -> Iterator[Callable[[K], StepStream[K]]]:
    """Consume pieces of several streams in one thread; a function that begins a stream.

    ``consume`` gets what comes next of up to ``most`` streams by their keys, of each as many bytes.
    Pieces, errors and the end are as with side_by_side; a stream that is not ended by then is.
    """
    stage = _StepStage(consume, most)
    failed = True
    try:
        stage.start()
        yield partial(StepStream, stage)
        failed = False
    finally:
        _end([stage], drop=failed)
    stage.check()
