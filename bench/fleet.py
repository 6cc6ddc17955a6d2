"""``dmsign-fast fleet sign`` of many images against a loop of ``dmsign-fast sign``.

A docker-registry on loopback holds 12 layers, and 200 images of 3 to 9 of them in different
orders. The loop signs them all; with ``--sample`` each tenth of them, and its time is scaled by the
bytes of their layers. The loop with ``--reuse`` signs the same images again, so that it reads no
layer at all: its best case.

Workers are compared on a Dask cluster that runs already, each worker held to one core: a worker
that is free to do so decompresses and hashes in several threads.

usage: python bench/fleet.py [--quick] [--sample] [--images 200]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compare import dmsign_fast
from image_inputs import split
from image_registry import registry
from layer_inputs import compressed, make_tar
from measure import run

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from pki import make_intermediate, make_leaf, make_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from image_registry import Images
    from layer_inputs import Layer

_CACHE = Path(__file__).resolve().parents[1] / ".cache" / "layers"
_LAYERS, _SIZE, _QUICK_SIZE = 12, 170 * 10**6, 4 * 10**6
_CATALOGUE = 100_000
_EACH = 10  # image of a sample
_PATIENCE = 60.0


def _layers(directory: Path, quick: bool) -> list[Layer]:
    directory.mkdir(parents=True, exist_ok=True)
    tars = [directory / f"fleet-{number + 1}.tar" for number in range(_LAYERS)]
    if not all(tar.exists() for tar in tars):
        sources = [make_tar(directory, name, quick) for name in ("debian", "python")]
        with tempfile.TemporaryDirectory(prefix="fleet.", dir=directory) as scratch:
            parts = [Path(scratch, tar.name) for tar in tars]
            split(sources, parts, _QUICK_SIZE if quick else _SIZE)
            for part, tar in zip(parts, tars, strict=True):
                part.rename(tar)
    return [compressed(tar, "tar.gz", quick) for tar in tars]


@dataclass(frozen=True)
class _Image:
    reference: str
    size: int  # bytes of its layers, uncompressed


@dataclass(frozen=True)
class _Signed:
    """A run of fleet sign.

    Attributes:
        seconds: of all of it.
        hashing: from the begin of the first layer to the end of the last.
        cpu: of the coordinator and its local workers.
        read: how often the layer was read that was read most often.
    """

    seconds: float
    hashing: float
    cpu: float
    read: int


class _Fleet:
    def __init__(self, images: Images, layers: list[Layer], scratch: Path) -> None:
        self._images, self._layers, self._scratch = images, layers, scratch
        entity = make_leaf(make_intermediate(make_root()), key="EC-256")
        keys = entity.write(scratch / "keys")
        self._key = ("--key", str(keys.key), "--cert", str(keys.chain))

    def push(self, count: int) -> list[_Image]:
        """Images that nobody has signed, the same ones each time."""
        chance = random.Random(12)
        return [
            self._push(chance.sample(self._layers, chance.randrange(3, 10))) for _ in range(count)
        ]

    def push_whole(self) -> list[_Image]:
        """An image of all layers."""
        return [self._push(self._layers)]

    def _push(self, layers: Sequence[Layer]) -> _Image:
        repository = self._images.new_repository()
        manifest = self._images.push(repository, layers)
        return _Image(f"{repository}@{manifest.digest}", sum(layer.size for layer in layers))

    def sign(self, images: Sequence[_Image], *options: str, name: str) -> _Signed:
        """One run of fleet sign."""
        listed, state = self._scratch / f"{name}.txt", self._scratch / f"{name}.state"
        listed.write_text("\n".join(one.reference for one in images))
        before = Counter(self._images.downloads())
        words = ["fleet", "sign", "--from", str(listed), "--state", str(state)]
        began = time.time()
        done = run([dmsign_fast(), *words, *self._key, *options])
        after = Counter(self._images.downloads())
        with contextlib.closing(sqlite3.connect(state)) as base:
            query = "SELECT max(made) - min(made - seconds) FROM root_hash WHERE made >= ?"
            ((hashing,),) = base.execute(query, (began,))
        read = max(after[layer.digest] - before[layer.digest] for layer in self._layers)
        return _Signed(done.seconds, hashing or 0.0, done.cpu, read)

    def loop(self, images: Sequence[_Image], *options: str) -> float:
        """Seconds of a loop over the images."""
        began = time.monotonic()
        for one in images:
            run([dmsign_fast(), "sign", one.reference, *self._key, *options])
        return time.monotonic() - began


@contextlib.contextmanager
def _cluster(cores: Sequence[int], directory: Path) -> Iterator[str]:
    """The address of a scheduler with a worker on each of the cores."""
    file = directory / f"scheduler-{len(cores)}.json"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny"]
    place = ["--scheduler-file", str(file), "--no-dashboard"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    plain = os.environ | {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}  # docs/fleet.md
    log = (directory / "cluster.log").open("wb")
    with contextlib.ExitStack() as stack:
        stack.enter_context(log)

        def start(*command: str) -> None:
            process = subprocess.Popen(command, stderr=log, cwd=directory, env=plain, **quiet)
            stack.callback(process.wait)
            stack.callback(process.terminate)

        start(*dask, "--host", "127.0.0.1", "--port", "0", *place)
        for core in cores:
            start("taskset", "-c", str(core), *worker, *place)
        yield _when_ready(file, len(cores))


def _when_ready(file: Path, workers: int) -> str:
    from distributed import Client

    end = time.monotonic() + _PATIENCE
    while not (file.exists() and (written := file.read_text()).endswith("}")):
        if time.monotonic() > end:
            message = "the scheduler does not start"
            raise RuntimeError(message)
        time.sleep(0.1)
    address = str(json.loads(written)["address"])
    with Client(address) as client:
        client.wait_for_workers(workers, timeout=_PATIENCE)
        client.run(_import_worker)  # a cluster that is in use has done that long ago
    return address


def _import_worker() -> None:
    import dmsign_fast.fleet.task
    import dmsign_fast.oci.registry  # noqa: F401


def _plan(quick: bool) -> dict[str, float]:
    """What planning a simulated catalogue takes, in a process of its own."""
    count = _CATALOGUE // (50 if quick else 1)
    done = run([sys.executable, str(Path(__file__).with_name("fleet_catalogue.py")), str(count)])
    return json.loads(done.output)


def _measure(fleet: _Fleet, args: argparse.Namespace, scratch: Path) -> None:
    count = args.images or (20 if args.quick else 200)
    cores = sorted(os.sched_getaffinity(0))[:2]
    alone, signed = {}, {}
    for workers in range(1, len(cores) + 1):
        with _cluster(cores[:workers], scratch) as address:
            options = ("--scheduler", address)
            alone[workers] = fleet.sign(fleet.push_whole(), *options, name=f"one-{workers}")
            signed[workers] = fleet.sign(fleet.push(count), *options, name=f"many-{workers}")
    images = fleet.push(count)
    here = fleet.sign(images, name="here")
    started = fleet.sign(fleet.push(count), "--workers", "2", name="started")
    known = fleet.sign(images, "--force", name="here")
    rows = [
        *(
            (f"{what}, {workers} worker(s) on a core each", done)
            for what, runs in (("an image of all layers", alone), (f"{count} images", signed))
            for workers, done in runs.items()
        ),
        (f"{count} images, processes of this machine", here),
        (f"{count} images, --workers 2: a cluster started for the run", started),
        (f"{count} images again, all layers known", known),
    ]
    images = fleet.push(count)
    chosen = images[::_EACH] if args.sample else images
    scale = sum(one.size for one in images) / sum(one.size for one in chosen)
    plain = fleet.loop(chosen) * scale
    reused = fleet.loop(chosen, "--reuse", "--force") * scale
    by = f", by {len(chosen)} of them" if args.sample else ""
    print("| | seconds | hashing | processor | a layer read |\n|---|---:|---:|---:|---:|")
    for name, done in rows:
        print(
            f"| {name} | {done.seconds:.2f} | {done.hashing:.2f} | {done.cpu:.2f} | {done.read} x |"
        )
    print(f"| loop of sign{by} | {plain:.1f} | | | |")
    print(f"| loop of sign --reuse{by} | {reused:.1f} | | | |\n")
    print(f"fleet sign against the loop: {plain / here.seconds:.1f} times (floor 8)")
    print(f"against the loop with --reuse: {reused / here.seconds:.1f} times (floor 3)")
    print(f"with a cluster started for the run: {plain / started.seconds:.1f} times")
    if len(cores) > 1:
        print(
            f"two workers against one: {alone[1].hashing / alone[2].hashing:.2f} times while they "
            f"read layers (floor 1.8), {signed[1].seconds / signed[2].seconds:.2f} in all"
        )
    print(
        f"an image whose layers are known: {known.cpu / count * 1000:.0f} ms of the coordinator's "
        f"processor (limit 50), {known.seconds / count * 1000:.0f} ms in all"
    )


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small layers, 20 images")
    parser.add_argument("--sample", action="store_true", help=f"loop over each {_EACH}th image")
    parser.add_argument("--images", type=int)
    args = parser.parse_args(argv)
    layers = _layers(_CACHE / ("quick" if args.quick else "whole"), args.quick)
    fast = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="fleet.", dir=fast) as scratch,
        registry(Path(scratch), access_log=True) as images,
    ):
        images.add(layers)
        _measure(_Fleet(images, layers, Path(scratch)), args, Path(scratch))
    planned = _plan(args.quick)
    print(
        f"plan of {planned['images']:.0f} images: {planned['plan']:.1f} s (limit 60), resumed in "
        f"{planned['resume']:.1f} s (limit 10), {planned['bytes']:.0f} bytes an image (limit "
        f"1024), {planned['memory']:.0f} MiB (limit 1024)"
    )


if __name__ == "__main__":
    main()
