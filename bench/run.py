"""Compare dmsign-fast with veritysetup, mkfs.erofs and the way by hand: Markdown, JSON, a plot.

usage: python bench/run.py [--quick] [--size 2G] [--rounds 5] ...
Large files: --section compare --impl avx512 --data random --size 16G --block-size 4096 --threads 2
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from baseline import baselines
from compare import compare, thread_counts, verify_costs
from cycles import cycles
from fec import LARGEST, compare_fec, repair
from image_inputs import image_layers
from images import compare_image
from inputs import MIB, cache, erofs_image, random_file
from layer_inputs import FORMS, make, names
from layers import RECIPES, compare_layer, memory
from limits import cold, peaks, sparse, start
from machine import describe
from many_cores import many_cores
from report import Results, markdown

_HERE = Path(__file__).resolve().parent
_CACHE = _HERE.parent / ".cache" / "layers"
_BLOCK_SIZES = (4096, 512)
_SECTIONS = ("compare", "baseline", "cycles", "limits", "layers", "images", "fec")
_DATA = ("random", "EROFS")
_UNITS = {"M": 20, "G": 30}


def _size(text: str) -> int:
    number, unit = text[:-1], text[-1:].upper()
    if unit not in _UNITS or not number.isdecimal() or not int(number):
        message = f"{text!r}: a size is a number and M or G"
        raise argparse.ArgumentTypeError(message)
    return int(number) << _UNITS[unit]


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="256 MiB, 2 rounds, 1 GiB for memory: a smoke test")
    add("--size", type=_size, help="of the random file (2G)")
    add("--image-size", type=_size, help="of the EROFS image, about (1G)")
    add("--peak-size", type=_size, help="of the data for peak memory (16G)")
    add("--rounds", type=int, help="pairs of runs for each row (5)")
    add("--impl", action="append", help="only this implementation; may be repeated")
    add("--section", action="append", choices=_SECTIONS, help="only this; may be repeated")
    text = "compare only this; may be repeated"
    add("--data", action="append", choices=_DATA, help=text)
    add("--block-size", action="append", type=int, choices=_BLOCK_SIZES, help=text)
    add("--threads", action="append", type=int, help="of ours; may be repeated")
    files = [f"{name}.{form}" for name in names() for form in FORMS]
    known = ", ".join(names())
    text = f"only these: {known}; may end in .tar, .tar.gz or .tar.zst"
    add("--layers", nargs="+", choices=[*names(), *files], metavar="NAME", help=text)
    text = "of sign and verify, besides their default (2); may be repeated"
    add("--jobs", type=int, action="append", help=text)
    add("--cache", type=Path, default=_CACHE, help="for the layers, which stay (.cache/layers)")
    add("--scratch", type=Path, default=Path("build"), help="for the data files (build)")
    add("--results", type=Path, default=_HERE / "results", help="for JSON and PNG")
    args = parser.parse_args(argv)
    quick = args.quick
    args.size = args.size or (256 * MIB if quick else 2048 * MIB)
    args.image_size = args.image_size or (256 * MIB if quick else 1024 * MIB)
    args.peak_size = args.peak_size or (1024 * MIB if quick else 16384 * MIB)
    args.rounds = args.rounds or (2 if quick else 5)
    args.layers = args.layers or names()
    args.jobs = args.jobs or [2]
    args.cache /= "quick" if quick else "whole"
    args.section = args.section or list(_SECTIONS)
    args.data = args.data or list(_DATA)
    args.block_size = args.block_size or list(_BLOCK_SIZES)
    return args


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _compare(
    args: argparse.Namespace, results: Results, files: dict[str, Path], tmpfs: Path
) -> None:
    impls, threads = results.settings["implementations"], results.settings["threads"]
    for name, path in files.items():
        # the image is there to show that real data is like random data: the best one will do
        chosen = impls if name == "random" else impls[:1]
        for block_size in args.block_size:
            cache(path)
            for row in compare(name, path, block_size, chosen, threads, args.rounds, tmpfs):
                results.rows.append(row)
                _say(
                    f"{name} {row.command} {block_size} {row.implementation} x{row.threads}: "
                    f"{row.ours:.2f} GB/s against {row.theirs:.2f}"
                )
    results.limits += verify_costs(results.rows)


def _limits(args: argparse.Namespace, results: Results, scratch: Path, tmpfs: Path) -> None:
    _say("limits: start, sparse file, peak memory")
    results.limits += start()
    results.limits += many_cores(scratch)
    _say("limits: cold data")
    data = random_file(scratch / "cold", args.size)
    results.limits.append(cold(data, tmpfs, args.rounds))
    data.unlink()
    data = random_file(scratch / "gib", min(1024 * MIB, args.peak_size))
    whole = 64 * data.stat().st_size
    results.limits.append(sparse(data, whole, scratch, tmpfs, args.rounds))
    results.limits += peaks(data, args.peak_size, scratch, tmpfs)
    data.unlink()


def _layers(args: argparse.Namespace, results: Results, tmpfs: Path) -> None:
    threads = min(2, results.machine["cores"])
    for name in names():
        if not any(wanted.partition(".")[0] == name for wanted in args.layers):
            continue
        _say(f"the layer {name}")
        for layer in make(args.cache.resolve(), name, args.quick):
            if not {name, layer.path.name} & set(args.layers):
                continue
            for recipe in RECIPES:
                case = compare_layer(layer, recipe, threads, args.rounds, tmpfs)
                results.layers.append(case)
                results.limits.append(memory(layer, recipe, threads))
                for ratio in case.ratios():
                    _say(f"{layer.path.name} {recipe.name}: {ratio}")


def _images(args: argparse.Namespace, results: Results, tmpfs: Path) -> None:
    _say("an image of five layers")
    layers = image_layers(args.cache.resolve(), args.quick)
    case, limits = compare_image(layers, args.jobs, args.rounds, tmpfs)
    results.images.append(case)
    results.limits += limits
    for ratio in case.ratios():
        _say(str(ratio))


def _fec(args: argparse.Namespace, results: Results, scratch: Path, tmpfs: Path) -> None:
    from dmsign_fast._core_fec import FEC

    data = random_file(scratch / "fec-data", min(args.size, LARGEST))
    cache(data)
    # the first is chosen on this machine; veritysetup is too slow to be timed for all of them
    threads, rounds = results.settings["threads"], min(args.rounds, 3)
    for row in compare_fec(data, FEC.usable[:1], threads, rounds, tmpfs):
        results.fec.append(row)
        _say(f"fec {row.roots} roots x{row.threads}: {row.ours:.2f} against {row.theirs:.3f} GB/s")
    data.unlink()
    results.repair = repair(scratch)


def _implementations(wanted: list[str] | None) -> list[str]:
    from dmsign_fast import _core

    usable = _core.SHA256.usable
    if unusable := set(wanted or ()) - set(usable):
        message = f"{', '.join(unusable)}: not one of {', '.join(usable)}"
        raise SystemExit(message)
    return wanted or usable


def _measure(args: argparse.Namespace, scratch: Path, tmpfs: Path) -> Results:
    machine = describe()
    settings = {
        "size": args.size,
        "rounds": args.rounds,
        "implementations": _implementations(args.impl),
        "threads": args.threads or thread_counts(machine["cores"]),
        "hash_files_in": str(tmpfs.parent),
    }
    results = Results(machine, settings)
    if "limits" in args.section:
        _limits(args, results, scratch, tmpfs)
    if "fec" in args.section:
        _fec(args, results, scratch, tmpfs)
    if "layers" in args.section:
        _layers(args, results, tmpfs)
    if "images" in args.section:
        _images(args, results, tmpfs)
    if "cycles" in args.section:
        data = random_file(scratch / "cycles", 64 * MIB)
        for implementation in settings["implementations"]:
            for block_size in _BLOCK_SIZES:
                results.cycles.append(cycles(implementation, block_size, data))
        data.unlink()
    if not {"baseline", "compare"} & set(args.section):
        return results
    _say(f"{args.size >> 20} MiB of random data")
    data = random_file(scratch / "random", args.size)
    cache(data)
    if "baseline" in args.section:
        _say("plain read, OpenSSL")
        results.baselines += baselines(data, args.rounds)
    if "compare" in args.section:
        files = {"random": data} if "random" in args.data else {}
        if "EROFS" in args.data:
            _say("an EROFS image of this machine's /usr")
            files["EROFS"] = erofs_image(scratch / "image.erofs", args.image_size)
        _compare(args, results, files, tmpfs)
    return results


def main(argv: list[str] | None = None) -> None:
    """Measure, print, save."""
    args = _arguments(argv)
    args.scratch.mkdir(parents=True, exist_ok=True)
    fast = Path("/dev/shm")
    large = not args.quick and {"layers", "images"} & set(args.section)
    need = (8192 if large else 1024) * MIB + args.size // 8
    if not fast.is_dir() or shutil.disk_usage(fast).free < need:
        _say(f"no room in {fast}: images and hash files go to {args.scratch}, and to its disk")
        fast = args.scratch
    with ExitStack() as stack:
        scratch, tmpfs = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench.", dir=place)))
            for place in (args.scratch.resolve(), fast.resolve())
        )
        results = _measure(args, scratch, tmpfs)
    args.results.mkdir(parents=True, exist_ok=True)
    table = markdown(results)
    (args.results / "bench.md").write_text(table + "\n")
    (args.results / "bench.json").write_text(json.dumps(results.json, indent=1) + "\n")
    print(table)
    if results.rows:
        from plot import plot

        plot(results, args.results / "bench.png")
    _say(f"bench.md, bench.json and bench.png are in {args.results}")


if __name__ == "__main__":
    main()
