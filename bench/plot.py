"""GB/s as bars, incumbents included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from measure import seconds

if TYPE_CHECKING:
    from pathlib import Path

    from report import Results

_OURS, _THEIRS, _BOUND = "#1b7a5a", "#c8553d", "#9aa0a6"


def _bars(
    results: Results, data: str, command: str, block_size: int
) -> list[tuple[str, float, str]]:
    rows = [
        row
        for row in results.rows
        if (row.data, row.command, row.block_size) == (data, command, block_size)
    ]
    if not rows:
        return []
    theirs = [run for row in rows for run in row.pairs.theirs]
    bars = [(f"{b.name.partition(' (')[0]}", b.speed, _BOUND) for b in results.baselines]
    bars.append((f"veritysetup {command}", rows[0].size / seconds(theirs) / 1e9, _THEIRS))
    for row in rows:
        threads = f"{row.threads} thread" + "s" * (row.threads > 1)
        bars.append((f"dmsign-fast, {row.implementation}, {threads}", row.ours, _OURS))
    return bars


def plot(results: Results, path: Path) -> None:
    """One panel per command and block size, of the first file."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    data = results.rows[0].data
    sizes = sorted({row.block_size for row in results.rows if row.data == data}, reverse=True)
    commands = ("format", "verify")
    bars = [[_bars(results, data, command, size) for command in commands] for size in sizes]
    height = 1.2 + 0.27 * sum(len(row[0]) + 2 for row in bars)
    figure, axes = plt.subplots(
        len(sizes), len(commands), figsize=(13, height), squeeze=False, layout="constrained"
    )
    # the read alone is off the scale of everything that hashes: its bar is cut and its value told
    hashing = [
        value for row in bars for panel in row for name, value, _ in panel if "read" not in name
    ]
    most = 1.25 * max(hashing)
    for size, row, panels in zip(sizes, bars, axes, strict=True):
        for command, panel, axis in zip(commands, row, panels, strict=True):
            names, values, colours = zip(*panel, strict=True)
            drawn = [min(value, most) for value in values]
            container = axis.barh(names, drawn, color=colours)
            labels = [f"{value:.2f}" + (" →" if value > most else "") for value in values]
            inside = [value > 0.88 * most for value in values]
            for bar, label, within in zip(container, labels, inside, strict=True):
                axis.annotate(
                    label,
                    (bar.get_width(), bar.get_y() + bar.get_height() / 2),
                    xytext=(-4 if within else 4, 0),
                    textcoords="offset points",
                    ha="right" if within else "left",
                    va="center",
                    color="white" if within else "black",
                    fontsize=9,
                )
            axis.set_xlim(0, most)
            axis.invert_yaxis()
            axis.set_title(f"{command}, blocks of {size} bytes", loc="left", fontsize=11)
            axis.set_xlabel("GB/s of data")
            axis.spines[["top", "right"]].set_visible(False)
    machine = results.machine
    figure.suptitle(
        f"dm-verity of {results.rows[0].size >> 20} MiB ({data}) in the page cache\n"
        f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
