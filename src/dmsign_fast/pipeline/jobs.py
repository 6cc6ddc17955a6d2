"""Several tasks at a time, which end together."""

from __future__ import annotations

import _thread
import queue
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["run_all"]

T = TypeVar("T")

# Seconds for tasks to notice that they should stop. A task that waits for a registry does not.
_PATIENCE = 2


def run_all(tasks: Sequence[Callable[[threading.Event], T]], jobs: int) -> list[T]:
    """Run up to ``jobs`` tasks at a time, and return their results in the order of the tasks.

    Each task gets an event that tells it to stop. The first error stops the other tasks, and is
    raised when all have ended. A signal is raised soon: a task that waits for a network then ends
    with the process.
    """
    stop = threading.Event()
    if jobs <= 1:
        return [task(stop) for task in tasks]
    waiting: queue.SimpleQueue[tuple[int, Callable[[threading.Event], T]]] = queue.SimpleQueue()
    for numbered in enumerate(tasks):
        waiting.put(numbered)
    results: dict[int, T] = {}
    problems: list[BaseException] = []
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def work() -> None:
        while not stop.is_set():
            try:
                number, task = waiting.get_nowait()
            except queue.Empty:
                break
            try:
                results[number] = task(stop)
            except BaseException as error:  # noqa: BLE001
                problems.append(error)  # before the others stop, and have errors of their own
                stop.set()
        ended.put(None)

    running = 0
    try:
        for _ in range(min(jobs, len(tasks))):
            _thread.start_new_thread(work, ())
            running += 1
        while running:
            ended.get()
            running -= 1
    except BaseException:
        stop.set()
        while running:
            try:
                ended.get(timeout=_PATIENCE)
            except queue.Empty:
                break
            running -= 1
        raise
    if problems:
        raise problems[0]
    return [results[number] for number in range(len(tasks))]
