"""Text, JSON and progress."""

from __future__ import annotations

import codecs
import sys
import time
import unicodedata
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping
    from typing import TextIO

__all__ = [
    "SHOWN",
    "Work",
    "logging_to_stderr",
    "note",
    "print_json",
    "print_line",
    "print_summary",
    "shown",
    "size_text",
    "work",
]

_LONG = 256 << 20
# Control characters, those that change the order of what is shown, and line separators. Bytes of
# file names that are not text (surrogates) stay as they are.
_NOT_SHOWN = ("Cc", "Cf", "Zl", "Zp")

SHOWN = "dmsign-fast.shown"  # the name of what text becomes that the locale has no bytes for


def _encode_anyway(error: UnicodeError) -> tuple[bytes, int]:
    """Bytes of file names as they are, and escapes of the rest."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    try:
        return text.encode("ascii", "surrogateescape"), error.end
    except UnicodeEncodeError:
        return text[:1].encode("ascii", "backslashreplace"), error.start + 1


codecs.register_error(SHOWN, _encode_anyway)


def print_line(text: str, file: TextIO | None = None) -> None:
    """One line of text, some of it from strangers: none of it is a command to the terminal."""
    print(shown(text), file=file or sys.stdout)


def shown(text: str) -> str:
    """Text of strangers, for a line that has tabs of ours."""
    return "".join(
        _escaped(char) if unicodedata.category(char) in _NOT_SHOWN else char for char in text
    )


def _escaped(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


def print_json(value: Mapping[str, object]) -> None:
    """One JSON object, for scripts."""
    import json

    print(json.dumps(value, indent=2))


class Work:
    """How much was done in what time; call it with the bytes that were done."""

    def __init__(self) -> None:
        """Begin now; ``expect`` takes the bytes there will be, once they are known."""
        self.bytes = 0
        self.seconds = 0.0
        self.stages: dict[str, float] = {}
        self._began = self._stage_began = time.monotonic()
        self._stage: str | None = None
        self.show: Callable[[int], object] | None = None
        self.expect: Callable[[int], object] = lambda _: None

    def __call__(self, size: int) -> None:
        """Count ``size`` more bytes."""
        self.bytes += size
        if self.show:
            self.show(size)

    def stage(self, name: str) -> None:
        """Begin a stage, which ends where the next begins; the first has all that was before."""
        now = time.monotonic()
        if self._stage:
            self.stages[self._stage] = now - self._stage_began
            self._stage_began = now
        self._stage = name

    def end(self) -> None:
        """End the work and its last stage: the stages add up to all seconds."""
        if self._stage:
            self.stage("")
        self.seconds = time.monotonic() - self._began

    @property
    def json(self) -> dict[str, object]:
        """For ``--output json``; ``stages`` add up to ``seconds``."""
        stages = {name: round(seconds, 6) for name, seconds in self.stages.items()}
        known = {"bytes": self.bytes, "seconds": round(self.seconds, 6)}
        return {**known, "stages": stages} if stages else {**known}

    def __str__(self) -> str:
        return f"{self.bytes} bytes in {self.seconds:.2f} s{_speed(self.bytes, self.seconds)}"


def size_text(size: float) -> str:
    """Bytes for people, in three digits: ``705 MB``."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"


def _speed(size: int, seconds: float) -> str:
    """The speed, but for small sizes, whose time is that of the start."""
    speed = size / max(seconds, 1e-9) / 1e6
    if size < 1e6 or speed < 1:
        return ""
    return f", {speed / 1e3:.2f} GB/s" if speed >= 10 else f", {speed:.0f} MB/s"


@contextmanager
def work(args: argparse.Namespace, doing: str, total: int | None) -> Iterator[Work]:
    """Time a long piece of work, with a progress bar if a person looks on."""
    done = Work()
    if sys.stderr.isatty() and not args.quiet and (total is None or total >= _LONG):
        from tqdm import tqdm

        with tqdm(
            desc=doing, total=total, unit="B", unit_scale=True, leave=False, file=sys.stderr
        ) as bar:
            done.show = bar.update
            done.expect = bar.reset
            yield done
    else:
        yield done
    done.end()


@contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Show what the package logs, for ``--verbose``."""
    import logging

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print_line(f"{time.monotonic() - began:.3f} s: {record.getMessage()}", sys.stderr)

    began = time.monotonic()
    logger, handler = logging.getLogger("dmsign_fast"), Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def note(args: argparse.Namespace, text: str) -> None:
    """Something that a person may want to know, on standard error."""
    if not args.quiet:
        print_line(text, sys.stderr)


def print_summary(args: argparse.Namespace, done: Work, doing: str) -> None:
    """How much was done and how fast, on standard error."""
    note(args, f"{doing} {done}")
