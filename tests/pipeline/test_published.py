"""Metadata and hash areas of others, which the signed root hash must cover."""

import pytest
from container_images import push_image, tars
from pipeline.test_node_check import INDEX, TRUST, layout, problems, sign  # noqa: F401
from signed_images import altered, remove, verify

from dmsign_fast.oci.descriptor import Descriptor
from dmsign_fast.pipeline.forms import Part, form_of

ACL = form_of("acl")
TYPES = {blob.part: blob.media_type for blob in ACL.blobs}


def exchange(store, image, signed, part, change):
    """Put another blob of a part of the first layer into the artifact, which stays signed."""
    artifact = store.fetch_manifest(signed.artifacts["acl"])
    old = next(one for one in artifact.layers if one.media_type == TYPES[part])
    data = bytearray(b"".join(store.fetch(old)))
    data = bytes(change(data))
    new = Descriptor.of(data, old.media_type, annotations=old.annotations)
    store.push(new, data)

    def put(value):
        value["layers"] = [
            new.to_json() if one["digest"] == old.digest else one for one in value["layers"]
        ]

    remove(store, artifact.descriptor)
    store.attach([altered(artifact, put)])


def flipped(at):
    def change(data):
        data[at] ^= 1
        return data

    return change


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        (Part.METADATA, flipped(1030), "the metadata is not what the signed root hash covers"),
        (Part.METADATA, flipped(-1), "the metadata is not what the signed root hash covers"),
        (Part.METADATA, lambda data: data[:-1], "not a whole number of blocks"),
        (Part.METADATA, lambda data: data[:-512], "metadata is cut short"),
        (Part.METADATA, lambda data: data[:1024], "metadata is cut short"),
        (Part.METADATA, lambda data: data + bytes(512), "not what the signed root hash covers"),
        (Part.HASH_FILE, flipped(0), "has no dm-verity signature"),
        (Part.HASH_FILE, flipped(72), "does not lead to the signed root hash"),
        (Part.HASH_FILE, flipped(73), "blocks hashed by SHA-256"),
        (Part.HASH_FILE, flipped(512), "a level of the published hash area"),
        (Part.HASH_FILE, flipped(-480), "does not lead to the signed root hash"),
        (Part.HASH_FILE, flipped(-1), "a level of the published hash area"),
        (Part.HASH_FILE, lambda data: data[:-512], "blocks hashed by SHA-256"),
        (Part.HASH_FILE, lambda data: data[:100], "cut short"),
    ],
)
def test_what_the_root_hash_does_not_cover(part, change, words, layout):  # noqa: F811
    image = push_image(layout, "v1", tars(2))
    signed = sign(layout, forms=("acl",))
    assert problems(layout, "acl") == ()
    assert verify(layout, "v1", trust=TRUST, deep=True).verified
    exchange(layout, image, signed, part, change)
    (problem,) = problems(layout, "acl")
    assert words in problem
    assert image.layers[0].digest in problem
    assert verify(layout, "v1", trust=TRUST).verified  # its signatures hold
    verdict = verify(layout, "v1", trust=TRUST, deep=True)
    assert not verdict.verified
    assert any(words in (one.problem or "") for one in verdict.referrers)


def test_another_uuid_of_the_superblock_is_no_matter(layout):  # noqa: F811
    image = push_image(layout, "v1", tars(1))
    signed = sign(layout, forms=("acl",))
    exchange(layout, image, signed, Part.HASH_FILE, flipped(20))
    assert problems(layout, "acl") == ()
    assert verify(layout, "v1", trust=TRUST, deep=True).verified
