"""Registries and images for the tests of oci."""

import contextlib
import re
import signal
import subprocess
from pathlib import Path

import pytest
from helpers import program, wait_until
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
    """HOST:PORT of the docker-registry of this machine, which has no Referrers API."""
    home = tmp_path_factory.mktemp("docker-registry")
    config, log = home / "config.yml", home / "log"
    config.write_text(
        "version: 0.1\n"
        "log: {accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {home}/data}}}}\n"
        "http: {addr: '127.0.0.1:0'}\n"
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program("docker-registry"), "serve", config],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )

    def listening():
        assert process.poll() is None, log.read_text()
        return re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text())

    try:
        wait_until(listening, "the start of docker-registry")
        yield listening()[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture
def layout_path(tmp_path) -> Path:
    return tmp_path / "layout"
