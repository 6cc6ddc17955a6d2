"""An entry of a list that cannot be read is reported, passed over, and kept; it harms no other."""

import json

import pytest
from images import SIGNATURE, push_image, push_signature
from registry_server import INDEX, TYPES, change, sha256, status

from dmsign_fast.errors import AttachError, FormatError, NotFoundError
from dmsign_fast.oci.descriptor import Descriptor
from dmsign_fast.oci.layout import REF_NAME, Layout
from dmsign_fast.oci.manifest import OCI_MANIFEST, make_index

GOOD = {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 3}
# what nobody can fetch, and why
UNREADABLE = {
    "no object": 5,
    "null": None,
    "no digest": {"mediaType": "a/b", "size": 3},
    "unknown algorithm": GOOD | {"digest": "blake3:" + "0" * 64},
    "short digest": GOOD | {"digest": "sha256:00"},
    "type without a slash": GOOD | {"mediaType": "scan"},
    "type with a parameter": GOOD | {"mediaType": "application/spdx+json; version=2.3"},
    "negative size": GOOD | {"size": -1},
    "size with a fraction": GOOD | {"size": 1.5},
    "huge size": GOOD | {"size": 10**400},
    "number as an annotation": GOOD | {"annotations": {"n": 5}},
    "null as an annotation": GOOD | {"annotations": {"n": None}},
    "number as an artifact type": GOOD | {"artifactType": 5},
    "number as a platform": GOOD | {"platform": {"os": 5}},
    "other data": GOOD | {"data": "AAAA"},
    "wrong case": GOOD | {"Digest": GOOD["digest"]},
    "half of a pair": GOOD | {"annotations": {"n": "\ud800"}},
    "infinite": GOOD | {"x": float("inf")},
    "deep": GOOD | {"x": json.loads("[" * 70 + "]" * 70)},
}
NOT_KEPT = [
    UNREADABLE[name] for name in ("null", "huge size", "half of a pair", "infinite", "deep")
]
# odd, and no hindrance to fetch it
ODD = {
    "artifact type without a slash": GOOD | {"artifactType": "vuln-scan"},
    "artifact type with a parameter": GOOD | {"artifactType": "application/a; b=c"},
    "empty platform": GOOD | {"platform": {}},
    "platform of empty names": GOOD | {"platform": {"architecture": "", "os": ""}},
    "platform without an os": GOOD | {"platform": {"architecture": "amd64"}},
}
each = pytest.mark.parametrize("entry", UNREADABLE.values(), ids=UNREADABLE)


def with_entry(entry):
    """Changes an index so that an entry, and the same with a name twice, stand before others."""

    def function(body):
        value = json.loads(body)
        value["manifests"][:0] = [entry, "TWICE"]
        return json.dumps(value).replace('"TWICE"', '{"a": 1, "size": 3, "a": 2}').encode()

    return function


@each
def test_in_a_layout(layout_path, entry):
    layout = Layout.create(layout_path)
    image = push_image(layout, "v1")
    layout.attach([push_signature(layout, image.descriptor, 1)])
    index = layout_path / "index.json"
    index.write_bytes(with_entry(entry)(index.read_bytes()))
    assert layout.resolve("v1") == image
    assert layout.resolve(image.descriptor.digest) == image
    assert len(layout.referrers(image.descriptor).problems) == 2
    layout.attach([push_signature(layout, image.descriptor, 2)])
    found = layout.referrers(image.descriptor)
    assert [one.annotations["number"] for one in found] == ["1", "2"]
    assert len(found.problems) == (entry not in NOT_KEPT)
    layout.tag(image, "v2")
    assert (entry in json.loads(index.read_text())["manifests"]) is (entry not in NOT_KEPT)


@each
@pytest.mark.parametrize("api", [True, False])
def test_in_the_list_of_a_registry(serve, connect, api, entry):
    server = serve(referrers=api)
    registry = connect(server)
    image = push_image(registry, "v1")
    registry.attach([push_signature(registry, image.descriptor, 1)])
    tag = image.descriptor.digest.referrers_tag
    repository = server.repository("app/web")
    if api:
        server.fail("GET", "/referrers/", change(with_entry(entry)), times=99)
    else:
        body = with_entry(entry)(repository.manifests[repository.tags[tag]][1])
        repository.tags[tag] = sha256(body)
        repository.manifests[sha256(body)] = (INDEX, body)
    for wanted in ((), (SIGNATURE,)):
        found = registry.referrers(image.descriptor, *wanted)
        assert [one.annotations["number"] for one in found] == ["1"]
        assert len(found.problems) == 2
    registry.attach([push_signature(registry, image.descriptor, 2)])
    assert len(registry.referrers(image.descriptor)) == 2
    if not api:
        kept = json.loads(repository.manifests[repository.tags[tag]][1])["manifests"]
        assert (entry in kept) is (entry not in NOT_KEPT)


@pytest.mark.parametrize("entry", ODD.values(), ids=ODD)
def test_what_is_only_odd_is_listed(layout_path, entry):
    layout = Layout.create(layout_path)
    raw = make_index().with_more([]).raw
    index = json.loads(raw) | {"manifests": [entry]}
    (layout_path / "index.json").write_text(json.dumps(index))
    image = push_image(layout, "v1")
    assert layout.resolve("v1") == image
    assert layout.referrers(image.descriptor).problems == ()


