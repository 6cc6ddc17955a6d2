"""Plan a simulated catalogue: images are made when they are asked for. Prints JSON."""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.fleet.places import Places
from dmsign_fast.fleet.plan import plan_fleet
from dmsign_fast.fleet.rows import State
from dmsign_fast.fleet.state import FleetState
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.manifest import make_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dmsign_fast.oci.manifest import Manifest

_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_BASES = 50  # layers that most images share


class Catalogue:
    """A store of memory, as much of it as planning asks."""

    def __init__(self, layers: int) -> None:
        self._layers = layers
        self._configs: dict[str, bytes] = {}

    def resolve(self, tag: str) -> Manifest:
        chance = random.Random(tag)
        numbers = [chance.randrange(min(_BASES, self._layers)) for _ in range(3)]
        numbers += [chance.randrange(self._layers) for _ in range(7)]
        rootfs = {"type": "layers", "diff_ids": [_digest(10**9 + one) for one in numbers]}
        image = {"architecture": "amd64", "os": "linux", "config": {"tag": tag}, "rootfs": rootfs}
        config = json.dumps(image).encode()
        described = Descriptor.of(config, _CONFIG)
        self._configs[described.digest] = config
        layers = [Descriptor(_LAYER, Digest(_digest(one)), 10**6 + one) for one in numbers]
        return make_manifest(config=described, layers=layers)

    def fetch(self, descriptor: Descriptor, _: object = None) -> Iterator[bytes]:
        yield self._configs.pop(descriptor.digest)

    def referrers(self, *_: object) -> list[Descriptor]:
        return []


def _digest(number: int) -> str:
    return f"sha256:{number * 0x9E3779B97F4A7C15:064x}"


def main(images: int) -> None:
    """Plan, resume, and say what it took."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "run.state"
        with FleetState(path) as state:
            state.begin({}, resume=False)
            state.add_sources(f"registry.example/app{n % 1000}:v{n}" for n in range(images))
            catalogue = Catalogue(images // 5)
            began = time.monotonic()
            plan_fleet(state, Places(lambda _: catalogue))  # type: ignore[arg-type, return-value]
            planned = time.monotonic() - began
        began = time.monotonic()
        with FleetState(path) as state:
            state.begin({}, resume=True)
            state.reset_failures()
            count, layers = len(list(state.images(State.PLANNED))), len(state.layers())
        resumed = time.monotonic() - began
        found = {
            "images": count,
            "layers": layers,
            "plan": planned,
            "resume": resumed,
            "bytes": path.stat().st_size / images,
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
