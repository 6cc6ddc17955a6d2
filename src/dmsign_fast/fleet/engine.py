"""Who does the work: processes of this machine, or the workers of a Dask cluster.

Both are a ``concurrent.futures.Executor``; what else a run needs to know of them is an Engine.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import queue
import signal
import threading
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dmsign_fast.errors import ParameterError, ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from distributed import Client

__all__ = ["Engine", "LocalPool", "begin_engine", "local_engine", "open_engine"]

_TRIES = 3  # of a task whose worker dies
# Python 3.11 can hang in sys._current_frames(), which Dask's profiler calls all the time.
_CONFIG = {"distributed.worker.profile.enabled": False}
_CONNECT = 30  # seconds


@dataclass(frozen=True)
class Engine:
    """Workers.

    Attributes:
        executor: runs functions on them.
        workers: tasks at a time.
        name: for people.
        hosts: that the workers are on.
        dashboard: the address of Dask's, if there is one.
        elsewhere: an executor of the workers that are not on a host; None where all are on it.
        everywhere: calls a function once on each worker; its results by the worker's address.
    """

    executor: Executor
    workers: int
    name: str
    hosts: frozenset[str] = frozenset({"this machine"})
    dashboard: str | None = None
    elsewhere: Callable[[str], Executor | None] = field(default=lambda _: None)
    everywhere: Callable[..., dict[str, Any]] = field(default=lambda _: {})


def _serve(pipe: Connection) -> None:
    """The life of a process of a LocalPool: it ends when the other end of the pipe does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[Any, str | None] = (function(*arguments), None)
        except Exception as error:  # noqa: BLE001
            answer = (None, f"{type(error).__name__}: {error}")
        pipe.send(answer)


class LocalPool(Executor):
    """Processes of this machine, each with one task at a time.

    One that dies is replaced, and its task tried again: those of the others go on, which a
    ``ProcessPoolExecutor`` cannot do.
    """

    def __init__(self, workers: int) -> None:
        """Begin with none; a process is started when it is first needed."""
        self._context = multiprocessing.get_context("spawn")
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Any] | None] = queue.SimpleQueue()
        self._processes: set[Any] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        """Let a process call a function that can be imported."""
        future: Future[Any] = Future()
        self._waiting.put((future, (fn, args)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all processes; tasks that are under way are lost."""
        self._closed = True
        for _ in self._threads:
            self._waiting.put(None)
        if cancel_futures or not wait:
            with self._lock:
                for process in self._processes:
                    process.kill()
        if wait:
            for thread in self._threads:
                thread.join()

    def _run(self) -> None:
        process, pipe = None, None
        while (item := self._waiting.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            for _ in range(_TRIES):
                if process is None:
                    process, pipe = self._start()
                try:
                    assert pipe is not None  # noqa: S101
                    pipe.send(call)
                    result, problem = pipe.recv()
                except (EOFError, OSError):
                    self._end(process)
                    status, process = process.exitcode, None
                    problem = f"a worker process died {_TRIES} times, last with status {status}"
                    if self._closed:
                        break
                    continue
                break
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(ProgramError(problem))
        if process is not None:
            assert pipe is not None  # noqa: S101
            pipe.close()
            self._end(process)

    def _start(self) -> tuple[Any, Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        with self._lock:
            self._processes.add(process)
        return process, ours

    def _end(self, process: Any) -> None:
        process.join()
        with self._lock:
            self._processes.discard(process)


@contextmanager
def local_engine(workers: int | None) -> Iterator[Engine]:
    """Processes of this machine, one for each core by default."""
    count = workers or len(os.sched_getaffinity(0))
    pool = LocalPool(count)
    try:
        yield Engine(
            pool,
            count,
            f"{count} process(es) of this machine",
            everywhere=lambda function, *arguments: {
                "this machine": pool.submit(function, *arguments).result()
            },
        )
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def open_engine(*, scheduler: str | None = None, workers: int | None = None) -> Iterator[Engine]:
    """The workers of a Dask scheduler, a cluster of this machine, or its processes.

    Args:
        scheduler: its address, such as ``tls://HOST:8786``; TLS as ``distributed`` is configured.
        workers: processes to start here, as a LocalCluster where ``distributed`` is installed.

    Raises:
        ParameterError: ``scheduler`` without ``distributed``.
        ProgramError: the scheduler cannot be reached, or has no workers.
    """
    have_dask = importlib.util.find_spec("distributed") is not None
    if scheduler and not have_dask:
        raise ParameterError("--scheduler needs Dask: pip install 'dmsign-fast[fleet]'")
    if not have_dask or (scheduler is None and workers is None):
        with local_engine(workers) as engine:
            yield engine
        return
    import dask
    import distributed

    if scheduler is None:
        # its own certificates, since whoever reaches a scheduler runs what he likes
        with (
            dask.config.set(_CONFIG),
            distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=":0", security=True
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield _dask(client)
        return
    try:
        client = distributed.Client(scheduler, timeout=_CONNECT)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ProgramError(f"the scheduler {scheduler} cannot be reached: {error}") from None
    with client:
        yield _dask(client)


@contextmanager
def begin_engine(
    *, scheduler: str | None = None, workers: int | None = None
) -> Iterator[Callable[[], Engine]]:
    """As open_engine; but workers start while the caller does something else.

    What is yielded waits for them, and raises what open_engine does.
    """
    opened: Future[Engine] = Future()
    over = threading.Event()

    def live() -> None:  # a Dask client has to be closed by the thread that opened it
        try:
            with open_engine(scheduler=scheduler, workers=workers) as engine:
                opened.set_result(engine)
                over.wait()
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield opened.result
    finally:
        over.set()
        thread.join()


def _dask(client: Client) -> Engine:
    def workers() -> dict[str, dict[str, Any]]:
        return dict(client.scheduler_info(n_workers=-1)["workers"])

    known = workers()
    if not known:
        raise ProgramError(
            f"the scheduler {client.scheduler.address} has no workers: start some by 'dask worker'"
        )

    def elsewhere(host: str) -> Executor | None:
        others = [address for address, facts in workers().items() if facts["host"] != host]
        if not others:
            return None
        executor: Executor = client.get_executor(
            pure=False, workers=others, allow_other_workers=False
        )
        return executor

    def everywhere(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        begun = {
            address: client.submit(
                function, *arguments, pure=False, workers=[address], allow_other_workers=False
            )
            for address in workers()
        }
        return {address: _result(future) for address, future in begun.items()}

    return Engine(
        client.get_executor(pure=False),
        sum(facts["nthreads"] for facts in known.values()),
        f"{len(known)} Dask worker(s) of {client.scheduler.address}",
        frozenset(facts["host"] for facts in known.values()),
        client.dashboard_link or None,
        elsewhere,
        everywhere,
    )


def _result(future: Any) -> Any:
    """What a worker gave, or the error that it gave instead."""
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001
        return error
