"""Registry as a Store, against the strict registry of ours and those of others."""

import json
import subprocess
import sys

import pytest
from helpers import noise, program, run
from images import SIGNATURE, TAR, push_image, push_signature
from real_registries import REAL_REGISTRIES
from registry_server import change, status

from dmsign_fast.errors import (
    FormatError,
    NotFoundError,
    ParameterError,
    RegistryError,
    VerificationError,
)
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.manifest import OCI_MANIFEST, make_manifest


@pytest.fixture(params=["api", "tag schema", *REAL_REGISTRIES])
def registry(request, serve, connect, real_registry):
    if request.param in REAL_REGISTRIES:
        repository = f"test/{request.node.name.partition('[')[0].replace('_', '-')}"
        return connect(real_registry(request.param), repository)
    return connect(serve(referrers=request.param == "api"))


def test_an_image_and_its_referrers(registry):
    image = push_image(registry, "v1")
    assert registry.resolve("v1") == registry.resolve(image.descriptor.digest) == image
    assert registry.fetch_manifest(image.descriptor) == image
    assert Descriptor.of(b"".join(registry.fetch(image.layers[0])), TAR) == image.layers[0]
    assert registry.exists(image.layers[0])
    assert registry.exists(image.descriptor)
    assert not registry.exists(Descriptor.of(b"other", TAR))
    assert registry.referrers(image.descriptor) == []
    signatures = [
        push_signature(registry, image.descriptor),
        push_signature(registry, image.descriptor, artifact_type="application/vnd.other"),
    ]
    registry.attach(signatures)
    assert registry.referrers(image.descriptor) == [one.referrer for one in signatures]
    assert registry.referrers(image.descriptor, SIGNATURE) == [signatures[0].referrer]
    assert registry.referrers(signatures[0].descriptor) == []
    registry.attach(signatures)
    assert len(registry.referrers(image.descriptor)) == 2


def test_a_tag_moves(registry):
    push_image(registry, "v1")
    second = push_image(registry, "v1", seed=2)
    assert registry.resolve("v1") == second


def test_what_is_not_there_is_not_found(registry):
    absent = Digest.of(b"absent")
    for act in (
        lambda: registry.resolve("v2"),
        lambda: registry.resolve(absent),
        lambda: list(registry.fetch(Descriptor(TAR, absent, 6))),
        lambda: registry.fetch_manifest(Descriptor(OCI_MANIFEST, absent, 6)),
    ):
        with pytest.raises(NotFoundError, match=registry.repository):
            act()


def test_content_other_than_its_descriptor_is_not_pushed(registry):
    good = Descriptor.of(b"good", TAR)
    for data in (b"goof", b"goo", b"good!", b""):
        for content in (data, lambda data=data: iter([data[:1], data[1:]])):
            with pytest.raises(VerificationError):
                registry.push(good, content)
    manifest = make_manifest(layers=[]).descriptor
    with pytest.raises(VerificationError):
        registry.push(manifest, b"x" * manifest.size)
    assert not registry.exists(good)


def test_an_empty_blob(registry):
    empty = Descriptor.of(b"", TAR)
    registry.push(empty, b"")
    assert list(registry.fetch(empty)) == []


def test_a_blob_of_another_repository_is_mounted(registry, connect):
    data = noise(100_000, len(str(registry)))
    blob = Descriptor.of(data, TAR)
    registry.push(blob, data)
    other = connect(registry.registry, "other/place")
    assert other.mount(blob, registry.repository)
    assert b"".join(other.fetch(blob)) == data
    assert not other.mount(Descriptor.of(b"absent", TAR), registry.repository)


def test_a_blob_that_is_there_is_not_pushed_again(serve, connect):
    server = serve()
    registry = connect(server)
    blob = Descriptor.of(b"blob", TAR)
    registry.push(blob, b"blob")
    registry.push(blob, b"blob")
    assert len(server.paths("PUT")) == 1


@pytest.mark.parametrize("reference", ["", "a b", "../x", "-x", "a" * 129, "?x=1"])
def test_what_is_no_tag_is_not_sent(serve, connect, reference):
    server = serve()
    registry = connect(server)
    with pytest.raises(ParameterError, match="neither a tag nor a digest"):
        registry.resolve(reference)
    with pytest.raises(ParameterError):
        registry.tag(make_manifest(layers=[]), reference)
    assert server.requests == []


