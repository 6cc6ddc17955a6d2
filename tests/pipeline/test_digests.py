"""SHA-256 of several streams in step: the C core against hashlib, and the thread that feeds it."""

import contextlib
import gzip
import hashlib
import itertools
import sys
import threading
from collections import Counter

import pytest
from helpers import run, wait_until
from hypothesis import given
from hypothesis import strategies as st

from dmsign_fast import _core
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.pipeline import digests
from dmsign_fast.pipeline.jobs import run_all
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
        pieces = {
            one: [bytes([one + 1]) * size for size in data.draw(st.lists(sizes, max_size=3))]
            for one in chosen
        }
        _core.update_in_step({streams[one]: some for one, some in pieces.items()})
        for one, some in pieces.items():
            theirs[one].update(b"".join(some))
        assert [one.hexdigest() for one in streams] == [one.hexdigest() for one in theirs]


@needs_streams
def test_too_many_streams_are_refused():
    with pytest.raises(OSError, match="Invalid argument"):
        _core.update_in_step({_core.Sha256Stream(): [b""] for _ in range(STREAMS + 1)})


@pytest.mark.parametrize("most", [1, 2, 3])
@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=20) | st.none()), max_size=60))
def test_a_stream_has_its_bytes_in_order(most, events):
    """None: the stream ends, and the next piece begins it anew."""
    seen, wanted = {}, {}
    numbers = itertools.count()

    def consume(pieces):
        assert len(pieces) <= most
        assert len({sum(map(len, some)) for some in pieces.values()}) == 1
        for key, some in pieces.items():
            seen[key] += b"".join(some)

    with in_step(consume, most) as begin:
        streams = {}
        for which, piece in events:
            if which not in streams:
                key = next(numbers)
                streams[which] = begin(key)
                seen[key], wanted[key] = b"", b""
            stream = streams[which]
            if piece is None:
                stream.end()
                assert seen[stream.key] == wanted[stream.key]
                del streams[which]
            else:
                wanted[stream.key] += piece
                stream.put(piece)
    assert seen == wanted


def test_streams_wait_for_each_other():
    """Pieces of a stream, and those of the other that come a little later, go together."""
    together = []
    with in_step(lambda pieces: together.append(sorted(pieces)), 2) as begin:
        first, second = begin(1), begin(2)
        for _ in range(50):
            first.put(b"12345678")
            second.put(b"1234")
            second.put(b"5678")
    assert together.count([1, 2]) > 0.9 * len(together)


def test_a_stream_alone_does_not_wait_for_ever():
    done = threading.Semaphore(0)
    with in_step(lambda _: done.release(), 2) as begin:
        first, second = begin(1), begin(2)
        second.put(b"x")
        for _ in range(20):
            first.put(b"x")
        assert done.acquire(timeout=20)


@pytest.mark.parametrize("end", ["end", "leave"])
def test_what_has_ended_is_not_waited_for(end):
    seen = []
    with in_step(lambda pieces: seen.append(sorted(pieces)), 2) as begin:
        first, second = begin(1), begin(2)
        second.put(b"x")
        getattr(second, end)()
        for _ in range(5):
            first.put(b"x")
        first.end()
        assert sum(some.count(1) for some in seen) >= 1
        assert sum(some.count(2) for some in seen) == 1


def test_more_streams_than_go_together_all_come_to_their_turn():
    """The first never wait for a piece, and the last gets on all the same."""
    seen, stop = Counter(), threading.Event()

    def give(stream):
        while not stop.is_set():
            stream.put(b"x")
        stream.leave()

    with in_step(lambda pieces: seen.update(dict.fromkeys(pieces, 1)), 2) as begin:
        givers = [threading.Thread(target=give, args=(begin(one),)) for one in range(5)]
        for giver in givers:
            giver.start()
        try:
            wait_until(lambda: all(seen[one] > 20 for one in range(5)), "every stream")
        finally:
            stop.set()
            for giver in givers:
                giver.join()


@pytest.mark.parametrize("at", [0, 1, 7])
def test_an_error_comes_out_of_every_stream_and_nobody_waits(at):
    calls = itertools.count()

    def consume(_):
        if next(calls) == at:
            raise BoomError

    def give():
        with pytest.raises(BoomError):
            for _ in range(100):
                first.put(b"x")
        with pytest.raises(BoomError):
            first.end()

    with pytest.raises(BoomError), in_step(consume, 2) as begin:
        first, second = begin(1), begin(2)
        giver = threading.Thread(target=give)
        giver.start()
        try:
            for _ in range(100):
                second.put(b"xy")
        finally:
            giver.join(20)
            assert not giver.is_alive()


