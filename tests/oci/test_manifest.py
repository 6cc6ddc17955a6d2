import json

import pytest
from images import SIGNATURE

from dmsign_fast.errors import FormatError
from dmsign_fast.oci.descriptor import Descriptor
from dmsign_fast.oci.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    EMPTY_CONFIG,
    EMPTY_JSON,
    OCI_INDEX,
    OCI_MANIFEST,
    Index,
    Manifest,
    make_index,
    make_manifest,
    parse_manifest,
    type_of_manifest,
)

BLOB = Descriptor.of(b"layer", "application/octet-stream").to_json()
IMAGE = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": BLOB, "layers": [BLOB]}
LIST = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [BLOB]}


def parse(value, media_type=OCI_MANIFEST):
    raw = json.dumps(value).encode()
    return parse_manifest(raw, Descriptor.of(raw, media_type))


def test_an_image_is_read():
    image = parse(IMAGE | {"annotations": {"a": "b"}, "subject": BLOB, "x": 1})
    assert isinstance(image, Manifest)
    assert image.config.to_json() == BLOB
    assert [one.to_json() for one in image.layers] == [BLOB]
    assert image.subject.to_json() == BLOB
    assert image.annotations == {"a": "b"}


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_an_index_is_read(media_type):
    index = parse(LIST | {"mediaType": media_type}, media_type)
    assert isinstance(index, Index)
    assert [one.to_json() for one in index.manifests] == [BLOB]


def test_a_docker_manifest_is_read():
    assert parse(IMAGE | {"mediaType": DOCKER_MANIFEST}, DOCKER_MANIFEST).subject is None


def test_null_lists_of_go_are_empty():
    assert parse(LIST | {"manifests": None}, OCI_INDEX).manifests == ()


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        (IMAGE | {"manifests": [BLOB]}, OCI_MANIFEST),
        (LIST | {"layers": [BLOB]}, OCI_INDEX),
        (LIST | {"config": BLOB}, OCI_INDEX),
        (IMAGE | {"mediaType": OCI_INDEX}, OCI_MANIFEST),
        (IMAGE, DOCKER_MANIFEST),
        (IMAGE | {"schemaVersion": 1}, OCI_MANIFEST),
        ({**IMAGE, "schemaVersion": None}, OCI_MANIFEST),
        ({**IMAGE, "config": None}, OCI_MANIFEST),
        (IMAGE | {"Layers": [BLOB, BLOB]}, OCI_MANIFEST),
        (IMAGE | {"layer\u017f": [BLOB, BLOB]}, OCI_MANIFEST),
        (IMAGE | {"layers": {}}, OCI_MANIFEST),
        (IMAGE | {"layers": [BLOB, {}]}, OCI_MANIFEST),
        (IMAGE | {"artifactType": ["a/b"]}, OCI_MANIFEST),
        (IMAGE | {"subject": {}}, OCI_MANIFEST),
        (IMAGE, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(value, media_type):
    with pytest.raises(FormatError, match="manifest sha256:"):
        parse(value, media_type)


def test_messages_name_the_place():
    bad = IMAGE | {"layers": [BLOB, BLOB | {"size": -1}]}
    with pytest.raises(FormatError, match=r"layers\[1\]: size is not an integer from 0"):
        parse(bad)


def test_the_artifact_type_of_a_referrer_is_that_of_its_config_if_it_has_none():
    legacy = make_manifest(config=Descriptor.of(b"{}", SIGNATURE), layers=[])
    assert legacy.referrer.artifact_type == SIGNATURE
    assert "artifactType" not in json.loads(legacy.raw)
    modern = make_manifest(layers=[], artifact_type=SIGNATURE, annotations={"a": "b"})
    assert modern.referrer.artifact_type == SIGNATURE
    assert modern.referrer.annotations == {"a": "b"}
    assert make_index().referrer.artifact_type is None


def test_the_empty_config_is_that_of_the_specification():
    assert EMPTY_JSON == b"{}"
    assert EMPTY_CONFIG.to_json() == {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
    }


def test_what_we_make_is_compact_and_always_the_same():
    subject = Descriptor.of(b"image", OCI_MANIFEST, annotations={"not": "in a subject"})
    made = [
        make_manifest(
            layers=[EMPTY_CONFIG], artifact_type=SIGNATURE, subject=subject, annotations=some
        )
        for some in ({"b": "\u00fc", "a": "1"}, {"a": "1", "b": "\u00fc"})
    ]
    assert made[0] == made[1]
    empty = '{"mediaType":"application/vnd.oci.empty.v1+json","digest":"' + EMPTY_CONFIG.digest
    empty += '","size":2}'
    assert made[0].raw.decode() == (
        f'{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","artifactType":"{SIGNATURE}",'
        f'"config":{empty},"layers":[{empty}],"subject":{{"mediaType":"{OCI_MANIFEST}",'
        f'"digest":"{subject.digest}","size":5}},"annotations":{{"a":"1","b":"\u00fc"}}}}'
    )
    assert made[0].descriptor == Descriptor.of(made[0].raw, OCI_MANIFEST)


def test_an_index_keeps_what_we_do_not_know():
    odd = {"x-entry": [1]} | BLOB
    index = parse(LIST | {"manifests": [odd], "annotations": {"a": "b"}, "x-own": 1}, OCI_INDEX)
    more = index.with_more([EMPTY_CONFIG])
    assert json.loads(more.raw) == json.loads(index.raw) | {
        "manifests": [odd, EMPTY_CONFIG.to_json()]
    }


def test_a_manifest_larger_than_registries_take_is_not_made():
    with pytest.raises(FormatError, match="more than 4194304"):
        make_manifest(layers=[], annotations={"a": "x" * (4 << 20)})


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        ({"mediaType": DOCKER_LIST}, DOCKER_LIST),
        ({"manifests": []}, OCI_INDEX),
        ({"config": {}}, OCI_MANIFEST),
    ],
)
def test_the_type_is_what_the_manifest_says_or_shows(value, media_type):
    assert type_of_manifest(json.dumps(value).encode()) == media_type