def test_what_a_manifest_calls_itself_harms_nobody(layout_path):
    layout = Layout.create(layout_path)
    image = push_image(layout, "v1")
    subject = image.descriptor.plain().to_json()
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2}
    empty["digest"] = sha256(b"{}")
    for artifact in (
        {"artifactType": "vuln-scan", "config": empty},
        {"config": empty | {"mediaType": "foo"}},
        {"artifactType": "a/b", "config": empty, "annotations": {"n": 5}},
    ):
        value = {"schemaVersion": 2, "layers": [], "subject": subject} | artifact
        raw = json.dumps(value).encode()
        described = Descriptor.of(raw, OCI_MANIFEST)
        layout.push(described, raw)
        index = json.loads((layout_path / "index.json").read_text())
        index["manifests"].append(described.to_json())
        (layout_path / "index.json").write_text(json.dumps(index))
    layout.attach([push_signature(layout, image.descriptor, 1)])
    found = layout.referrers(image.descriptor)
    assert [one.artifact_type for one in found] == ["vuln-scan", SIGNATURE]
    assert len(found.problems) == 2


def test_an_entry_of_another_size_hides_no_good_one(layout_path):
    layout = Layout.create(layout_path)
    image = push_image(layout, "v1")
    signature = push_signature(layout, image.descriptor, 1)
    layout.attach([signature])
    path = layout_path / "index.json"
    index = json.loads(path.read_text())
    bad = [one | {"size": 1} for one in index["manifests"]]
    bad[0] = {name: value for name, value in bad[0].items() if name != "annotations"}
    for manifests in (bad + index["manifests"], index["manifests"] + bad):
        path.write_text(json.dumps(index | {"manifests": manifests}))
        assert signature.referrer in layout.referrers(image.descriptor)
        assert layout.resolve(image.descriptor.digest) == image
        assert layout.resolve("v1") == image


def test_a_manifest_that_is_listed_often_is_read_once(layout_path, monkeypatch):
    layout = Layout.create(layout_path)
    image = push_image(layout, "v1")
    signature = push_signature(layout, image.descriptor, 1)
    layout.attach([signature])
    path = layout_path / "index.json"
    index = json.loads(path.read_text())
    more = [index["manifests"][1] | {"annotations": {"n": str(number)}} for number in range(50)]
    path.write_text(json.dumps(index | {"manifests": index["manifests"] + more}))
    reads = []
    fetch = Layout.fetch_manifest

    def counted(self, descriptor):
        reads.append(descriptor.digest)
        return fetch(self, descriptor)

    monkeypatch.setattr(Layout, "fetch_manifest", counted)
    assert layout.referrers(image.descriptor) == [signature.referrer]
    assert len(reads) == 3
    layout.referrers(image.descriptor)
    assert len(reads) == 4  # only what refers to it


@pytest.mark.parametrize(
    "body", [b'{"tags":["v1",null,"",5,{"a":1,"a":2},"\\ud800"]}', b'{"tags":null}', b"{}"]
)
def test_tags_that_are_none(serve, connect, body):
    server = serve()
    registry = connect(server)
    push_image(registry, "v1")
    server.fail("GET", "/tags/list", change(lambda _: body))
    assert registry.references() == (["v1"] if b"v1" in body else [])


def test_a_layout_says_which_tags_it_has(layout_path):
    layout = Layout.create(layout_path)
    with pytest.raises(NotFoundError, match="none of its manifests has one"):
        layout.resolve("v1")
    for number in range(12):
        push_image(layout, f"v{number}")
    with pytest.raises(NotFoundError, match=r"'v0', 'v1', .* and 2 more"):
        layout.resolve("w")
    with pytest.raises(FormatError, match="not a digest"):
        layout.resolve("sha256:0")


def test_many_images_settle_once(serve, connect, monkeypatch):
    naps = []
    server = serve(referrers=False)
    registry = connect(server, settle=0.05)
    images = [push_image(registry, f"v{number}", seed=number) for number in range(5)]
    signatures = [push_signature(registry, one.descriptor, 1) for one in images]
    monkeypatch.setattr("dmsign_fast.oci.tag_schema.time.sleep", naps.append)
    registry.attach(signatures)
    assert len(naps) == 1
    for image, signature in zip(images, signatures, strict=True):
        assert registry.referrers(image.descriptor) == [signature.referrer]


def test_one_image_that_cannot_be_attached_to_harms_no_other(serve, connect):
    server = serve(referrers=False)
    registry = connect(server)
    images = [push_image(registry, f"v{number}", seed=number) for number in range(3)]
    signatures = [push_signature(registry, one.descriptor, 1) for one in images]
    registry.tag(images[1], images[1].descriptor.digest.referrers_tag)  # in the way
    server.fail("PUT", signatures[2].descriptor.digest, status(418))
    with pytest.raises(AttachError, match="2 of 3 manifests") as failed:
        registry.attach(signatures)
    assert set(failed.value.failed) == {one.descriptor.digest for one in images[1:]}
    assert registry.referrers(images[0].descriptor) == [signatures[0].referrer]


def test_layouts_attach_to_many_in_one_update(layout_path):
    layout = Layout.create(layout_path)
    images = [push_image(layout, f"v{number}", seed=number) for number in range(3)]
    layout.attach([push_signature(layout, one.descriptor, 1) for one in images])
    for image in images:
        assert len(layout.referrers(image.descriptor)) == 1
    index = json.loads((layout_path / "index.json").read_text())["manifests"]
    assert sum(REF_NAME in one.get("annotations", {}) for one in index) == 3
    assert all(one["mediaType"] in TYPES for one in index)


def test_a_tag_that_is_a_whole_name(layout_path):
    layout = Layout.create(layout_path)
    image, other = push_image(layout, "docker.io/library/app:1.0"), push_image(layout, seed=2)
    assert layout.resolve("docker.io/library/app:1.0") == image
    # a name that is a digest stands for nothing but that
    layout.tag(image, other.descriptor.digest)
    assert layout.resolve(other.descriptor.digest) == other
