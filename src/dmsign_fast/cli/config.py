"""What the commands share that change notation's configuration."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_line
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["confirm", "print_table"]


def confirm(question: str, option: str, *, yes: bool) -> None:
    """Ask a person, unless ``option`` was given, which is ``yes``; ParameterError if not agreed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ParameterError(f"{question} There is no terminal to ask on: give {option}")
    print_line(f"{question} [y/N] ", sys.stderr)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ParameterError("operation cancelled, nothing was changed")


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Columns as notation has them: padded with spaces, and three more after each."""
    rows = list(rows)
    widths = [max(len(cell) for cell in column) + 3 for column in zip(*rows, strict=True)]
    for row in rows:
        print_line("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
