"""Registries, the homes that an image can have, and layers."""

import shutil

import pytest
from container_images import Home, push_image, tars
from erofs_layers.twins import typical_tar
from oci.conftest import (  # noqa: F401
    connect,
    docker_registry,
    no_logins_of_this_machine,
    olareg,
    real_registry,
    serve,
)
from pki import make_intermediate, make_leaf, make_root
from real_registries import REAL_REGISTRIES
from signed_images import sign

from dmsign_fast.oci.layout import Layout


@pytest.fixture
def make_home(request, tmp_path, serve, connect, real_registry):  # noqa: F811
    """Makes homes for images: ``layout``, ``api``, ``tag schema`` or a real registry."""

    def make(kind, **options):
        if kind == "layout":
            return Home(Layout.create(tmp_path / "layout"))
        repository = "test/" + "".join(
            letter if letter.isalnum() else "-" for letter in request.node.name.lower()
        ).replace("--", "-").strip("-")
        if kind in REAL_REGISTRIES:
            return Home(connect(real_registry(kind), repository, **options))
        server = serve(referrers=kind == "api")
        return Home(connect(server, repository, **options), server)

    return make


@pytest.fixture(scope="module")
def leaf():
    return make_leaf(make_intermediate(make_root()))


@pytest.fixture
def home(make_home):
    return make_home("layout")


@pytest.fixture(scope="session")
def signed_layout(tmp_path_factory):
    """A layout with an image, signed by the leaf, and what sign said."""
    path = tmp_path_factory.mktemp("signed") / "layout"
    store = Layout.create(path)
    push_image(store, "v1", tars())
    return path, sign(store, "v1")[0]


@pytest.fixture
def signed(signed_layout, tmp_path):
    """A copy of it to change."""
    path, image = signed_layout
    shutil.copytree(path, tmp_path / "signed")
    return Layout(tmp_path / "signed"), image


@pytest.fixture(scope="module")
def tar():
    return typical_tar()


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "layer.erofs"


@pytest.fixture
def directory(tmp_path):
    """Where what is signed elsewhere is prepared."""
    return tmp_path / "to-sign"
