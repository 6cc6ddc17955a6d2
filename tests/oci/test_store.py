import itertools

import pytest
from helpers import noise
from hypothesis import given
from hypothesis import strategies as st

from dmsign_fast.errors import FormatError, VerificationError
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.manifest import OCI_MANIFEST
from dmsign_fast.oci.store import read_manifest, verified


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[first:last] for first, last in itertools.pairwise(edges)]


@given(st.binary(max_size=60), st.lists(st.integers(0, 60)))
def test_good_content_passes_in_any_pieces(data, places):
    described = Descriptor.of(data, "a/b")
    assert b"".join(verified(cut(data, places), described, "it")) == data


@given(
    st.binary(max_size=60),
    st.lists(st.integers(0, 60)),
    st.sampled_from(["flip", "cut", "add", "swap"]),
)
def test_bad_content_never_passes_whole(data, places, how):
    described = Descriptor.of(data, "a/b")
    bad = {
        "flip": bytes([data[0] ^ 1]) + data[1:] if data else b"x",
        "cut": data[:-1] if data else b"x",
        "add": data + b"\0",
        "swap": noise(len(data) + (not data)),
    }[how]
    got = []
    with pytest.raises(VerificationError, match=f"{described.digest} from it"):
        got.extend(verified(cut(bad, places), described, "it"))
    assert len(b"".join(got)) < max(1, len(data))


def test_content_that_ends_early_is_told():
    with pytest.raises(VerificationError, match="has 3 bytes instead of 4"):
        list(verified([b"dat"], Descriptor.of(b"data", "a/b"), "it"))


def test_nothing_is_read_after_the_first_byte_too_many():
    def endless():
        while True:
            yield bytes(1000)

    with pytest.raises(VerificationError, match="longer than its 5000 bytes"):
        list(verified(endless(), Descriptor("a/b", Digest.of(bytes(5000)), 5000), "it"))


@pytest.mark.parametrize("name", ["sha384", "sha512"])
def test_other_digests_are_checked_too(name):
    good = Descriptor("a/b", Digest.of(b"data", name), 4)
    assert list(verified([b"data"], good, "it")) == [b"data"]
    with pytest.raises(VerificationError, match="has another digest"):
        list(verified([b"date"], good, "it"))


def test_a_manifest_of_any_size_is_not_read():
    with pytest.raises(FormatError, match="more than 4194304"):
        read_manifest(iter(()), Descriptor(OCI_MANIFEST, Digest.of(b""), (4 << 20) + 1), "it")
