"""Registries and images for the tests of oci."""

import contextlib
from pathlib import Path

import pytest
import real_registries
from registry_server import RegistryServer

from dmsign_fast.oci.reference import RegistryReference
from dmsign_fast.oci.registry import Registry
from dmsign_fast.oci.transport import Connection

QUICK = {"pause": 0.01, "settle": 0.4, "connect_timeout": 20, "read_timeout": 20}


@pytest.fixture(autouse=True)
def no_logins_of_this_machine(monkeypatch, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DOCKER_CONFIG", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    for name in ("REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve():
    """Starts strict registries, which at the end must have nothing to complain about."""
    with contextlib.ExitStack() as stack:
        servers = []

        def start(address="127.0.0.1", **options):
            servers.append(stack.enter_context(RegistryServer(address, **options)))
            return servers[-1]

        yield start
        for server in servers:
            assert server.complaints == []


@pytest.fixture
def connect():
    """Opens repositories and closes them again."""
    with contextlib.ExitStack() as stack:

        def open_repository(where, repository="app/web", credentials=None, **options):
            reference = RegistryReference(getattr(where, "host", where), repository)
            connection = Connection(**QUICK | options)
            return stack.enter_context(Registry(reference, connection, credentials))

        yield open_repository


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory):
    with real_registries.docker_registry(tmp_path_factory.mktemp("docker-registry")) as host:
        yield host


@pytest.fixture(scope="session")
def olareg(tmp_path_factory):
    with real_registries.olareg(tmp_path_factory.mktemp("olareg")) as host:
        yield host


@pytest.fixture
def real_registry(request):
    """Returns HOST:PORT of one of ``REAL_REGISTRIES``, which runs until the end of the tests."""
    return lambda name: request.getfixturevalue(name.replace("-", "_"))


@pytest.fixture
def layout_path(tmp_path) -> Path:
    return tmp_path / "layout"