def test_a_registry_that_lies_about_manifests_is_found_out(serve, connect):
    server = serve()
    registry = connect(server)
    image = push_image(registry, "v1")
    for reference in ("v1", image.descriptor.digest):
        server.fail("GET", "/manifests/", change(lambda raw: raw.replace(b"sha256", b"sha265", 1)))
        with pytest.raises(VerificationError, match="another digest"):
            registry.resolve(reference)
    for lie in (lambda raw: raw[:-1], lambda raw: raw + b" ", lambda raw: b"x" * len(raw)):
        server.fail("GET", "/manifests/", change(lie))
        with pytest.raises(VerificationError):
            registry.fetch_manifest(image.descriptor)
    server.fail("GET", "/manifests/", change(lambda raw: raw * (1 + (4 << 20) // len(raw))))
    with pytest.raises(RegistryError, match="more than 4194304 bytes"):
        registry.resolve("v1")


@pytest.mark.parametrize(
    "lie",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
        lambda raw: b"",
    ],
)
def test_a_registry_that_lies_about_blobs_is_found_out(serve, connect, lie):
    server = serve()
    registry = connect(server)
    data = noise(3 << 20)
    blob = Descriptor.of(data, TAR)
    registry.push(blob, data)
    server.fail("GET", "/blobs/", change(lie))
    got = bytearray()
    with pytest.raises(VerificationError, match=str(registry)):
        for piece in registry.fetch(blob):
            got += piece
    assert len(got) < len(data)
    assert b"".join(registry.fetch(blob)) == data


def test_a_digest_that_the_registry_made_up_is_found_out(serve, connect):
    server = serve()
    registry = connect(server)
    manifest = push_image(registry)
    other = {"Docker-Content-Digest": Digest.of(b"other"), "Location": "/"}

    def stores_another(handler):
        handler.drain()
        handler.answer(201, headers=other)

    server.fail("PUT", "/manifests/", stores_another)
    with pytest.raises(VerificationError, match="in the place of"):
        registry.push(manifest.descriptor, manifest.raw)


def test_old_manifests_are_refused_by_name(serve, connect):
    server = serve()
    registry = connect(server)
    raw = json.dumps({"schemaVersion": 1, "signatures": []}).encode()
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    digest = Digest.of(raw)
    repository = server.repository(registry.repository)
    repository.manifests[digest], repository.tags["old"] = (kind, raw), digest
    with pytest.raises(FormatError, match="prettyjws, which is not supported"):
        registry.resolve("old")


@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=utf-8"])
def test_a_type_that_says_nothing_is_that_of_the_manifest(serve, connect, kind):
    server = serve()
    registry = connect(server)
    image = push_image(registry, "v1")
    repository = server.repository(registry.repository)
    repository.manifests[image.descriptor.digest] = (kind, image.raw)
    assert registry.resolve("v1") == image


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_all_pages_of_referrers_are_read(serve, connect, count):
    server = serve(page=3)
    registry = connect(server)
    image = push_image(registry, "v1")
    signatures = [push_signature(registry, image.descriptor, number) for number in range(count)]
    registry.attach(signatures)
    assert registry.referrers(image.descriptor) == [one.referrer for one in signatures]
    assert registry.referrers(image.descriptor, SIGNATURE) == [one.referrer for one in signatures]
    assert registry.referrers(image.descriptor, "a/b") == []
    assert "sha256-" + image.descriptor.digest.encoded not in str(server.paths("PUT"))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_all_pages_of_tags_are_read(serve, connect, count):
    registry = connect(serve(page=3))
    image = push_image(registry)
    tags = [f"v{number}" for number in range(count)]
    for tag in tags:
        registry.tag(image, tag)
    assert registry.references() == tags


@pytest.mark.parametrize("referrers", [True, False])
def test_tags_of_referrers_stand_for_their_subjects(serve, connect, referrers):
    registry = connect(serve(referrers=referrers))
    assert registry.references() == []
    image = push_image(registry, "v1")
    signature = push_signature(registry, image.descriptor)
    registry.attach([signature])
    registry.tag(image, "sha256-00")
    expected = ["sha256-00", *([] if referrers else [image.descriptor.digest]), "v1"]
    assert registry.references() == expected


def test_a_list_of_tags_that_is_none(serve, connect):
    server = serve(page=1)
    registry = connect(server)
    push_image(registry, "v1")
    push_image(registry, "v2")
    server.fail("GET", "/tags/list", lambda handler: handler.answer(200, b"<html>", "text/html"))
    with pytest.raises(FormatError, match="the list of tags"):
        registry.references()
    server.fail("GET", "/tags/list", status(401))
    with pytest.raises(RegistryError):
        registry.references()

    def second_is_missing(handler):
        handler.serve()
        server.fail("GET", "/tags/list", status(404))

    server.fail("GET", "/tags/list", second_is_missing)
    with pytest.raises(RegistryError, match=r"tags of .*: a further page is missing"):
        registry.references()


def test_a_filter_that_the_registry_does_not_know_is_ours(serve, connect):
    server = serve()
    registry = connect(server)
    image = push_image(registry, "v1")
    registry.attach([push_signature(registry, image.descriptor)])

    def ignores_the_filter(handler):
        handler.query.clear()
        handler.serve()

    server.fail("GET", "/referrers/", ignores_the_filter)
    assert registry.referrers(image.descriptor, "a/b") == []


def test_referrers_do_not_go_on_at_another_host(serve, connect):
    server, other = serve(), serve()
    registry = connect(server)
    image = push_image(registry, "v1")

    def points_away(handler):
        body = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
        link = {"Link": f'<{other.url}/v2/x/referrers/y>; rel="next"'}
        handler.answer(200, body, "application/vnd.oci.image.index.v1+json", link)

    server.fail("GET", "/referrers/", points_away)
    with pytest.raises(RegistryError, match="goes on at another host"):
        registry.referrers(image.descriptor)
    assert other.requests == []


def test_a_page_of_a_registry_without_the_api_is_not_taken_for_a_list(serve, connect):
    server = serve()
    registry = connect(server)
    image = push_image(registry, "v1")

    def home_page(handler):
        handler.answer(200, b"<html>", "text/html")

    server.fail("GET", "/referrers/", home_page)
    assert registry.referrers(image.descriptor) == []
    server.fail("GET", "/referrers/", status(418))
    with pytest.raises(RegistryError, match="418"):
        registry.referrers(image.descriptor)


def test_a_tag_of_referrers_that_is_an_image_is_in_the_way(serve, connect):
    registry = connect(serve(referrers=False))
    image = push_image(registry, "v1")
    registry.tag(image, image.descriptor.digest.referrers_tag)
    signature = push_signature(registry, image.descriptor)
    for act in (
        lambda: registry.referrers(image.descriptor),
        lambda: registry.attach([signature]),
    ):
        with pytest.raises(FormatError, match="in the way"):
            act()


def test_a_refusal_is_told_in_the_words_of_the_registry(serve, connect):
    server = serve()
    registry = connect(server)

    def refuses(handler):
        handler.error(403, "DENIED", "quota \x1b[31m exceeded")

    server.fail("GET", "/manifests/v1", refuses)
    with pytest.raises(RegistryError) as caught:
        registry.resolve("v1")
    assert str(caught.value) == (
        f"GET {server.url}/v2/app/web/manifests/v1: 403 Forbidden DENIED quota ?[31m exceeded: "
        f"that needs a login: dmsign-fast login {server.host}"
    )
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("name", REAL_REGISTRIES)
def test_real_programs_read_what_we_push(name, real_registry, connect, tmp_path):
    registry = connect(real_registry(name), "test/real")
    image = push_image(registry, "v1")
    copied = run(
        program("skopeo"),
        "--insecure-policy",
        "copy",
        "--preserve-digests",
        "--src-tls-verify=false",
        f"docker://{registry}:v1",
        f"oci:{tmp_path}/copy:v1",
    )
    assert copied.exit_code == 0, copied.err
    assert image.descriptor.digest in (tmp_path / "copy/index.json").read_text()


MEMORY = """
import hashlib, sys
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.reference import RegistryReference
from dmsign_fast.oci.registry import Registry
piece, count = bytes(range(256)) * 4096, 300
digest = hashlib.sha256()
for _ in range(count):
    digest.update(piece)
blob = Descriptor("a/b", Digest("sha256:" + digest.hexdigest()), count * len(piece))
with Registry(RegistryReference.parse(sys.argv[1])) as registry:
    registry.push(blob, lambda: (piece for _ in range(count)))
    assert registry.exists(blob)
    assert sum(len(piece) for piece in registry.fetch(blob)) == blob.size
# not ru_maxrss, which begins with that of the parent
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_large_blobs_are_never_whole_in_memory(docker_registry):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, f"{docker_registry}/test/memory"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 120 << 10  # KiB, where the blob has 300 MiB


@pytest.mark.parametrize("code", [403, 405])
def test_a_blob_of_which_the_registry_cannot_tell_is_pushed(serve, connect, code):
    server = serve()
    registry = connect(server)
    blob = Descriptor.of(b"data", "a/b")
    server.fail("HEAD", "/blobs/", status(code), times=2)
    assert not registry.exists(blob)
    registry.push(blob, b"data")
    assert registry.exists(blob)
    assert b"".join(registry.fetch(blob)) == b"data"
