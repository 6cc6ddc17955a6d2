"""What the wire does to us, and what we never send over it."""

import email.utils
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import noise
from images import TAR, push_image, push_signature
from registry_server import cut_after, hang_up, status

from dmsign_fast.errors import RegistryError
from dmsign_fast.oci.credentials import Credentials
from dmsign_fast.oci.descriptor import Descriptor
from dmsign_fast.oci.retry import retry_after
from dmsign_fast.oci.transport import Connection, Transport

ALICE = Credentials("alice", "secret")
DATA = noise(5 << 20)
BLOB = Descriptor.of(DATA, TAR)


@pytest.mark.parametrize(
    "fault", [status(429), status(500), status(502), status(503), status(504), hang_up]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("HEAD", "/blobs/"), ("POST", "/uploads/"), ("PUT", "/uploads/"), ("PUT", "/manifests/")],
)
def test_trouble_that_passes_is_waited_for(serve, connect, fault, method, path):
    server = serve()
    registry = connect(server)
    server.fail(method, path, fault, times=2)
    image = push_image(registry, "v1")
    assert registry.resolve("v1") == image


@pytest.mark.parametrize("fault", [status(503), hang_up])
def test_trouble_that_stays_is_told(serve, connect, fault):
    server = serve()
    registry = connect(server, tries=3)
    server.fail("GET", "/manifests/", fault, times=99)
    with pytest.raises(RegistryError, match=r"GET http://.*/v2/app/web/manifests/v1: "):
        registry.resolve("v1")
    assert len(server.requests) == 3


def test_what_is_refused_is_not_tried_again(serve, connect):
    server = serve()
    registry = connect(server)
    server.fail("GET", "/manifests/", status(403), times=99)
    with pytest.raises(RegistryError, match="403"):
        registry.resolve("v1")
    assert len(server.requests) == 1


def test_a_registry_that_wants_a_pause_gets_it_or_an_end(serve, connect):
    server = serve()
    registry = connect(server, patience=5)
    image = push_image(registry, "v1")
    server.fail("GET", "/manifests/", status(429, Retry_After="1"))
    begin = time.monotonic()
    assert registry.resolve("v1") == image
    assert time.monotonic() - begin >= 1
    server.requests.clear()
    server.fail("GET", "/manifests/", status(429, Retry_After="86400"))
    with pytest.raises(RegistryError, match="429"):
        registry.resolve("v1")
    assert len(server.requests) == 1


def test_retry_after_is_a_number_or_a_date():
    assert retry_after("7") == 7
    assert retry_after(None) is retry_after("soon") is retry_after("-1") is None
    assert 50 < retry_after(email.utils.formatdate(time.time() + 60, usegmt=True)) <= 60
    assert retry_after(email.utils.formatdate(0, usegmt=True)) == 0


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_goes_on_where_it_was(serve, connect, ranges):
    server = serve(ranges=ranges)
    registry = connect(server)
    registry.push(BLOB, DATA)
    for size in (0, 1_500_000, 2_500_000):
        server.fail("GET", "/blobs/", cut_after(size))
    assert b"".join(registry.fetch(BLOB)) == DATA
    asked = [seen.headers.get("range") for seen in server.requests if seen.method == "GET"]
    assert asked[0] is asked[1] is None
    assert len(asked) == 4
    assert all(one.startswith("bytes=") for one in asked[2:])


def test_a_download_that_goes_on_with_other_bytes_is_found_out(serve, connect):
    server = serve()
    registry = connect(server)
    registry.push(BLOB, DATA)

    def goes_on_elsewhere(handler):
        span = {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}
        handler.answer(206, DATA, "application/octet-stream", span)

    server.fail("GET", "/blobs/", cut_after(2_000_000))
    server.fail("GET", "/blobs/", goes_on_elsewhere)
    with pytest.raises(RegistryError, match="asked from byte"):
        list(registry.fetch(BLOB))


