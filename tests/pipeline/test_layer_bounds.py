"""Layers that a registry sends without an end."""

import itertools

import pytest
from container_images import GZIP

from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import FormatError, ParameterError, VerificationError
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.store import verified
from dmsign_fast.pipeline import image
from dmsign_fast.pipeline.image import ImageLayer, hash_image_layer
from dmsign_fast.pipeline.layers import Conversion

RECIPE = Recipe.parse("containerd")
GARBAGE = b"\x1f\x8b\x08\0" + b"garbage!" * 8191


class Sender:
    """A store of one layer, which counts what is taken from it."""

    def __init__(self, pieces):
        self.sent = 0
        self._pieces = pieces

    def fetch(self, descriptor, digest=None):
        def count():
            for piece in self._pieces:
                self.sent += len(piece)
                yield piece

        return verified(count(), descriptor, "the sender", digest)


def layer_of(size):
    return ImageLayer(Descriptor(GZIP, Digest("sha256:" + "1" * 64), size), Digest.of(b""))


def test_a_layer_beyond_the_limit_is_not_fetched():
    sender = Sender(itertools.repeat(GARBAGE))
    with pytest.raises(ParameterError, match=r"too many for .* --max-layer-size"):
        hash_image_layer(sender, layer_of(1 << 60), RECIPE, Conversion())
    assert sender.sent == 0


def test_a_malformed_layer_is_read_no_further_than_is_worth_it(monkeypatch):
    monkeypatch.setattr(image, "MAX_READ_TO_EXPLAIN", 4 << 20)
    sender = Sender(itertools.repeat(GARBAGE))
    with pytest.raises(FormatError, match=r"layer sha256:1+: cannot decompress"):
        hash_image_layer(sender, layer_of(1 << 36), RECIPE, Conversion())
    assert 4 << 20 < sender.sent < 12 << 20


def test_a_malformed_layer_that_ends_before_is_said_to_be_another(monkeypatch):
    monkeypatch.setattr(image, "MAX_READ_TO_EXPLAIN", 4 << 20)
    sender = Sender([GARBAGE] * 10)
    with pytest.raises(VerificationError, match="has another digest"):
        hash_image_layer(sender, layer_of(10 * len(GARBAGE)), RECIPE, Conversion())
