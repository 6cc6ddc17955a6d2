import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.oci.descriptor import Descriptor, Digest, Platform
from dmsign_fast.strict_json import read_object

HEX = "0123456789abcdef"
GOOD = {
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "digest": f"sha256:{'a' * 64}",
    "size": 7,
}
names = st.sampled_from(["sha256", "sha384", "sha512"])
digests = names.flatmap(
    lambda name: st.text(
        HEX,
        min_size=hashlib.new(name).digest_size * 2,
        max_size=hashlib.new(name).digest_size * 2,
    ).map(lambda text: f"{name}:{text}")
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
platforms = st.fixed_dictionaries(
    {"os": texts.filter(bool), "architecture": texts.filter(bool)},
    optional={
        "variant": texts.filter(bool),
        "os.version": texts.filter(bool),
        "os.features": st.lists(texts, min_size=1, max_size=2),
        "future": texts,
    },
)
descriptors = st.fixed_dictionaries(
    {
        "mediaType": st.sampled_from([GOOD["mediaType"], "a/b", "text/x.y-z+json"]),
        "digest": digests,
        "size": st.integers(0, 2**63 - 1),
    },
    optional={
        "annotations": st.dictionaries(texts, texts, min_size=1, max_size=3),
        "artifactType": st.just("application/vnd.example"),
        "urls": st.lists(texts, min_size=1, max_size=2),
        "platform": platforms,
        "x-future": st.lists(st.integers() | texts),
    },
)


@given(descriptors)
def test_what_is_read_is_what_is_written(value):
    read = Descriptor.from_json(json.loads(json.dumps(value)), "it")
    assert read.to_json() == value
    assert Descriptor.from_json(read.to_json(), "it") == read
    assert hash(read) == hash(Descriptor.from_json(value, "it"))


@pytest.mark.parametrize(
    "change",
    [
        {"digest": None},
        {"digest": "sha256:" + "A" * 64},
        {"digest": "sha256:" + "a" * 63},
        {"digest": "sha256:" + "a" * 63 + "\n"},
        {"digest": "sha512:" + "a" * 64},
        {"digest": "md5:" + "a" * 32},
        {"digest": "sha256:../../" + "a" * 58},
        {"digest": 7},
        {"size": -1},
        {"size": 1 << 63},
        {"size": True},
        {"size": 1.0},
        {"size": "1"},
        {"size": None},
        {"mediaType": ""},
        {"mediaType": "text"},
        {"mediaType": "text/plain; charset=utf-8"},
        {"mediaType": "a/b\nX: y"},
        {"artifactType": 5},
        {"annotations": {"a": 1}},
        {"annotations": ["a"]},
        {"urls": "x"},
        {"urls": [1]},
        {"platform": "linux"},
        {"platform": {"os": 5}},
        {"data": "???"},
        {"data": base64.b64encode(b"8 bytes!").decode()},
        {"data": base64.b64encode(b"7 bytes").decode()},
        {"Digest": "sha256:" + "b" * 64},
        {"\u017fize": 8},
    ],
    ids=str,
)
def test_what_is_wrong_is_refused(change):
    with pytest.raises(FormatError, match=r"^it"):
        Descriptor.from_json(GOOD | change, "it")


def test_null_and_empty_are_nothing_as_in_go():
    empty = {"annotations": None, "artifactType": "", "urls": None, "platform": None, "data": None}
    assert Descriptor.from_json(GOOD | empty, "it") == Descriptor.from_json(GOOD, "it")


def test_data_that_is_the_content_is_kept():
    read = Descriptor.of(b"{}", "a/b").to_json() | {"data": "e30="}
    assert Descriptor.from_json(read, "it").data == b"{}"
    assert Descriptor.from_json(read, "it").to_json() == read


def test_plain_has_neither_annotations_nor_type():
    full = Descriptor.of(b"x", "a/b", annotations={"a": "b"}, artifact_type="c/d")
    assert full.plain() == Descriptor("a/b", full.digest, 1)
    assert full.plain().to_json().keys() == {"mediaType", "digest", "size"}


@given(st.binary(max_size=50), names)
def test_a_digest_is_that_of_hashlib(data, name):
    digest = Digest.of(data, name)
    assert digest == f"{name}:{hashlib.new(name, data).hexdigest()}"
    assert (digest.algorithm, digest.encoded) == tuple(digest.split(":"))
    assert digest.referrers_tag == f"{name}-{digest.encoded[:64]}"


def test_a_platform_reads_as_go_writes_it():
    assert str(Platform("linux", "arm64", "v8")) == "linux/arm64/v8"
    assert str(Platform("linux", "amd64")) == "linux/amd64"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":1} x',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"1" * 5000 + b"}",
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_json_that_others_may_read_in_another_way_is_refused(raw):
    with pytest.raises(FormatError, match=r"^it "):
        read_object(raw, "it")


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_a_format_error(raw):
    try:
        read = read_object(raw, "it")
    except FormatError:
        return
    assert read == json.loads(raw)


def test_surrogates_in_pairs_are_text():
    assert read_object(b'{"a":"\\ud83d\\ude00"}', "it") == {"a": "\U0001f600"}


@pytest.mark.parametrize(
    ("same", "other"),
    [
        (["linux/arm64", "linux/arm64/v8", "linux/aarch64", "Linux/ARM64/8"], "linux/arm64/v9"),
        (["linux/amd64", "linux/x86_64", "linux/x86-64", "linux/amd64/v1"], "linux/amd64/v2"),
        (["linux/arm", "linux/arm/v7", "linux/arm/7", "linux/armhf"], "linux/arm/v6"),
        (["linux/arm/v6", "linux/arm/6", "linux/armel", "linux/armel/v7"], "linux/arm/v5"),
        (["linux/386", "linux/i386", "linux/i386/x"], "linux/amd64"),
        (["darwin/arm64", "macos/arm64"], "linux/arm64"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_platforms_are_those_of_containerd(same, other):
    assert len({Platform.parse(text).normal for text in same}) == 1
    assert Platform.parse(other).normal != Platform.parse(same[0]).normal


@pytest.mark.parametrize("text", ["linux", "", "linux/", "/amd64", "a/b/c/d", "linux//v8"])
def test_what_is_no_platform(text):
    with pytest.raises(ParameterError, match="is not OS/ARCHITECTURE"):
        Platform.parse(text)


def test_a_name_that_is_given_twice_among_many_takes_no_time():
    names = ",".join(f'"{number:x}":0' for number in range(300_000))
    with pytest.raises(FormatError, match="it has the name '493df' more than once"):
        read_object(f'{{{names},"493df":1}}'.encode(), "it")