@pytest.mark.parametrize("known", [True, False])
def test_a_stream_that_outlives_its_thread_is_told(known):
    with in_step(lambda _: None, 2) as begin:
        stream = begin(1)
        if known:
            stream.put(b"x")
    with pytest.raises(RuntimeError, match="ended before"):
        stream.put(b"x")
    if known:
        stream.end()  # all that it had was consumed
    else:
        with pytest.raises(RuntimeError, match="ended before"):
            stream.end()


def test_a_stream_that_was_left_has_all_its_pieces():
    seen = []
    with in_step(seen.append, 2) as begin:
        streams = [begin(1), begin(2)]
        streams[0].put(b"x")
        for stream in streams:
            stream.leave()
    for stream in streams:
        stream.end()
    assert seen == [{1: [b"x"]}]


def test_pieces_that_were_dropped_are_no_end():
    """A digest without them would be that of other bytes."""
    go, began, ends = threading.Event(), threading.Event(), []

    def consume(_):
        began.set()
        assert go.wait(20)

    def end(stream):
        with pytest.raises(RuntimeError, match="ended before"):
            stream.end()
        ends.append(stream)

    with pytest.raises(BoomError), in_step(consume, 1) as begin:
        first, second = begin(1), begin(2)
        first.put(b"x")
        first.leave()
        assert began.wait(20)
        second.put(b"x")
        ender = threading.Thread(target=end, args=(second,))
        ender.start()
        threading.Timer(0.05, go.set).start()
        raise BoomError
    ender.join(20)
    first.end()
    assert ends == [second]


def test_a_giver_that_waits_when_the_thread_ends_is_let_go():
    """As after a signal, when the task of another layer still waits for room or for its digest."""
    go, began = threading.Event(), threading.Event()

    def consume(_):
        began.set()
        assert go.wait(20)

    def give(stream):
        with contextlib.suppress(RuntimeError):
            for _ in range(20):
                stream.put(b"x")

    with pytest.raises(BoomError), in_step(consume, 1) as begin:
        streams = [begin(1), begin(2)]
        givers = [threading.Thread(target=give, args=(one,)) for one in streams]
        givers.append(threading.Thread(target=begin(3).end))
        for giver in givers:
            giver.start()
        assert began.wait(20)
        threading.Timer(0.05, go.set).start()
        raise BoomError
    for giver in givers:
        giver.join(20)
    assert not any(giver.is_alive() for giver in givers)


OFTEN = """
import os, random, signal, time
from dmsign_fast.pipeline.side_by_side import in_step

signal.signal(signal.SIGALRM, signal.default_int_handler)
chance = random.Random(1)
for _ in range(300):
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.choice([2e-5, 1e-4, 3e-4, 1e-3]))
        with in_step(lambda _: None, 2) as begin:
            for _ in range(100):
                first, second = begin(1), begin(2)
                for _ in range(5):
                    first.put(b"x")
                    second.put(b"y")
                first.end()
                second.leave()
    except KeyboardInterrupt:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
time.sleep(0.2)
print(len(os.listdir("/proc/self/task")))
"""


def test_an_interruption_at_any_time_leaves_no_thread():
    done = run(sys.executable, "-c", OFTEN)
    assert (done.exit_code, done.out) == (0, "1\n"), done.err


@needs_streams
@pytest.mark.parametrize(
    ("jobs", "cores", "threads"),
    [(1, 1, 1), (2, 2, 1), (3, 2, 2), (2, 4, 2), (8, 8, 4), (8, 16, 8)],
)
def test_two_layers_share_a_thread_where_cores_are_few(jobs, cores, threads, monkeypatch):
    began = []

    @contextlib.contextmanager
    def counted(*_):
        began.append(1)
        yield lambda _: None

    monkeypatch.setattr(digests, "in_step", counted)
    with digests.SharedDigests(jobs, cores):
        assert len(began) == threads


@needs_streams
@given(st.lists(st.binary(max_size=5000), max_size=8), st.integers(1, 4))
def test_shared_digests_are_those_of_hashlib(contents, jobs):
    with digests.SharedDigests(jobs, 2) as shared:

        def task(content):
            def run(_):
                with shared.of_layer() as new:
                    made = [new("sha256"), new("sha256")]
                    assert new("sha512") is None
                    for at in range(0, len(content), 1000):
                        for one in made:
                            one.update(content[at : at + 1000])
                    return {one.hexdigest() for one in made}

            return run

        found = run_all([task(content) for content in contents], jobs)
    assert found == [{hashlib.sha256(content).hexdigest()} for content in contents]


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
