"""Registries for the commands that take images, and layers for those that take layers."""

import gzip

import pytest
from erofs_layers.twins import END, file, tar_of, typical_tar
from helpers import noise, write
from oci.conftest import (  # noqa: F401
    connect,
    docker_registry,
    no_logins_of_this_machine,
    olareg,
    real_registry,
    serve,
)
from openssl_4 import openssl_4_program  # noqa: F401


@pytest.fixture(scope="module")
def tar():
    return typical_tar()


@pytest.fixture
def layers(tar, tmp_path):
    """Three layers: plain, by gzip, and nearly empty."""
    return [
        write(tmp_path / "a.tar", tar),
        write(tmp_path / "b.tar.gz", gzip.compress(tar_of(file(b"b", noise(300_000))))),
        write(tmp_path / "c", END),
    ]
