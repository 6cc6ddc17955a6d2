"""Registries over TLS: authorities, certificates of clients, and what must not go elsewhere."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

import pki
import pytest
from cryptography import x509
from images import TAR, push_image

from dmsign_fast.errors import RegistryError
from dmsign_fast.oci.descriptor import Descriptor

DATA = b"a blob"
BLOB = Descriptor.of(DATA, TAR)


@dataclass(frozen=True)
class Tls:
    ca: Path
    server: tuple[Path, Path]
    client: tuple[Path, Path]


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """Paths of a CA, and certificate and key of a server on 127.0.0.1 and of a client."""
    home = tmp_path_factory.mktemp("tls")
    root = pki.make_root("TLS")
    name = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = pki.make_leaf(root, "server", extensions=((name, False),)).write(home / "server")
    client = pki.make_leaf(root, "client").write(home / "client")
    return Tls(server.root, (server.chain, server.key), (client.chain, client.key))


def test_tls_with_a_ca_of_its_own(serve, connect, tls):
    server = serve(tls=tls.server)
    registry = connect(server, plain_http=False, ca_file=tls.ca)
    image = push_image(registry, "v1")
    assert registry.resolve("v1") == image
    with pytest.raises(RegistryError, match="certificate is not trusted"):
        connect(server, plain_http=False).resolve("v1")


def test_a_ca_file_means_tls_on_the_loopback_too(serve, connect, tls):
    registry = connect(serve(tls=tls.server), ca_file=tls.ca)
    push_image(registry, "v1")
    assert registry.exists(registry.resolve("v1").config)


def test_tls_with_a_certificate_of_the_client(serve, connect, tls):
    server = serve(tls=(*tls.server, tls.ca))
    certificate, key = tls.client
    options = {"plain_http": False, "ca_file": tls.ca, "tries": 1}
    registry = connect(server, client_certificate=certificate, client_key=key, **options)
    push_image(registry, "v1")
    with pytest.raises(RegistryError):
        connect(server, **options).resolve("v1")


def test_the_certificate_of_the_client_is_for_the_registry_only(serve, connect, tls):
    server, storage = serve(tls=tls.server), serve(tls=(*tls.server, tls.ca))
    storage.repositories = server.repositories
    server.blobs_at = storage.url
    certificate, key = tls.client
    options = {"plain_http": False, "ca_file": tls.ca, "tries": 1}
    registry = connect(server, client_certificate=certificate, client_key=key, **options)
    registry.push(BLOB, DATA)
    with pytest.raises(RegistryError):
        list(registry.fetch(BLOB))
    assert storage.requests == []


def test_tls_of_another_name_is_refused(serve, connect, tls):
    server = serve("127.0.0.2", tls=tls.server)
    with pytest.raises(RegistryError, match="certificate is for another name"):
        connect(server, plain_http=False, ca_file=tls.ca).resolve("v1")


def test_https_does_not_lead_to_http(serve, connect, tls):
    server, storage = serve(tls=tls.server), serve("127.0.0.2")
    storage.repositories = server.repositories
    server.blobs_at = storage.url
    registry = connect(server, plain_http=False, ca_file=tls.ca)
    registry.push(BLOB, DATA)
    with pytest.raises(RegistryError, match="not HTTPS"):
        list(registry.fetch(BLOB))
    assert storage.requests == []
