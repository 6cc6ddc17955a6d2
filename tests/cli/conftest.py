"""Registries for the commands that take images."""

from oci.conftest import (  # noqa: F401
    connect,
    docker_registry,
    no_logins_of_this_machine,
    olareg,
    real_registry,
    serve,
)
