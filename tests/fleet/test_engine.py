"""Workers: processes of this machine, and those of a real Dask scheduler, killed and mixed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from helpers import wait_until

from dmsign_fast import __version__
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import ParameterError, ProgramError
from dmsign_fast.fleet import engine as engines
from dmsign_fast.fleet.engine import local_engine, open_engine
from dmsign_fast.fleet.hashing import Hashing, Limits
from dmsign_fast.fleet.rows import PartBlob, State
from dmsign_fast.fleet.sign import sign_fleet
from dmsign_fast.fleet.state import FleetState
from dmsign_fast.fleet.task import LayerOutcome, LayerTask, run_task, worker_facts
from fleet.conftest import IMAGES


def die_once(marker):
    """Kill the process that runs it, but for the second time."""
    if not os.path.exists(marker):  # noqa: PTH110
        open(marker, "w").close()  # noqa: PTH123
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise ValueError("on purpose")


def test_a_process_that_dies_is_replaced_and_the_others_go_on(tmp_path):
    with local_engine(2) as engine:
        slow = engine.executor.submit(time.sleep, 1)
        assert engine.executor.submit(die_once, str(tmp_path / "marker")).result(30)
        slow.result(30)


def test_a_task_that_kills_every_process_ends(tmp_path):
    with local_engine(1) as engine:
        with pytest.raises(ProgramError, match="died 3 times, last with status -9"):
            engine.executor.submit(die).result(60)
        with pytest.raises(ProgramError, match="ValueError: on purpose"):
            engine.executor.submit(fail).result(60)
        assert engine.executor.submit(os.getpid).result(60) != os.getpid()


def test_no_process_is_left(tmp_path):
    with local_engine(2) as engine:
        pids = {engine.executor.submit(os.getpid).result(30) for _ in range(4)}
        engine.executor.submit(time.sleep, 600)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@contextlib.contextmanager
def running(*words, **options):
    process = subprocess.Popen(
        [sys.executable, "-m", *words], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **options
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)
        process.stderr.close()


SCHEDULER = ("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0")


@pytest.fixture
def cluster(tmp_path):
    """Starts a scheduler and workers as processes of their own: (address, scheduler, workers)."""
    with contextlib.ExitStack() as stack:

        def start(*hosts, environment=None):
            words = (*SCHEDULER, "--no-dashboard", "--scheduler-file", str(tmp_path / "scheduler"))
            scheduler = stack.enter_context(running(*words))
            wait_until((tmp_path / "scheduler").exists, "the start of the scheduler")
            wait_until(lambda: (tmp_path / "scheduler").read_text().endswith("}"), "its address")
            address = re.search(r"tcp://[\d.:]+", (tmp_path / "scheduler").read_text())[0]
            workers = [
                stack.enter_context(
                    running(
                        *("distributed.cli.dask_worker", address, "--host", host, "--no-nanny"),
                        *("--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path)),
                        env=os.environ | (environment or {}),
                    )
                )
                for host in hosts
            ]
            import distributed

            with distributed.Client(address, timeout=30) as client:
                client.wait_for_workers(len(hosts), timeout=60)
            return address, scheduler, workers

        yield start


@pytest.fixture
def run(tmp_path, key, options):
    def go(references, engine, changed=None, **more):
        with FleetState(tmp_path / "run.state") as state:
            sign_fleet(state, references, key, changed or options, engine, **more)
            return state.counts(), list(state.images())

    return go


def test_processes_of_this_machine_sign_a_fleet(registry, run, entity):
    with local_engine(2) as engine:
        counts, _ = run(registry.references, engine)
    assert counts.images[State.SIGNED] == len(IMAGES)
    assert set(registry.fetched().values()) == {1}
    assert all(registry.verified(entity, deep=True).values())


def test_a_real_cluster_signs_a_fleet_and_two_hosts_agree(registry, cluster, run, options, entity):
    address, _, _ = cluster("127.0.0.1", "127.0.0.2")
    limits = Limits(confirm=2)
    with open_engine(scheduler=address) as engine:
        assert engine.workers == 2
        facts = engine.everywhere(worker_facts)
        assert {one["host"] for one in facts.values()} == {"127.0.0.1", "127.0.0.2"}
        assert {one["version"] for one in facts.values()} == {__version__}
        counts, _ = run(registry.references, engine, replace(options, limits=limits))
    assert counts.images[State.SIGNED] == len(IMAGES)
    assert set(registry.fetched().values()) == {2}, "each layer by both"
    assert all(registry.verified(entity, deep=True).values())


def test_confirmation_needs_two_hosts(registry, cluster, run, options):
    address, _, _ = cluster("127.0.0.1", "127.0.0.1")
    confirmed = replace(options, limits=Limits(confirm=2))
    with open_engine(scheduler=address) as engine, pytest.raises(ParameterError, match="two hosts"):
        run(registry.references, engine, confirmed)


def test_a_worker_that_is_killed_costs_one_more_reading_at_most(registry, cluster, run, entity):
    address, _, workers = cluster("127.0.0.1", "127.0.0.1")
    killed = []

    def hold(handler):
        """Keep the first layer's reader waiting, and kill its worker."""
        with registry.server.lock:
            first = not killed
            killed.append(handler.path)
        if first:
            workers[0].kill()
            time.sleep(0.3)
        handler.serve()

    registry.server.fail("GET", "/v2/.*/blobs/.*", hold, 99)
    with open_engine(scheduler=address) as engine:
        counts, _ = run(registry.references, engine)
    registry.server.faults.clear()
    assert counts.images[State.SIGNED] == len(IMAGES)
    assert sum(registry.fetched().values()) <= len(registry.fetched()) + 1
    assert all(registry.verified(entity, deep=True).values())