def test_downloads_that_get_on_may_break_any_number_of_times(serve, connect):
    server = serve()
    registry = connect(server, tries=2)
    registry.push(BLOB, DATA)
    server.fail("GET", "/blobs/", cut_after(1_200_000), times=99)
    assert b"".join(registry.fetch(BLOB)) == DATA
    server.faults.clear()
    server.fail("GET", "/blobs/", cut_after(1000), times=99)
    with pytest.raises(RegistryError, match="broke off"):
        list(registry.fetch(BLOB))


def test_uploads_begin_again_with_all_bytes(serve, connect):
    server = serve()
    registry = connect(server)
    began = []

    def content():
        began.append(1)
        return (DATA[at : at + 100_000] for at in range(0, len(DATA), 100_000))

    server.fail("PUT", "/uploads/", hang_up, times=2)
    registry.push(BLOB, content)
    assert len(began) == 3
    assert b"".join(registry.fetch(BLOB)) == DATA


def test_silence_has_an_end(serve, connect):
    server = serve()
    quiet = threading.Event()
    registry = connect(server, tries=2, read_timeout=0.2)

    def is_silent(handler):
        quiet.wait(20)
        hang_up(handler)

    server.fail("GET", "/manifests/", is_silent, times=2)
    try:
        with pytest.raises(RegistryError, match="timed out"):
            registry.resolve("v1")
    finally:
        quiet.set()
    assert len(server.requests) == 2


def test_a_registry_that_does_not_run_is_told_at_once(connect):
    with socket.socket() as bound:  # a port on which nobody listens
        bound.bind(("127.0.0.1", 0))
        registry = connect(f"127.0.0.1:{bound.getsockname()[1]}", tries=99, pause=60, patience=999)
        with pytest.raises(RegistryError, match="does it run") as refused:
            registry.resolve("v1")
    assert "host=" not in str(refused.value)


def test_plain_http_is_for_loopback_only():
    def url(registry, plain_http=None):
        return Transport(registry, Connection(plain_http=plain_http), lambda: None).url

    assert url("localhost:5000") == "http://localhost:5000"
    assert url("127.8.9.1") == "http://127.8.9.1"
    assert url("[::1]:5000") == "http://[::1]:5000"
    assert url("localhost", False) == "https://localhost"
    for host in ("example.com", "localhost.example.com", "127.0.0.1.example.com", "128.0.0.1"):
        assert url(host) == f"https://{host}"
    assert url("example.com", True) == "http://example.com"
    assert url("docker.io") == "https://registry-1.docker.io"


# logins


def test_basic(serve, connect):
    server = serve(login="basic")
    with pytest.raises(RegistryError, match=f"dmsign-fast login {server.host}"):
        connect(server).resolve("v1")
    with pytest.raises(RegistryError, match=r"401.*log in"):
        connect(server, credentials=Credentials("alice", "wrong")).resolve("v1")
    registry = connect(server, credentials=ALICE)
    image = push_image(registry, "v1")
    assert registry.resolve("v1") == image
    assert [seen.status[0] for seen in server.requests].count(401) == 4


def test_the_login_of_docker_is_found(serve, connect, tmp_path, monkeypatch):
    server = serve(login="basic")
    path = tmp_path / "auth.json"
    path.write_text(f'{{"auths":{{"{server.host}":{{"username":"alice","password":"secret"}}}}}}')
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    push_image(connect(server), "v1")


@pytest.mark.parametrize(
    "credentials", [None, ALICE, Credentials(identity_token="refresh-1")], ids=str
)
def test_tokens(serve, connect, credentials):
    server = serve(login="token")
    registry = connect(server, credentials=credentials)
    image = push_image(registry, "v1")
    registry.attach([push_signature(registry, image.descriptor)])
    assert len(registry.referrers(image.descriptor)) == 1
    assert len(server.tokens) == 2  # one to pull, one to push
    assert {tuple(scopes) for scopes, _ in server.tokens.values()} == {
        ("repository:app/web:pull",),
        ("repository:app/web:pull,push",),
    }


def test_a_mount_asks_for_both_repositories(serve, connect):
    server = serve(login="token")
    registry, other = connect(server), connect(server, "other")
    registry.push(BLOB, DATA)
    server.tokens.clear()
    assert other.mount(BLOB, "app/web")
    scopes = [sorted(scopes) for scopes, _ in server.tokens.values()]
    assert ["repository:app/web:pull", "repository:other:pull,push"] in scopes


