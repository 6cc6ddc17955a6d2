"""The certificates of a registry, as docker and podman keep them (containers-certs.d(5))."""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.errors import StorageError
from dmsign_fast.tls import names_in, new_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

__all__ = ["Certificates", "certificate_directory"]

SYSTEM_DIRECTORIES = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))


def certificate_directory(registry: str) -> Path | None:
    """The first directory that is there for ``HOST`` or ``HOST:PORT``, as it is written; or None.

    ``${XDG_CONFIG_HOME:-~/.config}/containers/certs.d``, ``/etc/containers/certs.d``,
    ``/etc/docker/certs.d``. A directory that cannot be looked at, such as for its permissions, is
    passed over, as by podman.
    """
    for place in _places():
        try:
            if (directory := place / registry).is_dir():
                return directory
        except OSError:
            continue
    return None


def _places() -> Iterator[Path]:
    home = os.environ.get("XDG_CONFIG_HOME")
    with contextlib.suppress(RuntimeError):  # who has no home has no directory there
        yield (Path(home) if home else Path.home() / ".config") / "containers/certs.d"
    yield from SYSTEM_DIRECTORIES


@dataclass(frozen=True)
class Certificates:
    """What is used to talk to a registry over TLS; files are read when it is first needed.

    Attributes:
        registry: its name.
        ca_file: its authorities; by default those of the machine and of ``directory``.
        client: certificate and key; by default the first pair in ``directory``.
        directory: as ``certificate_directory`` has it.
    """

    registry: str
    ca_file: Path | None
    client: tuple[Path, Path] | None
    directory: Path | None

    @functools.cached_property
    def context(self) -> ssl.SSLContext:
        """For whom a certificate of the client is no business: other hosts.

        Raises:
            StorageError, FormatError: as ``tls.new_context`` has them.
        """
        return self._new(None)

    @functools.cached_property
    def own_context(self) -> ssl.SSLContext:
        """For the registry itself; errors as those of ``context``."""
        client = self.client or self._listed_client()
        return self._new(client) if client else self.context

    def _new(self, client: tuple[Path, Path] | None) -> ssl.SSLContext:
        more = [] if self.ca_file else self._listed(".crt")
        return new_context(self.ca_file, more, client)

    def _listed(self, suffix: str) -> list[Path]:
        if self.directory is None:
            return []
        names = names_in(self.directory)
        return [self.directory / name for name in names if name.endswith(suffix)]

    def _listed_client(self) -> tuple[Path, Path] | None:
        """The first pair; a half of one is an error, as for docker."""
        certificates, keys = self._listed(".cert"), self._listed(".key")
        for path in (*certificates, *keys):
            other = path.with_suffix(".key" if path.suffix == ".cert" else ".cert")
            if other not in (*certificates, *keys):
                raise StorageError(f"there is {path} and no {other.name}: add it, or remove both")
        return (certificates[0], keys[0]) if certificates else None

    @property
    def advice(self) -> str:
        """What to do about an authority that is not trusted."""
        if self.ca_file:
            return f"give another --ca-file than {self.ca_file}"
        directory = self.directory or SYSTEM_DIRECTORIES[-1] / self.registry
        return f"give its CA's certificate by --ca-file FILE, or put it into {directory}/ca.crt"