def test_a_scheduler_that_dies_ends_the_run_which_goes_on_later(
    registry, cluster, run, entity, threads, monkeypatch
):
    monkeypatch.setattr(engines, "_CONNECT", 3)  # also the time for which it is looked for
    address, scheduler, _ = cluster("127.0.0.1")
    seen = []

    def kill(handler):
        seen.append(handler.path)
        if len(seen) == 2:
            scheduler.kill()
        handler.serve()

    registry.server.fail("GET", "/v2/.*/blobs/.*", kill, 99)
    with (
        pytest.raises(ProgramError, match="--resume"),
        open_engine(scheduler=address) as engine,
    ):
        run(registry.references, engine)
    registry.server.faults.clear()
    counts, _ = run([], threads, resume=True)
    assert counts.images[State.SIGNED] == len(IMAGES)
    assert all(registry.verified(entity, deep=True).values())
    assert all(len(registry.referrers(name)) == 2 for name in IMAGES)


def test_nobody_answers_at_the_address(monkeypatch):
    monkeypatch.setattr(engines, "_CONNECT", 2)
    with (
        pytest.raises(ProgramError, match="cannot be reached"),
        open_engine(scheduler="tcp://127.0.0.1:9"),
    ):
        pass


def test_a_worker_of_another_version_is_named():
    task = LayerTask("sha256:" + 64 * "0", 1, "sha256:" + 64 * "1", "a/b", (), (), version="9.9")
    outcome = run_task(task)
    assert "has dmsign-fast" in outcome.failure
    assert "9.9" in outcome.failure


TWO = frozenset({"one", "two"})
RECIPE = Recipe.parse("containerd").fields()
PART = PartBlob("metadata", "sha256:" + 64 * "2", 1, "elsewhere.example/x")


class Answers:
    """An executor whose workers answer what they like."""

    def __init__(self, *outcomes):
        self._outcomes = list(outcomes)

    def submit(self, _, task):
        from concurrent.futures import Future

        future = Future()
        future.set_result(self._outcomes.pop(0)(task))
        return future


def outcome(root_hash=b"\1" * 32, host="one", **values):
    return lambda task: LayerOutcome(
        values.pop("digest", task.digest), task.diff_id, (root_hash,), 1, 0.1, host, **values
    )


@pytest.mark.parametrize(
    ("answers", "confirm", "words"),
    [
        ([outcome(version="0.0.9")], 1, "the worker one has dmsign-fast 0.0.9"),
        ([outcome(digest="sha256:" + 64 * "9")], 1, "answers for another layer"),
        ([outcome(b"\1" * 31)], 1, "answers for another layer"),
        ([outcome(parts=(PART,))], 1, "names a place of its own"),
        ([outcome(), outcome(b"\2" * 32, "two")], 2, "one (dmsign-fast"),
        ([outcome(), outcome()], 2, "both workers were on one"),
    ],
)
def test_an_answer_that_does_not_count_is_a_failure(answers, confirm, words):
    executor = Answers(*answers)
    engine = engines.Engine(executor, 1, "liars", TWO, elsewhere=lambda _: executor)
    task = LayerTask("sha256:" + 64 * "0", 1, "sha256:" + 64 * "1", "a/b", ("r/x",), (RECIPE,))
    hashing = Hashing(lambda: engine, [(7, task)], Limits(confirm=confirm))
    finished = []
    while hashing:
        finished += hashing.take()
    ((number, found),) = finished
    assert number == 7
    assert words in found.failure


def test_a_layer_needs_two_hosts_that_agree():
    executor = Answers(outcome(host="one"), outcome(host="two"))
    engine = engines.Engine(executor, 1, "two", TWO, elsewhere=lambda _: executor)
    task = LayerTask("sha256:" + 64 * "0", 1, "sha256:" + 64 * "1", "a/b", ("r/x",), (RECIPE,))
    hashing = Hashing(lambda: engine, [(7, task)], Limits(confirm=2))
    finished = []
    while hashing:
        finished += hashing.take()
    assert [(number, one.failure) for number, one in finished] == [(7, None)]


def profiled(_):
    import dask

    return dask.config.get("distributed.worker.profile.enabled")


def test_workers_started_here_are_not_profiled():
    with engines.open_engine(workers=1) as engine:
        assert engine.executor.submit(profiled, None).result(60) is False
