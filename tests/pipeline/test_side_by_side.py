"""Consumers side by side: order, errors, and how far apart they may come."""

import itertools
import random
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import run, wait_until

from dmsign_fast.pipeline.side_by_side import BUFFERS, side_by_side

LIMIT = 20


class BoomError(Exception):
    """What goes wrong in these tests."""


def threads():
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threads()
    yield
    wait_until(lambda: threads() <= before, "the end of every thread")


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("pieces", [0, 1, 3, 100])
def test_every_consumer_sees_every_piece_in_order(count, pieces):
    seen = [[] for _ in range(count)]
    with side_by_side(*(one.append for one in seen)) as put:
        for number in range(pieces):
            put(b"%d" % number)
    assert seen == [[b"%d" % number for number in range(pieces)]] * count


def test_they_work_at_the_same_time():
    """Each waits for the other at every piece, and the block is not waited for."""
    together = threading.Barrier(3, timeout=LIMIT)
    with side_by_side(lambda _: together.wait(), lambda _: together.wait()) as put:
        for _ in range(10):
            put(b"x")
            together.wait()


def test_a_consumer_is_called_in_one_thread_that_is_not_ours():
    seen = set()
    with side_by_side(lambda _: seen.add(threading.get_ident())) as put:
        for _ in range(10):
            put(b"x")
    assert len(seen) == 1
    assert threading.get_ident() not in seen


def test_a_ring_of_buffers_is_never_written_while_it_is_read():
    """What read_pieces does: piece n goes where piece n - BUFFERS was."""
    ring = [bytearray(2) for _ in range(BUFFERS)]
    seen = [[], [], []]

    def consumer(number):
        chance = random.Random(number)

        def consume(piece):
            before = bytes(piece)
            time.sleep(chance.choice([0, 0, 0.0005, 0.003]))
            assert bytes(piece) == before
            seen[number].append(before)

        return consume

    def reader():
        for number, buffer in zip(range(300), itertools.cycle(ring), strict=False):
            buffer[:] = number.to_bytes(2, "big")
            yield buffer

    with side_by_side(*map(consumer, range(3))) as put:
        pieces = reader()
        ahead = next(pieces)  # one that was only looked at
        for piece in pieces:
            put(ahead)
            ahead = piece
        put(ahead)
    assert seen == [[number.to_bytes(2, "big") for number in range(300)]] * 3


@pytest.mark.parametrize("slow", [0, 1])
def test_a_slow_consumer_bounds_what_waits_to_what_buffers_promises(slow):
    """In BUFFERS: those that were given, one in put(), and one that was only looked at."""
    go, given = threading.Event(), []

    def wait(_):
        assert go.wait(LIMIT)

    consumers = [lambda _: None, lambda _: None]
    consumers[slow] = wait

    def giver():
        with side_by_side(*consumers) as put:
            for number in range(20):
                put(b"x")
                given.append(number)

    thread = threading.Thread(target=giver)
    thread.start()
    try:
        wait_until(lambda: len(given) >= BUFFERS - 2, "the pieces that may wait")
        time.sleep(0.1)
        assert len(given) == BUFFERS - 2
    finally:
        go.set()
        thread.join(LIMIT)
    assert len(given) == 20


@pytest.mark.parametrize("error", [BoomError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("at", [0, 1, 5, 19])
def test_an_error_of_a_consumer_comes_out_as_it_is(at, error):
    seen, other = [], []
    raised = error("why")

    def consume(piece):
        seen.append(piece)
        if len(seen) == at + 1:
            raise raised

    with pytest.raises(error) as caught, side_by_side(consume, other.append) as put:
        for number in range(20):
            put(number)
    assert caught.value is raised
    assert seen == list(range(at + 1))
    assert other == list(range(len(other)))
    assert at <= len(other) <= min(20, at + BUFFERS)


def test_an_error_at_the_last_piece_comes_out_of_the_end():
    reached = []

    def consume(_):
        raise BoomError

    with pytest.raises(BoomError), side_by_side(consume) as put:
        put(b"x")
        reached.append(1)
    assert reached


def test_what_waits_for_a_slow_consumer_when_another_fails_is_bounded():
    began, go, seen = threading.Event(), threading.Event(), []

    def slow(piece):
        began.set()
        assert go.wait(LIMIT)
        seen.append(piece)

    def fail(_):
        assert began.wait(LIMIT)
        threading.Timer(0.05, go.set).start()
        raise BoomError

    with pytest.raises(BoomError), side_by_side(slow, fail) as put:
        for number in itertools.count():
            put(number)
    assert seen == list(range(len(seen)))
    assert len(seen) < BUFFERS


def test_an_error_in_the_block_drops_what_waits():
    began, go, seen = threading.Event(), threading.Event(), []

    def slow(piece):
        began.set()
        assert go.wait(LIMIT)
        seen.append(piece)

    with pytest.raises(BoomError), side_by_side(slow) as put:
        for number in range(3):
            put(number)
        assert began.wait(LIMIT)
        threading.Timer(0.05, go.set).start()
        raise BoomError
    assert seen == [0]


def test_the_first_of_two_errors_is_not_lost():
    def fail(_):
        raise BoomError

    with pytest.raises(BoomError), side_by_side(fail, fail) as put:
        for _ in range(50):
            put(b"x")


def test_nested_stages_end_from_the_inside():
    outer, inner = [], []
    with pytest.raises(BoomError), side_by_side(outer.append) as first:
        with side_by_side(inner.append) as second:
            first(1)
            second(1)
        assert inner == [1]
        raise BoomError
    assert outer in ([], [1])


INTERRUPTED = """
import os, signal, threading, time
from dmsign_fast.pipeline.side_by_side import side_by_side

signal.signal(signal.SIGALRM, signal.default_int_handler)
go = threading.Event()
seen = []

def slow(piece):
    go.wait(20)
    seen.append(piece)

threading.Timer(0.6, go.set).start()
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    with side_by_side(slow, lambda _: None) as put:
        for number in range({pieces}):
            put(number)
except KeyboardInterrupt:
    print("interrupted", seen)
"""


@pytest.mark.parametrize("pieces", [2, 100], ids=["at the end", "in put()"])
def test_an_interruption_while_we_wait_leaves_no_thread(pieces):
    done = run(sys.executable, "-c", INTERRUPTED.format(pieces=pieces))
    assert (done.exit_code, done.out, done.err) == (0, "interrupted [0]\n", "")


OFTEN = """
import os, random, signal, time
from dmsign_fast.pipeline.side_by_side import side_by_side

signal.signal(signal.SIGALRM, signal.default_int_handler)
chance = random.Random(1)
for _ in range(300):
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.choice([2e-5, 1e-4, 3e-4, 1e-3]))
        with side_by_side(lambda _: None, lambda _: None) as put:
            for number in range(1000):
                put(number)
    except KeyboardInterrupt:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
time.sleep(0.2)
print(len(os.listdir("/proc/self/task")))
"""


def test_an_interruption_at_any_time_leaves_no_thread():
    done = run(sys.executable, "-c", OFTEN)
    assert (done.exit_code, done.out) == (0, "1\n"), done.err
