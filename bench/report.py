"""The tables, in Markdown."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from images import BY_HAND
from layers import MKFS_VERSION, OURS
from measure import cpu, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from baseline import Baseline
    from compare import Row
    from cycles import Cycles
    from fec import FecRow
    from images import ImageCase
    from layers import Case
    from measure import Limit, Run

# With more than this many cores busy elsewhere, the figures say so.
_QUIET = 0.1


@dataclass
class Results:
    """All that one run of the benchmark found."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    baselines: list[Baseline] = field(default_factory=list)
    cycles: list[Cycles] = field(default_factory=list)
    layers: list[Case] = field(default_factory=list)
    images: list[ImageCase] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    fec: list[FecRow] = field(default_factory=list)
    repair: Run | None = None

    @property
    def json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "settings": self.settings,
            "compare": [row.json for row in self.rows],
            "baselines": [baseline.json for baseline in self.baselines],
            "cycles": [found.json for found in self.cycles],
            "layers": [case.json for case in self.layers],
            "images": [case.json for case in self.images],
            "limits": [limit.json for limit in self.limits],
            "fec": [row.json for row in self.fec],
            "repair": self.repair.json if self.repair else None,
        }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    right = [
        not any(c.isalpha() for c in "".join(row[i] for row in rows)) for i in range(len(head))
    ]
    lines = [head, ["---:" if number else "---" for number in right], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = zip(line, widths, right, strict=True)
        padded = (c.rjust(w) if number else c.ljust(w) for c, w, number in cells)
        yield f"| {' | '.join(padded)} |"
    yield ""


def _machine(machine: dict[str, Any]) -> Iterator[str]:
    virtual = ", virtual" if machine["virtual"] else ""
    clock = f", TSC {machine['tsc_hertz'] / 1e6:.0f} MHz" if machine["tsc_hertz"] else ""
    yield (
        f"Machine: {machine['processor']}, {machine['cores']} cores{virtual}{clock}; "
        f"{', '.join(machine['features'])}; {machine['caches']}; {machine['memory_gib']} GiB  "
    )
    yield (
        f"Software: Linux {machine['kernel']}, {machine['distribution']}; "
        f"{machine['cryptsetup'].partition(' flags')[0]}; {machine['openssl']}; "
        f"Python {machine['python']} with {machine['openssl_of_hashlib']}; "
        f"C core by {machine['compiler']}  "
    )
    yield f"Date: {machine['date']}, load {machine['load']:.1f}"
    yield ""


def _compare(rows: Sequence[Row]) -> Iterator[str]:
    others = statistics.median(run.others for row in rows for run in row.pairs.ours)
    yield (
        "Whole processes in turn (veritysetup, dmsign-fast, veritysetup, ...); medians. The ratio "
        "is taken pair by pair: median (least to most). *CPU time*: user and system, "
        "of all threads, as a part of veritysetup's; busy neighbours hardly change it."
    )
    if others > _QUIET:
        yield (
            f"**Other processes kept {others:.1f} cores busy meanwhile**: figures of several "
            "threads are too low (see *cores*, what dmsign-fast got)."
        )
    for row in rows:
        # a core that veritysetup had for itself and we did not makes no fair pair
        if row.pairs.cores < 0.7 * row.threads:
            yield ""
            yield "Rows marked ! got less than 70 % of the cores that they asked for."
            break
    yield ""
    head = ["data", "command", "block", "SHA-256", "threads", "GB/s", "cores"]
    head += ["veritysetup GB/s", "times as fast", "floor", "CPU time"]
    lines = []
    for row in rows:
        ratios = row.pairs.ratios
        lines.append(
            [
                f"{row.data}, {row.size / 2**30:.2f} GiB",
                row.command,
                str(row.block_size),
                row.implementation,
                str(row.threads),
                f"{row.ours:.2f}",
                f"{row.pairs.cores:.2f}" + (" !" if row.pairs.cores < 0.7 * row.threads else ""),
                f"{row.theirs:.2f}",
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                "" if row.floor is None else f"{row.floor:g}",
                f"1/{statistics.median(row.pairs.cpu_ratios):.2f}",
            ]
        )
    yield from _table(head, lines)


def _fec(rows: Sequence[FecRow], repair: Run | None) -> Iterator[str]:
    yield (
        "Tree and parity (`format --fec-device`), whole processes in turn; the files of both are "
        "compared after each run."
    )
    yield ""
    head = ["roots", "arithmetic", "threads", "GB/s", "veritysetup GB/s", "times as fast"]
    lines = []
    for row in rows:
        ratios = row.pairs.ratios
        lines.append(
            [
                str(row.roots),
                row.implementation,
                str(row.threads),
                f"{row.ours:.2f}",
                f"{row.theirs:.3f}",
                f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})",
                "" if row.floor is None else f"{row.floor:g}",
                f"1/{statistics.median(row.pairs.cpu_ratios):.1f}",
            ]
        )
    yield from _table([*head, "floor", "CPU time"], lines)
    if repair:
        yield (
            f"1 MiB in a row of 1 GiB destroyed, 2 roots: repaired in {repair.seconds:.2f} s "
            f"({repair.cpu:.2f} s of processor time), then verified."
        )
        yield ""


