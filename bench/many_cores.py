"""What many threads cost, on a machine that has few cores: SHA-256 is replaced by a wait.

The waits of many_cores.c are far longer than the hashing that they stand for, so that two cores can
wake all threads in time. So spans are simulated at two speeds, to tell what grows with the time of
the hashing (threads that wait for the last) from what does not (waking threads, memory, the work
between spans). Waking 64 threads takes two cores longer than it takes 64.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from inputs import tool
from measure import Limit

_HERE = Path(__file__).resolve().parent
_CSRC = _HERE.parent / "csrc"
_SPEED = 6.0  # GB/s, of a thread that reads and hashes
_SLOWER = (25, 50)
_SPANS = 6
_BLOCK_SIZE = 4096
_MOST = 10.0


def _program(scratch: Path) -> Path:
    path = scratch / "many_cores"
    sources = [source for source in _CSRC.glob("sha256/*.c") if source.name != "choice.c"]
    sources += _CSRC.glob("verity/*.c")
    compiler = tool(os.environ.get("CC", "cc"), "gcc")
    words = [compiler, "-std=c11", "-O2", "-pthread", _HERE / "many_cores.c", *sources]
    words += ["-Wl,--wrap=pool_begin,--wrap=pool_run"]
    subprocess.run([*words, "-o", path], check=True)
    return path


def _span(program: Path, threads: int, nanoseconds_per_kib: float) -> tuple[float, float]:
    """Seconds of a span, and of one that loses nothing."""
    words = [program, threads, _BLOCK_SIZE, round(nanoseconds_per_kib), _SPANS]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    found, ideal = done.stdout.split()
    return float(found), float(ideal)


def overhead(program: Path, threads: int) -> Limit:
    """Of the time of a span, the part that so many threads lose."""
    real = 1024 / _SPEED
    slow, slower = _SLOWER
    (first, ideal), (second, _) = (_span(program, threads, real * times) for times in _SLOWER)
    grows = (second - first) / (slower - slow)
    fixed = max(0.0, first - grows * slow)
    ideal /= slow
    lost = (fixed + grows) / ideal - 1
    note = f"a span of {ideal * 1e3:.1f} ms, {fixed * 1e3:.2f} ms of it whatever the speed"
    return Limit(f"lost by {threads} threads, simulated", lost * 100, "%", _MOST, note)


def many_cores(scratch: Path) -> list[Limit]:
    """Rows for the table of limits."""
    program = _program(scratch)
    return [overhead(program, threads) for threads in (16, 64)]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        for limit in many_cores(Path(directory)):
            print(f"{limit.name}: {limit.value:.1f} {limit.unit} ({limit.note})")
