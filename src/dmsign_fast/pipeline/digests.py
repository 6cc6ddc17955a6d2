"""Digests of layers, as they are stored and as tars, while they are read."""

from __future__ import annotations

import contextlib
import hashlib
import queue
from typing import TYPE_CHECKING, Self

from dmsign_fast import _core
from dmsign_fast.errors import VerificationError
from dmsign_fast.pipeline.side_by_side import in_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    from dmsign_fast.pipeline.side_by_side import StepStream

    Begin = Callable[[_core.Sha256Stream], StepStream[_core.Sha256Stream]]
    NewDigest = Callable[[str], "StreamDigest | None"]

__all__ = ["LayerDigest", "SharedDigests", "StreamDigest"]

_STREAMS = 2  # of a layer


class StreamDigest:
    """SHA-256 as of hashlib, in step with others in a thread that they share."""

    name = "sha256"

    def __init__(self, begin: Begin) -> None:
        """Begin a stream of in_step()."""
        self._digest = _core.Sha256Stream()
        self._stream = begin(self._digest)

    def update(self, piece: Buffer) -> None:
        """Append a piece, which must not change until BUFFERS more were given."""
        self._stream.put(piece)

    def hexdigest(self) -> str:
        """The digest of all pieces; there can be no more of them."""
        self._stream.end()
        return self._digest.hexdigest()

    def close(self) -> None:
        """Let the others go on without this one."""
        self._stream.leave()


class SharedDigests:
    """Threads for the digests of layers that are read at the same time; use it by ``with``.

    Two layers share a thread where there are not two cores for each.
    """

    def __init__(self, jobs: int, cores: int | None = None) -> None:
        """Take how many layers are read at a time, by as many cores as the process has."""
        self._most = _core.streams_in_step()
        share = _core.thread_count(cores) < 2 * jobs and self._most >= 2 * _STREAMS
        self._layers = 2 if share else 1
        self._threads = -(-jobs // self._layers) if self._most >= _STREAMS else 0
        self._free: queue.SimpleQueue[Begin] = queue.SimpleQueue()
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for _ in range(self._threads):
            begin = self._opened.enter_context(in_step(_core.update_in_step, self._most))
            for _ in range(self._layers):
                self._free.put(begin)
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.__exit__(*error)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def of_layer(self) -> Iterator[NewDigest]:
        """A function that begins a digest by its algorithm, while a layer is read.

        It returns None where hashlib is to be used.
        """
        with contextlib.ExitStack() as opened:
            begin = None
            with contextlib.suppress(queue.Empty):
                begin = self._free.get_nowait()
                opened.callback(self._free.put, begin)

            def new(algorithm: str) -> StreamDigest | None:
                if not begin or algorithm != StreamDigest.name:
                    return None
                return opened.enter_context(contextlib.closing(StreamDigest(begin)))

            yield new


class LayerDigest:
    """The digest and the size of the bytes that pass, and the digest that is expected.

    Attributes:
        consumers: what is to take every piece, in a thread of its own.
        put: takes every piece too.
        size: bytes, which the caller counts.
    """

    def __init__(self, what: str, expected: str | None, *, wanted: bool) -> None:
        """``what`` names it in messages; it is computed if it is expected or wanted."""
        self._what = what
        self._expected = expected
        self._algorithm = (expected or "sha256:").partition(":")[0]
        self._hash: hashlib._Hash | StreamDigest | None = None
        self._same: LayerDigest = self
        self.consumers: list[Callable[[Buffer], object]] = []
        self.put: Callable[[Buffer], object] = lambda _: None
        self.size = 0
        if wanted or expected:
            made = hashlib.new(self._algorithm)
            self._hash, self.consumers = made, [made.update]

    def share(self, other: LayerDigest) -> None:
        """Compute the digest once, since both are of the same bytes."""
        if self._hash and other._hash and self._algorithm == other._algorithm:
            self._same = other
            self.consumers = []

    def share_thread(self, new: NewDigest) -> None:
        """Take the pieces by ``put``, in a thread that others share, if ``new`` can."""
        if self.consumers and (digest := new(self._algorithm)):
            self._hash, self.put, self.consumers = digest, digest.update, []

    def check(self) -> str | None:
        """The digest.

        Raises:
            VerificationError: another digest is expected.
        """
        made = self._same._hash
        if not made:
            return None
        found = f"{self._algorithm}:{made.hexdigest()}"
        if self._expected not in (None, found):
            raise VerificationError(
                f"the {self._what} is {found} and should be {self._expected}: the layer is "
                "damaged, or another layer"
            )
        return found
