"""One blob that a manifest lists twice: each entry is what the node gets."""

import gzip
import json

import pytest
from container_images import push_image, tars
from images import CONFIG, TAR
from signed_images import attach_layers, attach_notary, sign, signatures_of, verify

from dmsign_fast.errors import FormatError, VerificationError
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.manifest import make_manifest
from dmsign_fast.pipeline.plan import Reuse

TAR_LAYER = tars(1)[0]
STORED = gzip.compress(TAR_LAYER, mtime=0)
GZIP = f"{TAR}+gzip"
DOCKER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@pytest.fixture
def layout(tmp_path):
    return Layout.create(tmp_path / "layout")


def push_twice(store, second, tag="v1"):
    """An image of the layer and of the same blob by another descriptor."""
    first = Descriptor.of(STORED, GZIP)
    store.push(first, STORED)
    rootfs = {"type": "layers", "diff_ids": [Digest.of(TAR_LAYER)] * 2}
    raw = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()
    config = Descriptor.of(raw, CONFIG)
    store.push(config, raw)
    manifest = make_manifest(config=config, layers=[first, second])
    store.push(manifest.descriptor, manifest.raw)
    store.tag(manifest, tag)
    return manifest


@pytest.mark.parametrize(
    ("media_type", "words"),
    [
        (f"{TAR}+gzip+encrypted", "is encrypted"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "is not supported"),
        (TAR, "is that of a plain layer"),
        ("application/x-whatever", "is not the media type of a layer"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_another_media_type_is_looked_at_too(media_type, words, swapped, layout):
    second = Descriptor(media_type, Digest.of(STORED), len(STORED))
    manifest = push_twice(layout, second)
    if swapped:
        manifest = make_manifest(config=manifest.config, layers=manifest.layers[::-1])
        layout.push(manifest.descriptor, manifest.raw)
        layout.tag(manifest, "v1")
    with pytest.raises(FormatError, match=words):
        sign(layout, "v1")
    assert not layout.referrers(manifest.descriptor)


def test_another_size_is_looked_at_too(layout):
    push_twice(layout, Descriptor(GZIP, Digest.of(STORED), 7))
    with pytest.raises(VerificationError, match="7"):
        sign(layout, "v1")


def test_two_media_types_of_which_the_node_makes_one_device(layout):
    second = Descriptor(DOCKER, Digest.of(STORED), len(STORED), annotations={"a": "b"})
    push_twice(layout, second)
    sign(layout, "v1")
    assert verify(layout, "v1", deep=True).verified


def test_annotations_make_no_other_layer(layout):
    """A layer is read once, whatever else its entries say."""
    push_twice(layout, Descriptor(GZIP, Digest.of(STORED), len(STORED), annotations={"a": "b"}))
    sign(layout, "v1")
    read = []
    assert verify(layout, "v1", deep=True, progress=read.append).verified
    assert sum(read) == len(STORED)


FOREIGN = Descriptor(
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Digest.of(STORED), len(STORED)
)


def test_what_was_signed_is_reused_for_equal_entries_only(layout):
    push_image(layout, "old", [tars(1, seed=2)[0], TAR_LAYER])
    (old,) = sign(layout, "old")
    push_twice(layout, Descriptor(GZIP, Digest.of(STORED), len(STORED)), "new")
    (new,) = sign(layout, "new", reuse=Reuse())
    assert [layer.reused for layer in new.layers] == [old.dm_verity.digest]
    push_twice(layout, FOREIGN)
    with pytest.raises(FormatError, match="is not supported"):
        sign(layout, "v1", reuse=Reuse())


def test_a_deep_look_is_at_each_entry(layout):
    """The artifact as sign made it, when it looked at the first entry alone."""
    push_image(layout, "old", [tars(1, seed=2)[0], TAR_LAYER])
    (old,) = sign(layout, "old")
    manifest = push_twice(layout, FOREIGN)
    attach_layers(layout, manifest.descriptor, signatures_of(old)[1:])
    attach_notary(layout, manifest.descriptor)
    assert verify(layout, "v1").verified
    assert not verify(layout, "v1", deep=True).verified