def test_tokens_that_expire_are_renewed(serve, connect):
    server = serve(login="token")
    server.token_uses = 2
    registry = connect(server, credentials=ALICE)
    image = push_image(registry, "v1", size=3 << 20)
    assert registry.resolve("v1") == image
    server.token_uses = 1
    server.fail("GET", "/blobs/", cut_after(2_000_000))
    assert Descriptor.of(b"".join(registry.fetch(image.layers[0])), TAR) == image.layers[0]


def test_a_token_that_never_works_is_told(serve, connect):
    server = serve(login="token")
    server.token_uses = 0
    with pytest.raises(RegistryError, match="401 Unauthorized UNAUTHORIZED who are you"):
        connect(server).resolve("v1")
    assert len(server.requests) == 3


def test_a_token_without_the_right_to_push_is_told(serve, connect):
    server = serve(login="token")
    server.denied = ("push",)
    with pytest.raises(RegistryError, match=r"401.*log in"):
        push_image(connect(server), "v1")


def test_a_wrong_password_for_a_token_is_told(serve, connect):
    server = serve(login="token")
    with pytest.raises(RegistryError, match=r"GET http://.*/token: 401"):
        connect(server, credentials=Credentials("alice", "wrong")).resolve("v1")


def test_trouble_of_the_server_of_tokens_is_waited_for(serve, connect):
    server = serve(login="token")
    server.fail("GET", "/token", status(503), times=2)
    push_image(connect(server, credentials=ALICE), "v1")


def test_passwords_do_not_go_to_a_plain_realm_elsewhere(serve, connect):
    server = serve(login="token")
    server.realm = "http://192.0.2.1/token"  # nobody is there: TEST-NET-1
    with pytest.raises(RegistryError, match=r"to be sent to 192\.0\.2\.1 over plain HTTP"):
        connect(server, credentials=ALICE).resolve("v1")
    with pytest.raises(RegistryError, match="which is not HTTPS"):
        connect(server).resolve("v1")


# what is elsewhere


@pytest.mark.parametrize("login", ["basic", "token"])
def test_no_authorization_goes_to_another_host(serve, connect, login):
    server, storage = serve(login=login), serve("127.0.0.2")
    registry = connect(server, credentials=ALICE)
    storage.repositories = server.repositories
    server.blobs_at = storage.url
    registry.push(BLOB, DATA)
    assert b"".join(registry.fetch(BLOB)) == DATA
    assert [seen.method for seen in storage.requests] == ["GET"]
    assert storage.requests[0].authorization is None
    storage.fail("GET", "/blobs/", cut_after(2_000_000))
    assert b"".join(registry.fetch(BLOB)) == DATA
    server.uploads_at, storage.uploads = storage.url, server.uploads
    registry.push(Descriptor.of(b"small", TAR), b"small")
    assert storage.paths("PUT")
    assert {seen.authorization for seen in storage.requests} == {None}


def test_another_port_is_another_host(serve, connect):
    server, storage = serve(login="basic"), serve()
    storage.repositories = server.repositories
    server.blobs_at = storage.url
    registry = connect(server, credentials=ALICE)
    registry.push(BLOB, DATA)
    assert b"".join(registry.fetch(BLOB)) == DATA
    assert storage.requests[0].authorization is None


def test_a_login_that_another_host_wants_is_not_given(serve, connect):
    server, storage = serve(login="basic"), serve(login="basic")
    storage.repositories = server.repositories
    server.blobs_at = storage.url
    registry = connect(server, credentials=ALICE)
    registry.push(BLOB, DATA)
    advice = f"use {storage.host} itself instead of {server.host}"
    with pytest.raises(RegistryError, match=advice) as caught:
        list(registry.fetch(BLOB))
    assert "hidden" not in str(caught.value)
    assert [seen.authorization for seen in storage.requests] == [None]


