"""Every operation ends, however slowly a registry answers; one that gets on may go on."""

import time

import pytest
from images import push_image
from registry_server import status
from slow_server import DRIPS, slow_server

from dmsign_fast.errors import RegistryError
from dmsign_fast.oci import transport
from dmsign_fast.oci.descriptor import Descriptor

BLOB = Descriptor.of(b" " * 100_000, "a/b")


@pytest.mark.parametrize("drip", DRIPS)
def test_an_answer_that_drips_ends(connect, drip):
    with slow_server(*DRIPS[drip]) as host:
        registry = connect(host, deadline=0.4, tries=3)
        with pytest.raises(RegistryError, match=r"took more than 0\.4 s in all"):
            registry.resolve("v1")


def test_a_blob_that_drips_ends(connect):
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    with slow_server(first, b" ") as host:
        registry = connect(host, deadline=0.4)
        with pytest.raises(RegistryError, match=r"took more than .* in all"):
            list(registry.fetch(BLOB))


def test_a_blob_that_gets_on_may_take_longer(connect, monkeypatch):
    monkeypatch.setattr(transport, "_LEAST_RATE", 10_000)
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    with slow_server(first, b" " * 5000, pause=0.05) as host:
        registry = connect(host, deadline=0.3)
        began = time.monotonic()
        assert b"".join(registry.fetch(BLOB)) == b" " * 100_000
        assert time.monotonic() - began > 0.3


def test_the_time_of_who_takes_the_pieces_does_not_count(serve, connect):
    registry = connect(serve(), deadline=5)
    data = bytes(5 << 20)
    blob = Descriptor.of(data, "a/b")
    registry.push(blob, data)
    budgets = []
    budget = registry._transport.budget
    registry._transport.budget = lambda: budgets.append(budget()) or budgets[-1]
    for _ in registry.fetch(blob):
        time.sleep(0.05)
    assert budgets[0].left > budgets[0].seconds


def test_an_upload_that_nobody_takes_ends(connect):
    with slow_server(b"", b"") as host:
        registry = connect(host, deadline=0.4, tries=2)
        with pytest.raises(RegistryError, match=r"in all|timed out"):
            registry.push(BLOB, b" " * 100_000)


def test_all_pages_of_a_list_share_the_time(serve, connect):
    server = serve()
    registry = connect(server, deadline=1)
    push_image(registry, "v1")

    def slow(handler):
        time.sleep(0.3)
        handler.answer(200, b'{"tags":[]}', headers={"Link": f'<{handler.where}?n=1>; rel="next"'})

    server.fail("GET", "/tags/list", slow, times=100)
    with pytest.raises(RegistryError, match="in all"):
        registry.references()
    assert len(server.paths("GET")) < 10


@pytest.mark.parametrize(
    "value", ["Mon, 01 Jan 2024 00:00:00 +99999999999999999", "\xb2", "1" * 5000, "x", "", "-1"]
)
def test_any_retry_after(serve, connect, value):
    server = serve()
    registry = connect(server, tries=2)
    image = push_image(registry, "v1")
    server.fail("GET", "/manifests/", status(503, Retry_After=value))
    try:
        assert registry.resolve("v1") == image
    except RegistryError as error:
        assert "503" in str(error)  # noqa: PT017  it asked for too much patience


def test_the_default_is_three_silences(connect):
    registry = connect("127.0.0.1:1", read_timeout=7)
    assert registry._transport.budget().seconds == 21