def _baselines(baselines: Sequence[Baseline]) -> Iterator[str]:
    yield "Bounds, on the random file, one thread:"
    yield ""
    yield from _table(["what", "GB/s"], [[b.name, f"{b.speed:.2f}"] for b in baselines])


def _cycles(found: Sequence[Cycles]) -> Iterator[str]:
    kinds = {
        "core": "core cycles counted by perf",
        "loop": "core cycles, by the clock that a loop of additions showed before and after",
        None: "no clock found",
    }
    yield "The C core alone: one thread, salt of 32 bytes, the fastest call."
    yield (
        "Cycles: "
        + "; ".join(kinds[clock] for clock in sorted({c.clock for c in found}, key=str))
        + "."
    )
    yield ""
    head = ["SHA-256", "block", "GB/s from L2", "cycles per byte", "bound", "GB/s with pread"]
    lines = [
        [
            c.implementation,
            str(c.block_size),
            f"{c.hashing:.2f}",
            "" if c.per_byte is None else f"{c.per_byte:.3f}",
            "" if c.bound is None else f"{c.bound:.3f}",
            f"{c.reading:.2f}",
        ]
        for c in found
    ]
    yield from _table(head, lines)


def _layers(cases: Sequence[Case]) -> Iterator[str]:
    others = statistics.median(
        run.others for case in cases for r in case.runs.values() for run in r
    )
    yield (
        "Layers, whole processes in turn; medians of seconds; two threads. *shell way*: mkfs.erofs "
        f"{MKFS_VERSION}, behind zcat or zstd -dc in a pipe, then veritysetup format, all files on "
        "a tmpfs. *with --uuid*: the layer's digest is not needed; *with digests*: of the file and "
        f"the tar. Other processes kept {others:.1f} cores busy meanwhile."
    )
    yield ""
    by_path = {case.layer.path: case.layer for case in cases}
    head = ["layer", "MB", "tar MB", "entries"]
    lines = []
    for path, layer in by_path.items():
        sizes = [f"{file.stat().st_size / 1e6:.1f}" for file in (path, layer.tar)]
        lines.append([path.name, *sizes, str(layer.entries)])
    yield from _table(head, lines)
    head = ["layer", "recipe", "dmsign-fast", "s", "tar GB/s", "cores", "against", "their s"]
    head += ["times as fast", "floor", "CPU time"]
    lines = []
    for case in cases:
        for ratio in case.ratios():
            found, ours = ratio.pairs.ratios, seconds(ratio.pairs.ours)
            lines.append(
                [
                    case.layer.path.name,
                    case.recipe.name,
                    ratio.ours,
                    f"{ours:.2f}",
                    f"{case.layer.size / ours / 1e9:.2f}",
                    f"{ratio.pairs.cores:.2f}",
                    ratio.theirs,
                    f"{seconds(ratio.pairs.theirs):.2f}",
                    f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})",
                    "" if ratio.floor is None else f"{ratio.floor:g}",
                    f"1/{statistics.median(ratio.pairs.cpu_ratios):.2f}",
                ]
            )
    yield from _table(head, lines)
    yield "The others alone, as whole processes:"
    yield ""
    yield from _table(
        ["layer", "recipe", "what", "s", "CPU s", "tar MB/s"],
        [
            [
                case.layer.path.name,
                case.recipe.name,
                way,
                f"{seconds(runs):.2f}",
                f"{cpu(runs):.2f}",
                f"{case.layer.size / seconds(runs) / 1e6:.0f}",
            ]
            for case in cases
            for way, runs in case.runs.items()
            if way not in OURS
        ],
    )


