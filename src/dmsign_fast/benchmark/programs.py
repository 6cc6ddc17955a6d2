"""``format`` and ``verify`` as whole processes, ours and veritysetup's in turn."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import sys
import time
from typing import TYPE_CHECKING

from dmsign_fast.errors import ProgramError, VerificationError
from dmsign_fast.processes import run_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["against_veritysetup", "root_hash"]

_SECONDS = 600.0
_OURS = (sys.executable, "-m", "dmsign_fast", "verity")
_SALT = "aa" * 32
_SBIN = "/usr/sbin:/sbin"


def _run(words: Sequence[str]) -> tuple[float, str]:
    """Seconds and what was printed; ProgramError if it fails."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_SBIN}"}
    began = time.perf_counter()
    done = run_program(words, timeout=_SECONDS, environment=environment)
    took = time.perf_counter() - began
    if done.exit_code:
        raise ProgramError(f"{words[0]}: exit status {done.exit_code}: {done.last_words}")
    return took, done.out.decode(errors="replace")


def root_hash(output: str) -> str:
    """What ``format`` of either program printed; empty if it printed none."""
    found = re.search(r"^Root hash:\s*([0-9a-f]+)$", output, re.MULTILINE)
    return found[1] if found else ""


def against_veritysetup(
    data: Path, threads: Sequence[int], rounds: int
) -> Iterator[tuple[str, int, float, float | None]]:
    """Rows: command, threads, bytes in a second, and how many times as fast as veritysetup.

    The ratio is the median of pairs, and None on a machine without veritysetup.

    Raises:
        VerificationError: the two disagree on the root hash.
        ProgramError: one of them fails.
    """
    veritysetup = shutil.which("veritysetup", path=f"{os.environ.get('PATH', '')}:{_SBIN}")
    size, hashes = data.stat().st_size, str(data.with_name("hashes"))
    made = ["format", str(data), hashes, "--salt", _SALT]
    _, text = _run([*_OURS, *made])
    root = root_hash(text)
    for command, words in (
        ("format", made),
        ("verify", ["verify", str(data), hashes, root]),
    ):
        for count in threads:
            ours, ratios = [], []
            for _ in range(rounds):
                took, text = _run([*_OURS, *words, "--threads", str(count)])
                ours.append(took)
                if veritysetup:
                    theirs, said = _run([veritysetup, *words])
                    ratios.append(theirs / took)
                    if command == "format" and root_hash(said) != root:
                        raise VerificationError(
                            f"veritysetup has the root hash {root_hash(said)}, and dmsign-fast "
                            f"{root}"
                        )
            ratio = statistics.median(ratios) if ratios else None
            yield command, count, size / statistics.median(ours), ratio
