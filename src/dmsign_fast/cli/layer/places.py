"""Layers on the command line: files, standard input, and blobs of registries and layouts."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.stores import open_image, repository_of
from dmsign_fast.errors import StorageError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from typing_extensions import Buffer

    from dmsign_fast.oci.descriptor import Digest
    from dmsign_fast.oci.store import Store

__all__ = ["LayerPlaces"]

_REFERENCE = re.compile(r".+@(sha(?:256|384|512):[0-9a-f]+)")
_TAGGED = re.compile(r".+:[A-Za-z0-9_][A-Za-z0-9._-]*")


class LayerPlaces:
    """Where layers are; each repository is opened once."""

    def __init__(self, args: argparse.Namespace, opened: ExitStack) -> None:
        """Take the options of stores; ``opened`` closes what is opened."""
        self._args = args
        self._opened = opened
        self._stores: dict[str, Store] = {}

    def digest(self, layer: str) -> Digest | None:
        """The digest of a layer in a store; None of a file, also if a reference names it."""
        found = _REFERENCE.fullmatch(layer)
        if not found or Path(layer).exists():
            return None
        from dmsign_fast.oci.descriptor import Digest

        return Digest(found[1])

    def reader(self, layer: str) -> Callable[[threading.Event], Iterator[Buffer]]:
        """What begins to read a layer; nothing is verified."""
        from dmsign_fast.pipeline.layers import read_pieces

        digest = self.digest(layer)
        if digest is None and _TAGGED.fullmatch(layer) and not Path(layer).exists():
            raise StorageError(
                f"cannot read {layer}: No such file or directory; a layer in a registry or layout "
                "is named by its digest, NAME@sha256:..."
            )
        if digest is None:
            return lambda stop: read_pieces(Path(layer), stop)
        store = self._store(layer)
        return lambda _: store.read_blob(digest)

    def _store(self, layer: str) -> Store:
        args = argparse.Namespace(**{**vars(self._args), "reference": layer})
        name = repository_of(args)
        if name not in self._stores:
            self._stores[name], _ = self._opened.enter_context(open_image(args))
        return self._stores[name]
