"""Registries, and the homes that an image can have."""

import pytest
from container_images import Home
from oci.conftest import (  # noqa: F401
    connect,
    docker_registry,
    no_logins_of_this_machine,
    serve,
)

from dmsign_fast.oci.layout import Layout


@pytest.fixture
def make_home(request, tmp_path, serve, connect):  # noqa: F811
    """Makes homes for images: ``layout``, ``api``, ``tag schema`` or ``docker-registry``."""

    def make(kind, **options):
        if kind == "layout":
            return Home(Layout.create(tmp_path / "layout"))
        repository = "test/" + "".join(
            letter if letter.isalnum() else "-" for letter in request.node.name.lower()
        ).replace("--", "-").strip("-")
        if kind == "docker-registry":
            where = request.getfixturevalue("docker_registry")
            return Home(connect(where, repository, **options))
        server = serve(referrers=kind == "api")
        return Home(connect(server, repository, **options), server)

    return make