def test_a_token_that_another_host_gives_to_anybody(serve, connect):
    server, storage = serve(login="basic"), serve(login="token")
    storage.users = {}
    storage.repositories = server.repositories
    server.blobs_at = storage.url
    registry = connect(server, credentials=ALICE)
    registry.push(BLOB, DATA)
    for _ in range(2):
        assert b"".join(registry.fetch(BLOB)) == DATA
    sent = [seen.authorization for seen in storage.requests]
    assert not any(one and one.startswith("Basic") for one in sent)
    assert storage.paths("GET").count("/token") == 1


def test_a_login_of_netrc_is_not_sent(serve, connect, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login alice password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server, storage = serve(), serve("127.0.0.2")
    storage.repositories = server.repositories
    server.blobs_at = storage.url
    registry = connect(server)
    registry._transport._loopback = False  # requests looks at the environment, as for any other
    registry.push(BLOB, DATA)
    assert b"".join(registry.fetch(BLOB)) == DATA
    requests = server.requests + storage.requests
    assert {seen.authorization for seen in requests} == {None}


def test_redirects_have_an_end_and_stay_with_http(serve, connect):
    server = serve()
    registry = connect(server)
    registry.push(BLOB, DATA)
    server.blobs_at = server.url
    with pytest.raises(RegistryError, match="more than 5 redirects"):
        list(registry.fetch(BLOB))
    server.blobs_at = "http://example.com"
    with pytest.raises(RegistryError, match="not HTTPS"):
        list(registry.fetch(BLOB))
    for place in (
        *("ftp://127.0.0.1", "file:///etc/passwd?", "http://[::1", "http://127.0.0.1:port"),
        *("//a:99999", "http://127.0.0.1%00.a", "http://127.0.0.1\\@a", "http://u:p@127.0.0.1"),
        *("http://127.0.0.1\x7f", "http://127.0.0.1 ", "http://a@b@c"),
    ):
        server.blobs_at = place
        with pytest.raises(RegistryError, match="no URL") as refused:
            list(registry.fetch(BLOB))
        assert "hidden" not in str(refused.value)
    server.fail("PUT", "/manifests/", status(307, Location=f"{server.url}/elsewhere"))
    with pytest.raises(RegistryError, match="will not be sent to"):
        push_image(registry, "v1")


def test_threads_share_tokens_and_not_connections(serve, connect):
    server = serve(login="token")
    registry = connect(server, credentials=ALICE)
    registry.push(BLOB, DATA)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: b"".join(registry.fetch(BLOB)) == DATA, range(24)))
    assert got == [True] * 24
    assert len(server.tokens) == 2


def test_a_text_is_shown_and_a_login_advised_where_the_login_may_have_expired(serve, connect):
    server = serve(login="basic")
    registry = connect(server, credentials=ALICE)
    push_image(registry, "v1")

    def expired(handler):
        handler.answer(400, b"Your Authorization Token\x1b has expired.", "text/plain")

    server.fail("GET", "/manifests/", expired)
    with pytest.raises(RegistryError) as caught:
        registry.resolve("v1")
    assert "400 Bad Request Your Authorization Token? has expired.: if" in str(caught.value)
    assert "log in again" in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b'{"errors":{"a":1}}', b'{"errors":[5]}', b'{"errors":5}', b"\xff"]
)
def test_any_body_of_a_refusal(serve, connect, body):
    server = serve()
    registry = connect(server)
    server.fail("GET", "/manifests/", lambda handler: handler.answer(418, body))
    with pytest.raises(RegistryError, match="418"):
        registry.resolve("v1")


def test_a_download_that_begins_anew_each_time_ends(serve, connect):
    server = serve(ranges=False)
    registry = connect(server, tries=3)
    data = bytes(range(256)) * (8 << 12)
    blob = Descriptor.of(data, "a/b")
    registry.push(blob, data)
    sizes = iter(range(3 << 19, len(data), 3 << 19))

    def cut(handler):
        cut_after(next(sizes))(handler)

    server.fail("GET", "/blobs/", cut, times=5)
    with pytest.raises(RegistryError, match="broke off"):
        list(registry.fetch(blob))
    assert len(server.paths("GET")) < 8
