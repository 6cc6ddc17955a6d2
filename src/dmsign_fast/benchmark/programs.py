"""``format`` and ``verify`` as whole processes, ours and veritysetup's in turn."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import sys
from typing import TYPE_CHECKING

from dmsign_fast.errors import ProgramError, VerificationError
from dmsign_fast.processes import run_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["against_veritysetup", "find_program", "format_words", "root_hash", "verify_words"]

_SECONDS = 600.0
_OURS = (sys.executable, "-m", "dmsign_fast", "verity")
_SALT = "aa" * 32
_UUID = "7f1a5f4c-2c1e-4a57-9d0b-0f1c2d3e4f50"


def find_program(name: str) -> str | None:
    """The path of a program, which may be one for administrators."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def format_words(data: Path, hashes: Path, block_size: int = 4096) -> list[str]:
    """The same work for both programs, with a salt and a UUID: their files are the same too."""
    size = str(block_size)
    options = ["--data-block-size", size, "--hash-block-size", size]
    return ["format", *options, "--salt", _SALT, "--uuid", _UUID, str(data), str(hashes)]


def verify_words(data: Path, hashes: Path, root: str) -> list[str]:
    """For both programs."""
    return ["verify", str(data), str(hashes), root]


def _run(words: Sequence[str]) -> tuple[float, str]:
    """Seconds and what was printed; ProgramError if it fails."""
    done = run_program(words, timeout=_SECONDS, environment=os.environ)
    if done.exit_code:
        raise ProgramError(f"{words[0]}: exit status {done.exit_code}: {done.last_words}")
    return done.seconds, done.out.decode(errors="replace")


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
    veritysetup = find_program("veritysetup")
    size, hashes = data.stat().st_size, data.with_name("hashes")
    made = format_words(data, hashes)
    _, text = _run([*_OURS, *made])
    root = root_hash(text)
    for command, words in (("format", made), ("verify", verify_words(data, hashes, root))):
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
