"""Whole processes, timed one at a time and in pairs."""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_TIMEOUT = 3600.0
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """One process from its start to its end.

    Attributes:
        cpu: seconds of user and system time.
        others: cores that everything else on the machine kept busy meanwhile.
    """

    seconds: float
    cpu: float
    others: float
    output: str

    @property
    def json(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 4),
            "cpu_seconds": round(self.cpu, 4),
            "other_cores": round(self.others, 2),
        }


def _busy() -> float:
    """Seconds that all cores were busy or stolen since the machine started."""
    with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123
        user, nice, system, _, _, irq, softirq, steal, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + irq + softirq + steal) / _TICK


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
) -> Run:
    """Run a command to its end; CalledProcessError with its output if it fails."""
    words = [os.fspath(word) for word in command]
    busy = _busy()
    began = time.perf_counter()
    # the file names and figures that these commands print fit in the buffer of a pipe
    child = subprocess.Popen(
        words,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
    )
    watchdog = threading.Timer(_TIMEOUT, child.kill)
    watchdog.daemon = True
    watchdog.start()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    watchdog.cancel()
    busy = _busy() - busy
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.stdout
    with child.stdout:
        output = child.stdout.read().decode(errors="replace")
    if child.returncode:
        print(f"failed: {shlex.join(words)}\n{output}")
        raise subprocess.CalledProcessError(child.returncode, words, output)
    cpu = usage.ru_utime + usage.ru_stime
    return Run(seconds, cpu, max(0.0, (busy - cpu) / seconds), output)


# A process begins with the peak of the one that started it. So a small one does, which prints what
# wait4 tells of its child.
_SMALL = """\
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak(command: Sequence[str], *, stdin: int = subprocess.DEVNULL) -> tuple[int, Run]:
    """Run a command by its full path; the bytes of its largest resident set, and the run."""
    done = run([sys.executable, "-I", "-S", "-c", _SMALL, *command], stdin=stdin)
    return int(done.output.split()[-1]) << 10, done


@dataclass(frozen=True)
class Pairs:
    """Two commands run in turn; each ratio is of two runs that followed each other."""

    theirs: list[Run]
    ours: list[Run]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast ours was, pair by pair."""
        return [a.seconds / b.seconds for a, b in zip(self.theirs, self.ours, strict=True)]

    @property
    def cpu_ratios(self) -> list[float]:
        """How many times as much processor time theirs took."""
        return [a.cpu / b.cpu for a, b in zip(self.theirs, self.ours, strict=True)]

    @property
    def cores(self) -> float:
        """That ours kept busy while it ran."""
        return sum(run.cpu for run in self.ours) / sum(run.seconds for run in self.ours)

    @property
    def json(self) -> dict[str, Any]:
        return {
            "theirs": [run.json for run in self.theirs],
            "ours": [run.json for run in self.ours],
            "ratios": [round(ratio, 3) for ratio in self.ratios],
        }


@dataclass(frozen=True)
class Limit:
    """One figure that has an upper limit; no value: why not."""

    name: str
    value: float | None
    unit: str
    most: float | None
    note: str = ""

    @property
    def json(self) -> dict[str, Any]:
        return asdict(self)


def take_turns(ways: Mapping[str, Callable[[], Run]], rounds: int) -> dict[str, list[Run]]:
    """A B C A B C ..., so that what disturbs the machine for a while disturbs all."""
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            runs[name].append(way())
    return runs


def in_turn(theirs: Callable[[], Run], ours: Callable[[], Run], rounds: int) -> Pairs:
    """Two ways that take turns."""
    return Pairs(**take_turns({"theirs": theirs, "ours": ours}, rounds))


def seconds(runs: Sequence[Run]) -> float:
    """Median."""
    return statistics.median(run.seconds for run in runs)


def cpu(runs: Sequence[Run]) -> float:
    """Median of the processor time."""
    return statistics.median(run.cpu for run in runs)
