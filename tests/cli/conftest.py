"""Registries, a signed layout and layers, for the commands that take them."""

import gzip

import pytest
from container_images import push_image
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
from pki import pem
from signed_images import ROOT, sign

from dmsign_fast.oci.layout import Layout


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


@pytest.fixture
def layout(tmp_path):
    return Layout.create(tmp_path / "layout")


@pytest.fixture
def signed(layout):
    push_image(layout, "v1")
    return layout, sign(layout, "v1")[0]


@pytest.fixture
def root(tmp_path):
    return write(tmp_path / "root.pem", pem(ROOT.certificate))
