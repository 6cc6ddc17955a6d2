"""Authorities and certificates of clients, where docker, podman and other programs have them."""

import contextlib
import ipaddress
import select
import socket
import socketserver
import ssl
import threading

import pki
import pytest
import real_registries
from cryptography import x509
from helpers import cli, write

from dmsign_fast.errors import FormatError, RegistryError, StorageError
from dmsign_fast.oci import certificates
from dmsign_fast.oci.certificates import certificate_directory
from dmsign_fast.oci.reference import RegistryReference
from dmsign_fast.oci.registry import Registry
from dmsign_fast.oci.transport import Connection
from dmsign_fast.tls import new_context

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    """The directories in the order in which they are looked through; none is there."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    system = (tmp_path / "containers", tmp_path / "docker")
    monkeypatch.setattr(certificates, "SYSTEM_DIRECTORIES", system)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return (tmp_path / "config/containers/certs.d", *system)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Files of a server on 127.0.0.1 and of a client, and of an authority of none of them."""
    home = tmp_path_factory.mktemp("tls")
    root = pki.make_root("TLS")
    name = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = pki.make_leaf(root, "server", extensions=((name, False),)).write(home / "server")
    client = pki.make_leaf(root, "client").write(home / "client")
    other = pki.make_leaf(pki.make_root("Other"), "other").write(home / "other")
    return server, client, other


@pytest.fixture(scope="module", params=["tls", "mutual TLS"])
def registry(request, chain, tmp_path_factory):
    """A docker-registry over TLS; whether it wants a certificate of the client."""
    server, _, _ = chain
    mutual = request.param == "mutual TLS"
    clients = f", clientcas: [{server.root}]" if mutual else ""
    tls = f", tls: {{certificate: {server.chain}, key: {server.key}{clients}}}"
    home = tmp_path_factory.mktemp("registry")
    with real_registries.docker_registry(home, http=tls) as host:
        yield host, mutual


def directory(place, host, **files):
    """Copy files into the directory of a host; ca_crt is ca.crt."""
    made = place / host
    made.mkdir(parents=True)
    for name, path in files.items():
        write(made / name.replace("_", "."), path.read_bytes())
    return made


def tags(host, **options):
    with Registry(RegistryReference(host, "app"), Connection(tries=1, **options)) as repository:
        return repository.references()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_directory_for_the_host_has_authorities_and_a_client(number, places, registry, chain):
    host, mutual = registry
    server, client, _ = chain
    with pytest.raises(RegistryError):
        tags(host, plain_http=False)
    made = directory(places[number], host, ca_crt=server.root)
    if mutual:
        with pytest.raises(RegistryError):
            tags(host)
        write(made / "client.cert", client.chain.read_bytes())
        write(made / "client.key", client.key.read_bytes())
    assert tags(host) == []
    done = cli("inspect", f"{host}/app:v1")
    assert (done.exit_code, "there is no v1" in done.err) == (4, True), done.err


def test_the_first_directory_counts_and_no_other(places, registry, chain):
    host, _ = registry
    server, client, other = chain
    own = {"client_cert": client.chain, "client_key": client.key}
    directory(places[2], host, ca_crt=server.root, **own)
    assert tags(host) == []
    directory(places[1], host, ca_crt=other.root, **own)
    with pytest.raises(RegistryError, match="certificate is not trusted"):
        tags(host)
    directory(places[0], host, ca_crt=server.root, **own)
    assert tags(host) == []


def test_the_options_come_before_the_directory(places, registry, chain):
    host, mutual = registry
    server, client, other = chain
    directory(places[2], host, ca_crt=server.root, a_cert=other.chain, a_key=other.key)
    given = {"client_certificate": client.chain, "client_key": client.key}
    assert tags(host, **given) == []
    with pytest.raises(RegistryError, match=f"give another --ca-file than {other.root}"):
        tags(host, ca_file=other.root, **given)
    if mutual:
        with pytest.raises(RegistryError):
            tags(host)


@pytest.mark.parametrize("variable", ["XDG_CONFIG_HOME", "HOME"])
def test_a_place_that_cannot_be_is_passed_over(variable, places, monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv(variable, "/" + "a" * 300)
    (places[2] / "localhost").mkdir(parents=True)
    assert certificate_directory("localhost") == places[2] / "localhost"


def test_the_port_is_a_part_of_the_name(places, chain):
    server, _, _ = chain
    made = directory(places[2], "r.example", ca_crt=server.root)
    assert certificate_directory("r.example") == made
    assert certificate_directory("r.example:443") is None
    assert certificate_directory("example") is None


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("client.key", "client.cert and no client.key"),
        ("client.cert", "client.key and no client.c"),
    ],
)
def test_half_a_pair_is_an_error_of_storage(missing, words, places, chain):
    server, client, _ = chain
    made = directory(places[2], "127.0.0.1:1", ca_crt=server.root, client_cert=client.chain)
    write(made / "client.key", client.key.read_bytes())
    (made / missing).unlink()
    with pytest.raises(StorageError, match=words):
        tags("127.0.0.1:1")


def variables(server, other, home):
    """Settings that name the authority of the server, and those that name another alone."""
    store = home / "store"
    store.mkdir()
    write(store / "a.pem", server.root.read_bytes())
    write(store / "README", b"no certificate")
    return [
        {"SSL_CERT_FILE": server.root},
        {"SSL_CERT_DIR": f"{home / 'config'}:{store}"},
        {"REQUESTS_CA_BUNDLE": server.root},
        {"REQUESTS_CA_BUNDLE": other.root, "SSL_CERT_FILE": server.root},
        {"SSL_CERT_FILE": other.root, "SSL_CERT_DIR": store},
    ], [{"SSL_CERT_FILE": other.root}, {"SSL_CERT_DIR": home / "config"}]


