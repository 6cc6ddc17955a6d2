"""Several tasks at a time, their order, their number and their errors."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from dmsign_fast.pipeline.jobs import run_all

LIMIT = 20


def test_results_are_in_the_order_of_the_tasks():
    def task(number):
        def run(_):
            time.sleep(0.02 * (5 - number))
            return number

        return run

    for jobs in (1, 2, 5, 9):
        assert run_all([task(number) for number in range(5)], jobs) == list(range(5))
    assert run_all([], 3) == []


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_so_many_tasks_at_a_time(jobs):
    lock, now, most = threading.Lock(), [0], [0]

    def task(_):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.03)
        with lock:
            now[0] -= 1

    run_all([task] * 8, jobs)
    assert most[0] == jobs


class BoomError(Exception):
    """What goes wrong."""


@pytest.mark.parametrize("error", [BoomError, KeyboardInterrupt])
def test_the_first_error_stops_the_others_and_comes_out(error):
    began, ended = threading.Event(), []

    def wait(stop):
        began.set()
        assert stop.wait(LIMIT)
        ended.append(1)
        raise CancelledError

    def fail(_):
        assert began.wait(LIMIT)
        raise error

    def never(_):
        ended.append("never")

    with pytest.raises(error):
        run_all([wait, fail, never, never, never], 2)
    assert ended[0] == 1
    assert ended.count("never") <= 1


def test_a_task_alone_runs_in_our_thread_and_its_error_comes_out():
    seen = []
    run_all([lambda stop: seen.append((threading.get_ident(), stop.is_set()))], 1)
    assert seen == [(threading.get_ident(), False)]
    with pytest.raises(BoomError):
        run_all([_fail, lambda _: seen.append("never")], 1)
    assert "never" not in seen


def _fail(_):
    raise BoomError
