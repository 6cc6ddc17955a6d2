"""Where images are: repositories of registries, and OCI layouts, opened as they are needed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.oci.credentials import logins_in
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.reference import LayoutReference, RegistryReference
from dmsign_fast.oci.registry import Registry
from dmsign_fast.oci.transport import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dmsign_fast.oci.credentials import Credentials
    from dmsign_fast.oci.store import Store

__all__ = ["Access", "Places", "parse_reference", "registry_of"]

_MOST_OPEN = 64


@dataclass(frozen=True)
class Access:
    """How places are reached.

    Attributes:
        connection: to registries.
        credentials: the login for all registries; None takes what docker or podman keep here.
        authfile: where they keep it; by default where they usually do.
    """

    connection: Connection = field(default_factory=Connection)
    credentials: Credentials | None = None
    authfile: Path | None = None

    def open(self, place: str) -> Store:
        """The store of a place: ``REGISTRY/REPOSITORY``, or the absolute path of a layout."""
        if place.startswith("/"):
            return Layout(Path(place))
        reference = RegistryReference.parse(place)
        logins = logins_in(self.authfile)
        return Registry(reference, self.connection, self.credentials, logins)


def parse_reference(text: str, *, layout: bool) -> tuple[str, str]:
    """The place that a reference names, and the tag or digest in it.

    Raises:
        ParameterError: it is not of the form of references, or names no image.
    """
    if layout:
        there = LayoutReference.parse(text)
        return str(there.path.absolute()), there.wanted
    image = RegistryReference.parse(text)
    return f"{image.registry}/{image.repository}", image.wanted


def registry_of(place: str) -> str:
    """The host of a place, which bounds how much is asked of it at a time."""
    return "" if place.startswith("/") else place.partition("/")[0]


class Places:
    """Stores by place, at most 64 of them open besides those in use; for any thread."""

    def __init__(self, opener: Callable[[str], Store]) -> None:
        """Begin with none; ``opener`` makes the store of a place."""
        self._open = opener
        self._lock = threading.Lock()
        self._stores: OrderedDict[str, tuple[Store, list[int]]] = OrderedDict()

    @contextmanager
    def use(self, place: str) -> Iterator[Store]:
        """The store of a place, open until the end of the block at least."""
        with self._lock:
            if place not in self._stores:
                self._stores[place] = (self._open(place), [0])
            self._stores.move_to_end(place)
            store, users = self._stores[place]
            users[0] += 1
            closed = [
                self._stores.pop(name)[0]
                for name, (_, used) in list(self._stores.items())[:-_MOST_OPEN]
                if not used[0]
            ]
        for one in closed:
            _close(one)
        try:
            yield store
        finally:
            with self._lock:
                users[0] -= 1

    def close(self) -> None:
        """Close all of them."""
        for store, _ in self._stores.values():
            _close(store)
        self._stores.clear()


def _close(store: Store) -> None:
    close = getattr(store, "close", None)  # a Store of memory has none
    if close:
        close()