def test_the_environment_names_authorities(chain, tmp_path, monkeypatch, serve):
    server, _, other = chain
    (tmp_path / "config").mkdir()
    host = serve(tls=(server.chain, server.key)).host
    good, bad = variables(server, other, tmp_path)
    for settings, passes in [*((one, True) for one in good), *((one, False) for one in bad)]:
        with monkeypatch.context() as set_for_now:
            for name, value in settings.items():
                set_for_now.setenv(name, str(value))
            outcome = contextlib.nullcontext() if passes else pytest.raises(RegistryError)
            with outcome:
                assert tags(host, plain_http=False) == [], settings
            if not passes:
                assert tags(host, ca_file=server.root) == []


@pytest.mark.parametrize("directories", [None, "", ":", "/nowhere::/nothing"])
def test_the_current_directory_names_no_authorities(
    directories, chain, tmp_path, monkeypatch, serve
):
    server, _, _ = chain
    write(tmp_path / "ca.crt", server.root.read_bytes())
    monkeypatch.chdir(tmp_path)
    if directories is not None:
        monkeypatch.setenv("SSL_CERT_DIR", directories)
    with pytest.raises(RegistryError, match="certificate is not trusted"):
        tags(serve(tls=(server.chain, server.key)).host, plain_http=False)


def test_a_variable_that_names_no_file_is_said(monkeypatch, tmp_path):
    for name in set(VARIABLES) - {"SSL_CERT_DIR"}:
        with monkeypatch.context() as set_for_now:
            set_for_now.setenv(name, str(tmp_path / "missing"))
            with pytest.raises(StorageError, match=f"cannot read .*missing.* {name} names it"):
                new_context()


def test_the_authorities_of_the_machine_count_by_default(monkeypatch, chain, serve, tmp_path):
    server, _, other = chain
    host = serve(tls=(server.chain, server.key)).host
    for bundle, passes in ((other.root, False), (server.root, True)):
        monkeypatch.setattr("dmsign_fast.tls._BUNDLES", (str(tmp_path / "no"), str(bundle)))
        monkeypatch.setattr("dmsign_fast.tls._DIRECTORIES", ())
        with contextlib.nullcontext() if passes else pytest.raises(RegistryError):
            assert tags(host, plain_http=False) == []


@pytest.mark.parametrize("option", ["--ca-file", "--client-cert"])
@pytest.mark.parametrize(
    ("name", "exit_code", "words"),
    [
        ("missing", 4, "cannot read"),
        (".", 4, "not a regular file"),
        ("/dev/zero", 4, "not a regular file"),
        ("text", 3, "PEM"),
        ("empty", 3, "PEM"),
        ("huge", 3, "more than 16 MiB"),
    ],
)
def test_files_that_cannot_be_used(option, name, exit_code, words, tmp_path, serve, chain):
    server, _, _ = chain
    write(tmp_path / "text", b"no certificate\n")
    write(tmp_path / "empty", b"")
    with write(tmp_path / "huge", b"").open("wb") as file:
        file.truncate((16 << 20) + 1)
    host = serve(tls=(server.chain, server.key)).host
    done = cli("inspect", f"{host}/app:v1", option, tmp_path / name)
    assert done.exit_code == exit_code, done.err
    assert words in done.err
    assert str(tmp_path / name) in done.err


def test_the_key_of_the_client_is_its_own_and_not_encrypted(tmp_path, chain):
    server, client, other = chain
    with pytest.raises(FormatError, match="is not that of the certificate"):
        new_context(client=(client.chain, other.key))
    encrypted = pki.make_leaf(pki.make_root("TLS"), "client").write(tmp_path, b"secret")
    with pytest.raises(FormatError, match=r"encrypted.*openssl pkey"):
        new_context(server.root, client=(encrypted.chain, encrypted.key))


def test_a_server_is_always_asked_for_a_certificate_of_its_name(chain):
    context = new_context(chain[0].root)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_a_directory_of_too_many_files_is_not_read(places, monkeypatch, chain):
    made = directory(places[2], "127.0.0.1:1", ca_crt=chain[0].root)
    monkeypatch.setattr("dmsign_fast.tls._MAX_NAMES", 1)
    write(made / "b.crt", chain[0].root.read_bytes())
    with pytest.raises(StorageError, match="more than 1 files"):
        tags("127.0.0.1:1")


@pytest.fixture
def proxy():
    """A proxy for HTTPS on the loopback, which connects to one place whatever it is asked for."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            with socket.create_connection(server.leads_to) as other:
                pair = {self.connection: other, other: self.connection}
                while ready := select.select(list(pair), [], [], 20)[0]:
                    for one in ready:
                        if not (data := one.recv(1 << 16)):
                            return
                        pair[one].sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        yield server
        server.shutdown()


def test_behind_a_proxy_too(proxy, serve, places, monkeypatch, tmp_path):
    root = pki.make_root("TLS")
    name = x509.SubjectAlternativeName([x509.DNSName("registry.example")])
    files = pki.make_leaf(root, "named", extensions=((name, False),)).write(tmp_path / "tls")
    server = serve(tls=(files.chain, files.key))
    proxy.leads_to = server.server_address
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_address[1]}")
    for variable in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(RegistryError, match="certificate is not trusted"):
        tags("registry.example")
    assert tags("registry.example", ca_file=files.root) == []
    directory(places[2], "registry.example", ca_crt=files.root)
    assert tags("registry.example") == []
