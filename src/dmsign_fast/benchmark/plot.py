"""Speeds as bars, by matplotlib (extra ``bench``)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from dmsign_fast.errors import ParameterError
from dmsign_fast.outputs import storage_errors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dmsign_fast.benchmark.speeds import Speed

__all__ = ["check_plot", "plot"]

_COLOURS = {"sha256": "#1b7a5a", "fec": "#35608d", "decompress": "#9aa0a6", "command": "#c8553d"}
_FORMATS = (".png", ".svg")


def check_plot(path: Path) -> None:
    """Say what is wrong before the work.

    Raises:
        ParameterError: the name is neither .png nor .svg, or there is no matplotlib.
    """
    if path.suffix not in _FORMATS:
        raise ParameterError(f"{path} is neither .png nor .svg")
    if not find_spec("matplotlib"):
        raise ParameterError("--plot needs matplotlib: pip install 'dmsign-fast[bench]'")


def plot(rows: Sequence[tuple[str, Speed]], title: str, path: Path) -> None:
    """Draw rows, each with its label, to a PNG or SVG file.

    Raises:
        StorageError: it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1 + 0.25 * len(rows)), layout="constrained")
    axes = figure.subplots()
    speeds = [speed.speed / 1e9 for _, speed in rows]
    colours = [_COLOURS[speed.what] for _, speed in rows]
    bars = axes.barh([label for label, _ in rows], speeds, color=colours)
    axes.bar_label(bars, [f"{speed:.2f}" for speed in speeds], padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("GB/s")
    axes.set_title(title)
    with storage_errors("write", path):
        figure.savefig(path, dpi=120)
