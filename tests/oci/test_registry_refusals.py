"""What people read where a registry is not reached or refuses, and what they can do about it."""

import ipaddress

import pki
import pytest
import real_registries
from cryptography import x509
from helpers import cli, write

# alice, secret; bcrypt of 16 rounds
_USERS = "alice:$2y$04$GPeNfFLTuKtcNAIVzUPLduMN9EqxLDIgEIvb9VV2PJVTIGnGpfFUe\n"


def tls(home, **options):
    """Where a docker-registry speaks TLS, with a certificate for 127.0.0.1."""
    root = pki.make_root("TLS")
    name = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    files = pki.make_leaf(root, "server", extensions=((name, False),), **options).write(home)
    return files, f", tls: {{certificate: {files.chain}, key: {files.key}}}"


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    home = tmp_path_factory.mktemp("secure")
    files, http = tls(home / "tls")
    with real_registries.docker_registry(home, http=http) as host:
        yield host, files


def said(*arguments, exit_code=6):
    done = cli("inspect", *arguments)
    assert done.exit_code == exit_code, done
    for never in ("_ssl", "[SSL", "Errno", "HTTPSConnection", "Max retries", "0x"):
        assert never not in done.err
    return done.err


def test_plain_http_is_named_where_a_registry_does_not_speak_tls(docker_registry):
    assert "it does not speak TLS: give --plain-http" in said(f"{docker_registry}/app:v1", "--tls")


def test_tls_is_named_where_a_registry_speaks_it(secure):
    host, _ = secure
    assert "it speaks TLS; give --tls, or --ca-file FILE" in said(f"{host}/app:v1")


def test_a_ca_of_its_own(secure):
    host, files = secure
    line = said(f"{host}/app:v1", "--tls")
    assert "its certificate is not trusted" in line
    assert f"--ca-file FILE, or put it into /etc/docker/certs.d/{host}/ca.crt" in line
    assert "there is no v1" in said(f"{host}/app:v1", "--ca-file", files.root, exit_code=4)


def test_another_name(serve, tmp_path):
    files, _ = tls(tmp_path)
    host = serve("127.0.0.2", tls=(files.chain, files.key)).host
    line = said(f"{host}/app:v1", "--ca-file", files.root)
    assert "its certificate is for another name: use a name that it has" in line


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [(-9, -2, "its certificate has expired"), (2, 9, "its certificate is not valid yet")],
)
def test_another_time(start, end, words, serve, tmp_path):
    files, _ = tls(tmp_path, start=pki.NOW + start * pki.DAY, end=pki.NOW + end * pki.DAY)
    host = serve(tls=(files.chain, files.key)).host
    assert words in said(f"{host}/app:v1", "--ca-file", files.root)


def test_a_certificate_of_the_client_is_wanted(tmp_path):
    files, _ = tls(tmp_path / "tls")
    http = f", tls: {{certificate: {files.chain}, key: {files.key}, clientcas: [{files.root}]}}"
    with real_registries.docker_registry(tmp_path, http=http) as host:
        assert "give --client-cert" in said(f"{host}/app:v1", "--ca-file", files.root)


def test_nobody_listens():
    assert "Connection refused: is the registry's address right" in said("127.0.0.1:1/app:v1")


@pytest.mark.parametrize("login", ["basic", "token"])
def test_a_login_is_wanted_or_wrong(login, serve, monkeypatch):
    server = serve(login=login)
    if login == "basic":  # tokens are given to anybody, for what anybody may do
        assert f"dmsign-fast login {server.host}" in said(f"{server.host}/app:v1")
    monkeypatch.setenv("NOTATION_PASSWORD", "Wrong 42")
    line = said(f"{server.host}/app:v1", "--username", "alice")
    assert "incorrect user name or password" in line
    assert f"dmsign-fast login {server.host}" in line
    assert "Wrong 42" not in line


def test_a_login_to_the_real_registry(tmp_path, monkeypatch):
    users = write(tmp_path / "users", _USERS.encode())
    more = f"auth: {{htpasswd: {{realm: basic, path: {users}}}}}\n"
    with real_registries.docker_registry(tmp_path, more=more) as host:
        assert f"there are none: dmsign-fast login {host}" in said(f"{host}/app:v1")
        monkeypatch.setenv("NOTATION_PASSWORD", "wrong")
        done = cli("login", host, "--username", "alice")
        assert (done.exit_code, "incorrect user name or password" in done.err) == (6, True)
        assert "incorrect" in said(f"{host}/app:v1", "--username", "alice")
        monkeypatch.setenv("NOTATION_PASSWORD", "secret")
        said(f"{host}/app:v1", "--username", "alice", exit_code=4)
