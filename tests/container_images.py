"""Images of several layers, indexes of them, and the homes that they have."""

import gzip
import json
from dataclasses import dataclass, replace
from typing import Any

from images import CONFIG, TAR, layer

from dmsign_fast.oci.descriptor import Descriptor, Digest, Platform
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.manifest import make_index, make_manifest

GZIP = f"{TAR}+gzip"
IN_TOTO = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Home:
    """A store, and what tests want to know of it beside that."""

    store: Any
    server: Any = None  # a RegistryServer, if the store is in one

    @property
    def arguments(self) -> tuple[str, ...]:
        """What names the store on a command line, to which a tag or digest is added."""
        if isinstance(self.store, Layout):
            return ("--oci-layout", str(self.store.path))
        return (str(self.store),)

    @property
    def contents(self):
        """All that is in the store, of a layout or a server of ours."""
        if self.server is None:
            root = self.store.path
            return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        found = self.server.repository(self.store.repository)
        return dict(found.blobs), dict(found.manifests), dict(found.tags)

    def damage(self, descriptor, change) -> None:
        """Put other bytes in the place of a blob, of which ``change`` makes them."""
        if self.server is None:
            path = self.store.path / "blobs" / descriptor.digest.replace(":", "/")
            path.write_bytes(change(path.read_bytes()))
        else:
            blobs = self.server.repository(self.store.repository).blobs
            blobs[descriptor.digest] = change(blobs[descriptor.digest])

    def remove(self, descriptor) -> None:
        if self.server is None:
            (self.store.path / "blobs" / descriptor.digest.replace(":", "/")).unlink()
        else:
            del self.server.repository(self.store.repository).blobs[descriptor.digest]

    def read(self, descriptor) -> bytes:
        return b"".join(self.store.fetch(descriptor))


def tars(count=3, seed=1) -> list[bytes]:
    """Uncompressed layers, all different."""
    return [layer(3000 + 1000 * number, 100 * seed + number) for number in range(count)]


def push_image(store, tag=None, contents=None, *, diff_ids=None, seed=1, **members):
    """An image of these layers, the first as it is and the others compressed.

    ``diff_ids`` take the place of the right ones, ``members`` those of the config.
    """
    contents = tars(seed=seed) if contents is None else contents
    layers = []
    for number, tar in enumerate(contents):
        blob = gzip.compress(tar, mtime=0) if number else tar
        layers.append(Descriptor.of(blob, GZIP if number else TAR))
        store.push(layers[-1], blob)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {
            "type": "layers",
            "diff_ids": diff_ids or [Digest.of(tar) for tar in contents],
        },
    }
    return _push(store, config | members, CONFIG, layers, tag)


def push_attestation(store, subject, tag=None):
    """What buildkit puts into an index beside an image."""
    statement = json.dumps({"subject": [{"digest": subject.digest}]}).encode()
    described = Descriptor.of(statement, IN_TOTO)
    store.push(described, statement)
    config = {
        "architecture": "unknown",
        "os": "unknown",
        "rootfs": {"type": "layers", "diff_ids": [described.digest]},
    }
    return _push(store, config, CONFIG, [described], tag)


def push_artifact(store, tag=None):
    """No image: a chart of Helm."""
    data = b"chart"
    described = Descriptor.of(data, "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    store.push(described, data)
    kind = "application/vnd.cncf.helm.config.v1+json"
    return _push(store, {"name": "chart"}, kind, [described], tag)


def _push(store, config, config_type, layers, tag):
    raw = json.dumps(config).encode()
    described = Descriptor.of(raw, config_type)
    store.push(described, raw)
    manifest = make_manifest(config=described, layers=layers)
    store.push(manifest.descriptor, manifest.raw)
    if tag:
        store.tag(manifest, tag)
    return manifest


def push_index(store, tag, entries):
    """An index of (manifest, ``os/architecture[/variant]`` or None)."""
    index = make_index(
        replace(one.descriptor, platform=platform and Platform(*platform.split("/")))
        for one, platform in entries
    )
    store.push(index.descriptor, index.raw)
    store.tag(index, tag)
    return index
