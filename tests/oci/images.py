"""Small images and signatures."""

import io
import json
import tarfile

from helpers import noise

from dmsign_fast.oci.descriptor import Descriptor
from dmsign_fast.oci.manifest import EMPTY_CONFIG, EMPTY_JSON, make_manifest

SIGNATURE = "application/vnd.example.signature"
TAR = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"


def layer(size=1000, seed=1) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("file")
        member.size = size
        tar.addfile(member, io.BytesIO(noise(size, seed)))
    return buffer.getvalue()


def push_image(store, tag=None, seed=1, size=1000):
    """An image of one layer, which real programs take."""
    data = layer(size, seed)
    blob = Descriptor.of(data, TAR)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [blob.digest]},
    }
    raw = json.dumps(config).encode()
    described = Descriptor.of(raw, CONFIG)
    store.push(blob, data)
    store.push(described, raw)
    manifest = make_manifest(config=described, layers=[blob])
    store.push(manifest.descriptor, manifest.raw)
    if tag:
        store.tag(manifest, tag)
    return manifest


def push_signature(store, subject, number=0, artifact_type=SIGNATURE):
    """The manifest of an artifact whose blobs are there; not yet attached."""
    data = b"signature %d" % number
    blob = Descriptor.of(data, "application/pkcs7-signature")
    store.push(EMPTY_CONFIG, EMPTY_JSON)
    store.push(blob, data)
    return make_manifest(
        layers=[blob],
        artifact_type=artifact_type,
        subject=subject,
        annotations={"number": str(number)},
    )
