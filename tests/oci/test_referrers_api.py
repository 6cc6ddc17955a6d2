"""Whether a registry has the Referrers API is decided alike when writing and when reading."""

import json
import logging
import time

import pytest
from images import SIGNATURE, push_image, push_signature
from registry_server import INDEX, change, status

from dmsign_fast.errors import RegistryError
from dmsign_fast.oci import pages, referrers

EMPTY = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()


def html(handler):
    handler.answer(200, b"<html>", "text/html")


API = {
    "lists": None,
    "lists nothing": change(lambda _: EMPTY),
    "is a page for people": html,
    **{str(code): status(code) for code in (400, 401, 403, 404, 405, 406, 410, 501)},
}


@pytest.mark.parametrize("promises", [True, False])
@pytest.mark.parametrize("api", API)
def test_what_was_attached_is_found_or_attach_fails(serve, connect, api, promises):
    server = serve()
    server.says_subject = promises
    registry = connect(server, settle=0.01, tries=3)
    image = push_image(registry, "v1")
    if API[api]:
        server.fail("GET", "/referrers/", API[api], times=1000)
    signature = push_signature(registry, image.descriptor, 1)
    if api == "lists nothing" and promises:
        with pytest.raises(RegistryError, match="does not list it as a referrer"):
            registry.attach([signature])
        return
    registry.attach([signature])
    assert registry.referrers(image.descriptor) == [signature.referrer]
    assert registry.referrers(image.descriptor, SIGNATURE) == [signature.referrer]
    indexed = image.descriptor.digest.referrers_tag in server.repository("app/web").tags
    assert indexed is (api != "lists")
    registry.attach([signature, push_signature(registry, image.descriptor, 2)])
    assert len(registry.referrers(image.descriptor)) == 2


def test_why_the_index_is_used_can_be_heard(serve, connect, caplog):
    server = serve(referrers=False)
    registry = connect(server)
    image = push_image(registry, "v1")
    with caplog.at_level(logging.INFO, "dmsign_fast"):
        registry.referrers(image.descriptor)
    assert f"{server.host}/app/web has no Referrers API" in caplog.text


def test_an_index_from_before_the_registry_had_the_api(serve, connect):
    server = serve(referrers=False)
    registry = connect(server)
    image = push_image(registry, "v1")
    signature = push_signature(registry, image.descriptor, 1)
    registry.attach([signature])
    server.has_referrers = True
    server.fail("GET", "/referrers/", change(lambda _: EMPTY))
    assert registry.referrers(image.descriptor) == [signature.referrer]


def test_a_broken_index_beside_the_api_is_reported(serve, connect):
    registry = connect(serve())
    image = push_image(registry, "v1")
    registry.tag(image, image.descriptor.digest.referrers_tag)
    found = registry.referrers(image.descriptor)
    assert found == []
    assert "it is in the way" in found.problems[0]


def test_a_long_list_is_asked_for_by_types(serve, connect):
    server = serve(page=2)
    registry = connect(server)
    image = push_image(registry, "v1")
    registry.attach([push_signature(registry, image.descriptor, number) for number in range(5)])
    server.requests.clear()
    assert registry.referrers(image.descriptor, "a/b") == []
    assert [seen.query for seen in server.requests if "/referrers/" in seen.path] == [
        {},
        {"artifactType": ["a/b"]},
    ]
    assert len(registry.referrers(image.descriptor, "a/b", SIGNATURE)) == 5
    assert len(registry.referrers(image.descriptor)) == 5


def test_a_list_that_is_too_long_at_once_is_asked_for_by_types(serve, connect, monkeypatch):
    registry = connect(serve())
    image = push_image(registry, "v1")
    registry.attach([push_signature(registry, image.descriptor, number) for number in range(5)])
    monkeypatch.setattr(pages, "_PAGE_LIMIT", 1000)
    found = registry.referrers(image.descriptor)
    assert (found, found.cut) == ([], True)
    assert "more than 1000 bytes" in found.problems[0]
    assert registry.referrers(image.descriptor, "a/b") == []


def test_a_list_without_end_is_cut(serve, connect, monkeypatch):
    server = serve()
    registry = connect(server)
    image = push_image(registry, "v1")
    registry.attach([push_signature(registry, image.descriptor, number) for number in range(5)])
    monkeypatch.setattr(referrers, "MOST_REFERRERS", 3)
    found = registry.referrers(image.descriptor)
    assert (len(found), found.cut) == (3, True)
    assert "goes on after 3 entries" in found.problems[0]
    monkeypatch.undo()

    def endless(handler):
        again = f'<{handler.where}?x=1>; rel="next"'
        handler.answer(200, EMPTY, INDEX, {"Link": again})

    server.fail("GET", "/referrers/", endless, times=10_000)
    monkeypatch.setattr(pages, "_LIST_LIMIT", 10 * len(EMPTY))
    server.requests.clear()
    found = registry.referrers(image.descriptor)
    assert found == []
    assert "goes on" in found.problems[0]
    assert len([seen for seen in server.requests if "/referrers/" in seen.path]) == 10


@pytest.mark.parametrize(
    "header", ["<" * 100_000, "<" * 8000, '<a>; rel="next" x' * 400, ";" * 8000]
)
def test_a_link_that_is_none_takes_no_time(header):
    try:
        assert pages.next_page(header, "http://a/b", "x") is None
    except RegistryError as error:
        assert "more than 8192" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "header",
    [
        '</next>; rel="next"',
        "</next>;rel=next",
        '</other>; rel="prev", </next>; title="a"; REL=Next',
        "</next> ; rel = next ; x=y",
    ],
)
def test_links_to_the_next_page(header):
    assert pages.next_page(header, "http://a/b", "x") == "http://a/next"


def test_a_list_of_names_is_never_cut_in_silence(serve, connect, monkeypatch):
    server = serve(page=1)
    registry = connect(server)
    image = push_image(registry, "v1")
    registry.tag(image, "v2")
    assert registry.references() == ["v1", "v2"]
    monkeypatch.setattr(pages, "_LIST_LIMIT", 1)
    with pytest.raises(RegistryError, match=r"list of tags of .* is too long"):
        registry.references()


@pytest.mark.parametrize("api", [True, False])
def test_only_a_registry_without_the_api_is_waited_for(serve, connect, monkeypatch, api):
    """Half a second and more, before the second look at the index; one for several subjects."""
    registry = connect(serve(referrers=api))
    images = [push_image(registry, tag, seed=number) for number, tag in enumerate(("v1", "v2"))]
    signatures = [push_signature(registry, image.descriptor, 1) for image in images]
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    registry.attach(signatures)
    assert len(pauses) == (0 if api else 1)
    assert all(registry.referrers(image.descriptor) for image in images)
