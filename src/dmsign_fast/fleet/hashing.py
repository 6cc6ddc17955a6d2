"""Layers to workers, and root hashes back: in order, within limits, as often as is needed."""

from __future__ import annotations

import time
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsign_fast import __version__
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import ParameterError, ProgramError
from dmsign_fast.fleet.places import registry_of
from dmsign_fast.fleet.task import LayerOutcome, run_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future
    from typing import Any

    from dmsign_fast.fleet.engine import Engine
    from dmsign_fast.fleet.task import LayerTask

__all__ = ["Hashing", "Limits"]

_LOOK = 0.5  # seconds between two looks at registries that are left alone


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is asked at a time.

    Attributes:
        per_registry: layers that are read from one registry at a time.
        patience: seconds for which a layer waits for a registry that is busy, in all.
        confirm: workers on different hosts that must agree on each layer: 1 or 2.
    """

    per_registry: int = 16
    patience: float = 600.0
    confirm: int = 1


@dataclass(eq=False)
class _Job:
    key: int
    task: LayerTask
    waited: float = 0
    tries: int = 0
    first: LayerOutcome | None = None

    @property
    def registry(self) -> str:
        return registry_of(self.task.places[0]) if self.task.places else ""


class Hashing:
    """Layers that are being hashed; ``take`` gives what came back.

    A registry that asks to be left alone is left alone by all workers.
    """

    def __init__(
        self,
        engine: Callable[[], Engine],
        tasks: Iterable[tuple[int, LayerTask]],
        limits: Limits,
    ) -> None:
        """Begin with tasks by a key of the caller's, in the order in which they should run.

        Without tasks, ``engine`` is not called.
        """
        self._limits = limits
        self._waiting = deque(_Job(key, task) for key, task in tasks)
        if self._waiting:
            self._engine = engine()
            if limits.confirm > 1 and len(self._engine.hosts) < 2:
                raise ParameterError(
                    "--confirm 2 needs workers on two hosts: give the --scheduler of a Dask cluster"
                )
        self._running: dict[Future[LayerOutcome], _Job] = {}
        self._at_registry: Counter[str] = Counter()
        self._quiet_until: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting or self._running)

    def take(self, beside: Sequence[Future[Any]] = ()) -> list[tuple[int, LayerOutcome]]:
        """Start what may start, wait a while, and return the layers that are finished.

        Args:
            beside: other work, whose end ends the wait too.

        Raises:
            ProgramError: the workers are gone.
        """
        self._start()
        if futures := [*self._running, *beside]:
            wait(futures, _LOOK, FIRST_COMPLETED)
        elif self._waiting:
            time.sleep(_LOOK)
        done = [future for future in self._running if future.done()]
        finished = [self._finish(future) for future in done]
        self._start()
        return [one for one in finished if one]

    def cancel(self) -> None:
        """Start no more, and forget what is under way."""
        self._waiting.clear()
        for future in self._running:
            future.cancel()

    def _start(self) -> None:
        if not self._waiting:
            return
        now = time.monotonic()
        # some more than there are workers, so that none waits for the coordinator
        room = 2 * self._engine.workers - len(self._running)
        passed: list[_Job] = []
        while room > 0 and self._waiting:
            job = self._waiting.popleft()
            full = self._at_registry[job.registry] >= self._limits.per_registry
            if full or self._quiet_until.get(job.registry, 0) > now:
                passed.append(job)
                if len(passed) > 4 * self._limits.per_registry:
                    break
                continue
            if self._submit(job):
                room -= 1
        self._waiting.extendleft(reversed(passed))

    def _submit(self, job: _Job) -> bool:
        executor = self._engine.executor
        if job.first:
            other = self._engine.elsewhere(job.first.host)
            if other is None:
                raise ProgramError(
                    f"all workers are on {job.first.host}, and --confirm 2 needs two hosts"
                )
            executor = other
        self._running[executor.submit(run_task, job.task)] = job
        self._at_registry[job.registry] += 1
        return True

    def _finish(self, future: Future[LayerOutcome]) -> tuple[int, LayerOutcome] | None:
        job = self._running.pop(future)
        self._at_registry[job.registry] -= 1
        try:
            outcome = future.result()
        except CancelledError:
            raise ProgramError(
                "the workers are gone before their work was done: start the scheduler and its "
                "workers, and run this again with --resume"
            ) from None
        except Exception as error:  # noqa: BLE001  a worker's, of whatever kind
            return job.key, _failed(job, f"no worker could do it: {error}")
        if outcome.version != __version__:
            return job.key, _failed(
                job,
                f"the worker {outcome.host} has dmsign-fast {outcome.version}, and this is "
                f"{__version__}: install the same version",
            )
        if outcome.busy is not None and 0 <= outcome.busy < self._limits.patience - job.waited:
            self._again(job, outcome.busy)
            return None
        if outcome.failure:
            return job.key, outcome
        sizes = [Recipe.from_fields(fields).params.digest_size for fields in job.task.recipes]
        if (outcome.digest, outcome.diff_id) != (job.task.digest, job.task.diff_id) or [
            len(root_hash) for root_hash in outcome.root_hashes
        ] != sizes:
            return job.key, _failed(job, f"the worker {outcome.host} answers for another layer")
        # the coordinator shows its login to the places that it reads from
        if not {one.place for one in outcome.parts} <= set(job.task.places):
            return job.key, _failed(job, f"the worker {outcome.host} names a place of its own")
        if self._limits.confirm > 1:
            return self._confirm(job, outcome)
        return job.key, outcome

    def _again(self, job: _Job, busy: float) -> None:
        # without a word of the registry's, ever longer
        pause = max(busy, min(60.0, 2.0**job.tries))
        job.tries += 1
        job.waited += pause
        until = time.monotonic() + pause
        self._quiet_until[job.registry] = max(until, self._quiet_until.get(job.registry, 0))
        self._waiting.appendleft(job)

    def _confirm(self, job: _Job, outcome: LayerOutcome) -> tuple[int, LayerOutcome] | None:
        first = job.first
        if first is None:
            job.first = outcome
            self._waiting.appendleft(job)
            return None
        if first.host == outcome.host:
            return job.key, _failed(job, f"both workers were on {first.host}: nothing is confirmed")
        if first.root_hashes != outcome.root_hashes:
            return job.key, _failed(
                job,
                f"{first.host} (dmsign-fast {first.version}) and {outcome.host} (dmsign-fast "
                f"{outcome.version}) found different root hashes: do not sign with either before "
                "the reason is known",
            )
        return job.key, outcome


def _failed(job: _Job, reason: str) -> LayerOutcome:
    return LayerOutcome(job.task.digest, job.task.diff_id, failure=reason)