def _images(case: ImageCase) -> Iterator[str]:
    yield (
        f"An image of {len(case.layers)} layers, {case.size / 1e6:.0f} MB by gzip, "
        f"{case.tar_size / 1e6:.0f} MB of tars, in a registry on loopback. Whole processes in "
        "turn; medians. *by hand*: bench/by_hand.sh. *hash* is the sum over layers, of which "
        "--jobs does several at a time; *start*: of Python, and its end; *other cores*: the "
        "registry's too."
    )
    yield ""
    stages = ("hash", "sign", "push", "start")
    rows = [_way(BY_HAND, case.signing[BY_HAND]) + [""] * (2 + len(stages))]
    for ratio in case.ratios():
        found, of_stages = ratio.pairs.ratios, case.stages(ratio.ours)
        rows.append(
            [
                *_way(ratio.ours, ratio.pairs.ours),
                f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})",
                "" if ratio.floor is None else f"{ratio.floor:g}",
                *(f"{of_stages.get(stage, 0):.2f}" for stage in stages),
            ]
        )
    rows += [_way(way, runs) + [""] * (2 + len(stages)) for way, runs in case.verifying.items()]
    head = ["what", "s", "CPU s", "other cores", "times as fast", "floor"]
    yield from _table([*head, *(f"{stage} s" for stage in stages)], rows)
    yield (
        f"The work on its layers, each part alone in one thread: {case.binding} binds. Together "
        f"they are {sum(map(cpu, case.parts.values())):.2f} s of processor time."
    )
    yield ""
    parts = [_way(part, runs) for part, runs in case.parts.items()]
    yield from _table(["part", "s", "CPU s", "other cores"], parts)


def _way(name: str, runs: Sequence[Run]) -> list[str]:
    others = statistics.median(run.others for run in runs)
    return [name, f"{seconds(runs):.2f}", f"{cpu(runs):.2f}", f"{others:.2f}"]


def _limits(limits: Sequence[Limit]) -> Iterator[str]:
    lines = [
        [
            limit.name,
            "not measured" if limit.value is None else f"{limit.value:.2f} {limit.unit}",
            "" if limit.most is None else f"{limit.most:g} {limit.unit}",
            limit.note,
        ]
        for limit in limits
    ]
    yield from _table(["limit", "measured", "at most", ""], lines)


def markdown(results: Results) -> str:
    """Every table that has rows."""
    lines = list(_machine(results.machine))
    if results.rows:
        lines += _compare(results.rows)
    if results.baselines:
        lines += _baselines(results.baselines)
    if results.cycles:
        lines += _cycles(results.cycles)
    if results.fec:
        lines += _fec(results.fec, results.repair)
    if results.layers:
        lines += _layers(results.layers)
    for case in results.images:
        lines += _images(case)
    if results.limits:
        lines += _limits(results.limits)
    return "\n".join(lines)
