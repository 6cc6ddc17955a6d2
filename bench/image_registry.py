"""A registry on loopback with images, in which each run gets a repository of its own."""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from inputs import MIB, tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from layer_inputs import Layer

    from dmsign_fast.oci.descriptor import Descriptor
    from dmsign_fast.oci.registry import Registry

_PATIENCE = 30.0
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_CONFIGURATION = """\
version: 0.1
log: {{accesslog: {{disabled: {silent}}}}}
storage: {{filesystem: {{rootdirectory: {home}/data}}}}
http: {{addr: '127.0.0.1:0'}}
"""


class Images:
    """What is in the registry; every layer is there once, in the repository ``layers``."""

    def __init__(self, host: str, log: Path) -> None:
        self._host, self._log = host, log
        self._numbers = count(1)

    def _open(self, repository: str) -> Registry:
        from dmsign_fast.oci.reference import RegistryReference
        from dmsign_fast.oci.registry import Registry

        return Registry(RegistryReference(self._host, repository))

    def add(self, layers: Sequence[Layer]) -> None:
        """Push layers, so that images can be made of them."""
        with self._open("layers") as store:
            for layer in layers:
                store.push(_described(layer), partial(_pieces, layer.path))

    def url(self, layer: Layer) -> str:
        return f"http://{self._host}/v2/layers/blobs/{layer.digest}"

    def downloads(self) -> list[str]:
        """The digests of blobs that were downloaded, again and again if that is so."""
        found = re.findall(r'"GET /v2/\S+/blobs/(sha256:[0-9a-f]{64}) HTTP', self._log.read_text())
        return [str(digest) for digest in found]

    def new_repository(self) -> str:
        """One that nobody has signed anything in, as ``HOST/NAME``."""
        return f"{self._host}/run{next(self._numbers)}"

    def push(self, repository: str, layers: Sequence[Layer]) -> Descriptor:
        """An image of these layers, which are taken over from ``layers``; its manifest."""
        from dmsign_fast.oci.descriptor import Descriptor
        from dmsign_fast.oci.manifest import make_manifest

        rootfs = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
        image = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
        config = json.dumps(image).encode()
        described = Descriptor.of(config, _CONFIG)
        manifest = make_manifest(config=described, layers=[_described(one) for one in layers])
        with self._open(repository.partition("/")[2]) as store:
            for layer in layers:
                if not store.mount(_described(layer), "layers"):
                    message = f"{repository}: the registry does not take {layer.path.name} over"
                    raise RuntimeError(message)
            store.push(described, config)
            store.push(manifest.descriptor, manifest.raw)
        return manifest.descriptor


def _described(layer: Layer) -> Descriptor:
    from dmsign_fast.oci.descriptor import Descriptor, Digest

    return Descriptor(_LAYER, Digest(layer.digest), layer.path.stat().st_size)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(MIB):
            yield piece


@contextmanager
def registry(home: Path, *, access_log: bool = False) -> Iterator[Images]:
    """Debian's docker-registry, which has no Referrers API, with its data in ``home``."""
    config, log = home / "config.yml", home / "log"
    config.write_text(_CONFIGURATION.format(home=home, silent=str(not access_log).lower()))
    command = [tool("docker-registry", "docker-registry"), "serve", config]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        end = time.monotonic() + _PATIENCE
        while not (host := re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text())):
            if process.poll() is not None or time.monotonic() > end:
                message = f"docker-registry does not start:\n{log.read_text()}"
                raise RuntimeError(message)
            time.sleep(0.05)
        yield Images(host[1], log)
    finally:
        process.terminate()
        process.wait()
