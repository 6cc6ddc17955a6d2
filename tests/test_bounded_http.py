"""An exchange over HTTP ends, whatever the other side does."""

import contextlib
import socket
import threading

import pytest
import requests
from slow_server import DRIPS, slow_server

from dmsign_fast.bounded_http import Budget, fetch, mount_budgets
from dmsign_fast.errors import StorageError


def answering(*lines, body=b""):
    head = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *lines]
    return slow_server(b"\r\n".join(head) + b"\r\n\r\n" + body, b"")


def test_an_answer_comes_as_it_was_sent():
    with answering(b"Content-Encoding: gzip", b"X-Y: z", body=b"no gzip") as host:
        found = fetch(f"http://{host}/a", seconds=20, limit=7)
    assert (found.status, found.headers["x-y"], found.body) == (200, "z", b"no gzip")


@pytest.mark.parametrize("drip", DRIPS)
def test_drips_end(drip):
    with (
        slow_server(*DRIPS[drip]) as host,
        pytest.raises(StorageError, match=r"no answer from http://.*: it took more than 0\.4 s"),
    ):
        fetch(f"http://{host}/", seconds=0.4, limit=1 << 20)


def test_silence_ends():
    with slow_server(b"", b"") as host, pytest.raises(StorageError, match="no answer"):
        fetch(f"http://{host}/", content=b"?", seconds=0.2, limit=10)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_reason_names_no_objects_of_python(scheme):
    with socket.socket() as bound:  # a port on which nobody listens
        bound.bind(("127.0.0.1", 0))
        url = f"{scheme}://127.0.0.1:{bound.getsockname()[1]}/"
        with pytest.raises(StorageError) as refused:
            fetch(url, seconds=20, limit=1)
    why = "Failed to establish a new connection: Connection refused"
    assert str(refused.value) == f"no answer from {url}: {why}"


def test_an_answer_has_a_bound():
    first = b"HTTP/1.1 200 OK\r\n\r\n"
    with (
        slow_server(first, bytes(1 << 16), pause=0) as host,
        pytest.raises(StorageError, match="more than 100000 bytes"),
    ):
        fetch(f"http://{host}/", seconds=20, limit=100_000)


@pytest.mark.parametrize("url", ["ftp://a/", "file:///etc/passwd", "a", "http://", "http://[::1"])
def test_what_is_no_url_of_http(url):
    with pytest.raises(StorageError):
        fetch(url, seconds=1, limit=1)


def redirecting(location):
    return slow_server(
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % location, b""
    )


def test_redirects_are_followed_as_often_as_allowed():
    with answering(body=b"there") as host, redirecting(b"http://%s/" % host.encode()) as front:
        assert fetch(f"http://{front}/", seconds=20, limit=9).status == 302
        assert fetch(f"http://{front}/", seconds=20, limit=9, redirects=1).body == b"there"
        posted = fetch(f"http://{front}/", content=b"x", seconds=20, limit=9, redirects=1)
        assert posted.status == 302


def test_a_redirect_to_another_scheme():
    with (
        redirecting(b"file:///etc/passwd") as host,
        pytest.raises(StorageError, match="not an http or https URL"),
    ):
        fetch(f"http://{host}/", seconds=20, limit=9, redirects=1)


def test_bytes_earn_time_and_our_own_time_is_free():
    budget = Budget(1, least_rate=1000)
    budget.passed(3000)
    assert budget.left == 4
    with slow_server(DRIPS["body"][0], b"x" * 100) as host, requests.Session() as session:
        mount_budgets(session)
        with budget:
            response = session.get(f"http://{host}/", stream=True, timeout=20)
        # outside of the block: the answer keeps its budget
        before = budget.left
        response.raw.read(5000)
        assert budget.left > before
        response.close()


def test_threads_have_budgets_of_their_own():
    ended = []
    with slow_server(*DRIPS["headers"]) as slow, answering(body=b"yes") as quick:

        def wait():
            with contextlib.suppress(StorageError):
                fetch(f"http://{slow}/", seconds=0.5, limit=9)
            ended.append(True)

        other = threading.Thread(target=wait)
        other.start()
        assert fetch(f"http://{quick}/", seconds=20, limit=9).body == b"yes"
        other.join()
    assert ended
