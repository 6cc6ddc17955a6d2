"""Whether a registry takes a login (distribution-spec 1.1, Determining Support)."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from dmsign_fast.errors import ParameterError
from dmsign_fast.oci.reference import RegistryReference
from dmsign_fast.oci.transport import Transport

if TYPE_CHECKING:
    from dmsign_fast.oci.credentials import Credentials
    from dmsign_fast.oci.transport import Connection

__all__ = ["check_login", "registry_name"]


def registry_name(text: str) -> str:
    """The name of a registry, HOST or HOST:PORT; ParameterError for anything else."""
    if "/" in text or "@" in text:
        raise ParameterError(
            f"{text!r} is not the name of a registry: give HOST or HOST:PORT alone"
        )
    return RegistryReference.parse(f"{text}/any").registry


def check_login(registry: str, credentials: Credentials, connection: Connection) -> bool:
    """Log in, and tell whether the registry asked for that at all.

    Raises:
        RegistryError: it refuses the login, cannot be reached, or would get it unencrypted.
    """
    asked = False

    def find() -> Credentials:
        nonlocal asked
        asked = True
        return credentials

    with closing(Transport(registry, connection, find)) as transport:
        transport.ask("GET", "/v2/", (), (200,))
    return asked
