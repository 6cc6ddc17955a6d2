"""``dmsign-fast fleet sign`` of many images against a loop of ``dmsign-fast sign``.

A docker-registry on loopback holds 12 layers, and 200 images of 3 to 9 of them in different orders.
The loop signs the first of them and is scaled to all, since each of its turns is like the others.

usage: python bench/fleet.py [--quick] [--images 200] [--loop 10]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
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
    from image_registry import Images
    from layer_inputs import Layer
    from measure import Run

_CACHE = Path(__file__).resolve().parents[1] / ".cache" / "layers"
_LAYERS, _SIZE, _QUICK_SIZE = 12, 170 * 10**6, 4 * 10**6
_CATALOGUE = 100_000


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


class _Fleet:
    def __init__(self, images: Images, layers: list[Layer], count: int, scratch: Path) -> None:
        self._images, self._scratch = images, scratch
        entity = make_leaf(make_intermediate(make_root()), key="EC-256")
        keys = entity.write(scratch / "keys")
        self.key = ("--key", str(keys.key), "--cert", str(keys.chain))
        self._count = count
        self._layers = layers

    def push(self) -> list[str]:
        """Images that nobody has signed, the same ones each time; their references."""
        chance = random.Random(12)
        references = []
        for _ in range(self._count):
            repository = self._images.new_repository()
            chosen = chance.sample(self._layers, chance.randrange(3, 10))
            manifest = self._images.push(repository, chosen)
            references.append(f"{repository}@{manifest.digest}")
        return references

    def sign(self, references: list[str], *options: str, name: str) -> tuple[Run, Counter[str]]:
        """One run of fleet sign, and how often each layer was downloaded."""
        listed = self._scratch / f"{name}.txt"
        listed.write_text("\n".join(references))
        before = Counter(self._images.downloads())
        state = self._scratch / f"{name}.state"
        done = run(
            [
                *(dmsign_fast(), "fleet", "sign", "--from", str(listed)),
                *("--state", str(state), *self.key, *options),
            ]
        )
        after = Counter(self._images.downloads())
        digests = {layer.digest for layer in self._layers}
        return done, Counter({one: after[one] - before[one] for one in digests})

    def loop(self, references: list[str], *options: str) -> float:
        """Seconds of a loop over the images."""
        began = time.monotonic()
        for reference in references:
            run([dmsign_fast(), "sign", reference, *self.key, *options])
        return time.monotonic() - began


def _known_layers(fleet: _Fleet, references: list[str], name: str) -> float:
    """Seconds for each image whose layers are all known, by the file of the run before."""
    done, _ = fleet.sign(references, "--force", name=name)
    return done.seconds / len(references)


def _plan(quick: bool) -> dict[str, float]:
    """What planning a simulated catalogue takes, in a process of its own."""
    count = _CATALOGUE // (50 if quick else 1)
    done = run([sys.executable, str(Path(__file__).with_name("fleet_catalogue.py")), str(count)])
    return json.loads(done.output)


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small layers, 20 images")
    parser.add_argument("--images", type=int)
    parser.add_argument("--loop", type=int, help="images that the loop signs")
    args = parser.parse_args(argv)
    count = args.images or (20 if args.quick else 200)
    turns = args.loop or (3 if args.quick else 10)
    layers = _layers(_CACHE / ("quick" if args.quick else "whole"), args.quick)
    fast = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="fleet.", dir=fast) as scratch,
        registry(Path(scratch), access_log=True) as images,
    ):
        images.add(layers)
        fleet = _Fleet(images, layers, count, Path(scratch))
        rows: list[tuple[str, float, str]] = []
        found = {}
        for workers in (1, 2):
            done, fetched = fleet.sign(
                references := fleet.push(), "--workers", str(workers), name=f"workers{workers}"
            )
            found[workers] = done.seconds
            most = max(fetched.values())
            rows.append((f"fleet sign --workers {workers}", done.seconds, f"blobs read {most} x"))
        rows.append(
            (
                "each image, all layers known",
                _known_layers(fleet, references, "workers2"),
                "limit 0.05 s beside the registry's own",
            )
        )
        fresh = fleet.push()
        plain = fleet.loop(list(islice(fresh, turns))) * count / turns
        rows.append((f"loop of sign, by {turns} of {count}", plain, ""))
        reused = fleet.loop(list(islice(fresh, turns)), "--reuse", "--force") * count / turns
        rows.append((f"loop of sign --reuse, by {turns} of {count}", reused, ""))
    planned = _plan(args.quick)
    print("| | seconds | |\n|---|---:|---|")
    for name, seconds, remark in rows:
        print(f"| {name} | {seconds:.2f} | {remark} |")
    print(f"\nfleet with 2 workers against the loop: {plain / found[2]:.1f} times (floor 8)")
    print(f"against the loop with --reuse: {reused / found[2]:.1f} times (floor 3)")
    print(f"two workers against one: {found[1] / found[2]:.2f} times (floor 1.8)")
    print(
        f"plan of {planned['images']:.0f} images: {planned['plan']:.1f} s (limit 60), resumed in "
        f"{planned['resume']:.1f} s (limit 10), {planned['bytes']:.0f} bytes an image (limit "
        f"1024), {planned['memory']:.0f} MiB (limit 1024)"
    )


if __name__ == "__main__":
    main()
