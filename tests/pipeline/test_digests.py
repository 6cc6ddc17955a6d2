"""SHA-256 of several streams in step: the C core against hashlib, and the thread that feeds it."""

import gzip
import hashlib
import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsign_fast import _core
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.pipeline.layers import Expected, hash_layer
from dmsign_fast.pipeline.side_by_side import in_step

STREAMS = _core.streams_in_step()
needs_streams = pytest.mark.skipif(not STREAMS, reason="this processor has no SHA instructions")


class BoomError(Exception):
    """What goes wrong in these tests."""


@needs_streams
@given(st.data())
def test_every_way_to_cut_streams_gives_the_digests_of_hashlib(data):
    count = data.draw(st.integers(1, STREAMS))
    streams = [_core.Sha256Stream() for _ in range(count)]
    theirs = [hashlib.sha256() for _ in range(count)]
    sizes = st.integers(0, 300) | st.integers(4000, 4200)
    for _ in range(data.draw(st.integers(0, 6))):
        chosen = data.draw(st.lists(st.integers(0, count - 1), unique=True, min_size=1))
        pieces = [bytes([one + 1]) * data.draw(sizes) for one in chosen]
        _core.update_in_step([streams[one] for one in chosen], pieces)
        for one, piece in zip(chosen, pieces, strict=True):
            theirs[one].update(piece)
        assert [one.hexdigest() for one in streams] == [one.hexdigest() for one in theirs]


@needs_streams
def test_too_many_streams_are_refused():
    streams = [_core.Sha256Stream() for _ in range(STREAMS + 1)]
    with pytest.raises(OSError, match="Invalid argument"):
        _core.update_in_step(streams, [b""] * len(streams))


@pytest.mark.parametrize("many", [1, 2, 3])
@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=20)), max_size=60))
def test_a_stream_has_its_bytes_in_order(many, events):
    seen = [bytearray() for _ in range(many)]
    wanted = [bytearray() for _ in range(many)]

    def consume(pieces):
        assert len({len(piece) for piece in pieces.values()}) == 1
        for stream, piece in pieces.items():
            seen[stream] += piece

    with in_step(consume, many) as puts:
        for stream, piece in events:
            puts[stream % many](piece)
            wanted[stream % many] += piece
    assert seen == wanted


def test_streams_wait_for_each_other():
    """One piece of a stream, and then one of the other, are consumed together."""
    together = []
    with in_step(lambda pieces: together.append(sorted(pieces)), 2) as (first, second):
        for _ in range(50):
            first(b"12345678")
            second(b"1234")
            second(b"5678")
    assert together.count([0, 1]) == len(together) == 100


def test_a_stream_alone_does_not_wait_for_ever():
    done = threading.Semaphore(0)
    with in_step(lambda _: done.release(), 2) as (first, _):
        for _ in range(20):
            first(b"x")
        assert done.acquire(timeout=20)


@pytest.mark.parametrize("at", [0, 1, 7])
def test_an_error_comes_out_and_nobody_waits(at):
    calls = itertools.count()

    def consume(_):
        if next(calls) == at:
            raise BoomError

    with pytest.raises(BoomError), in_step(consume, 2) as (first, second):
        for _ in range(100):
            first(b"x")
            second(b"xy")


@pytest.mark.parametrize("in_core", [True, False])
def test_digests_of_a_layer_are_checked_with_and_without_the_core(in_core, monkeypatch):
    if not in_core:
        monkeypatch.setattr(_core, "streams_in_step", lambda: 0)
    tar = bytes(3 << 20)
    stored = gzip.compress(tar)
    known = Expected(
        digest=f"sha256:{hashlib.sha256(stored).hexdigest()}",
        diff_id=f"sha256:{hashlib.sha256(tar).hexdigest()}",
    )
    hashed = hash_layer([stored], Recipe.parse("containerd"), known)
    assert (hashed.digest, hashed.diff_id) == (known.digest, known.diff_id)
