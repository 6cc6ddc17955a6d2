"""Digests of a layer, as it is stored and as a tar, while it is read."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from dmsign_fast import _core
from dmsign_fast.errors import VerificationError
from dmsign_fast.pipeline.side_by_side import in_step

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Buffer

__all__ = ["LayerDigest"]


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
        self._hash: hashlib._Hash | _core.Sha256Stream | None = None
        self.consumers: list[Callable[[Buffer], object]] = []
        self.put: Callable[[Buffer], object] = lambda _: None
        self.size = 0
        if wanted or expected:
            made = hashlib.new(self._algorithm)
            self._hash, self.consumers = made, [made.update]

    def share(self, other: LayerDigest) -> None:
        """Compute the digest once, since both are of the same bytes."""
        if self._hash and other._hash and self._algorithm == other._algorithm:
            self._hash = other._hash
            self.consumers = []

    @staticmethod
    def in_step(digests: Sequence[LayerDigest], stages: contextlib.ExitStack) -> None:
        """Compute them in one thread that ends with ``stages``, where that is less work.

        They then take their pieces by ``put``, and have no ``consumers``.
        """
        if not all(one.consumers and one._algorithm == "sha256" for one in digests):
            return
        if _core.streams_in_step() < len(digests):
            return
        streams = [_core.Sha256Stream() for _ in digests]

        def consume(pieces: Mapping[int, memoryview]) -> None:
            _core.update_in_step([streams[one] for one in pieces], list(pieces.values()))

        puts = stages.enter_context(in_step(consume, len(streams)))
        for digest, stream, put in zip(digests, streams, puts, strict=True):
            digest._hash, digest.put, digest.consumers = stream, put, []

    def check(self) -> str | None:
        """The digest.

        Raises:
            VerificationError: another digest is expected.
        """
        if not self._hash:
            return None
        found = f"{self._algorithm}:{self._hash.hexdigest()}"
        if self._expected not in (None, found):
            raise VerificationError(
                f"the {self._what} is {found} and should be {self._expected}: the layer is "
                "damaged, or another layer"
            )
        return found
