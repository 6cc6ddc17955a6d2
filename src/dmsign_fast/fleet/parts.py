"""What a form of artifact has of each layer besides its signature, such as its hash tree.

A worker makes it while it reads the layer, and pushes it to where the layer is. Here it is checked
against the root hash before anything is signed, and brought to each image that has the layer.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dmsign_fast.errors import DmsignError, RegistryError, VerificationError
from dmsign_fast.fleet.places import registry_of
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.registry import Registry
from dmsign_fast.oci.retry import TransientError
from dmsign_fast.pipeline.forms import Part
from dmsign_fast.pipeline.layer_file import LayerBlob
from dmsign_fast.pipeline.published import check_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dmsign_fast.fleet.places import Places
    from dmsign_fast.fleet.rows import PartBlob
    from dmsign_fast.oci.store import Store

__all__ = ["BLOB_TYPE", "Parts"]

BLOB_TYPE = "application/octet-stream"  # a registry keeps blobs without their media types
_LOOKS = 8  # layers at a time


class Parts:
    """The parts of the layers of a run, for any thread.

    Attributes:
        wanted: whether any form has them.
        useless: layers whose parts are gone, or are not what their root hashes cover.
    """

    def __init__(self, places: Places, found: Mapping[int, Sequence[PartBlob]] | None) -> None:
        """Take what the file of the run has, by layer; None where no form has parts."""
        self.wanted = found is not None
        self.useless: set[int] = set()
        self._places = places
        self._found = dict(found or {})
        self._checked: dict[int, bytes] = {}
        self._locks: dict[int, threading.Lock] = {}

    def __contains__(self, layer: int) -> bool:
        return not self.wanted or layer in self._found

    def add(self, layer: int, parts: Sequence[PartBlob]) -> None:
        """Take what a worker has pushed of a layer."""
        if self.wanted:
            self._found[layer] = parts

    def drop_missing(self, layers: Iterable[int]) -> None:
        """Forget parts of earlier runs unless they are there for sure."""
        known = [layer for layer in layers if layer in self._found]
        with ThreadPoolExecutor(_LOOKS) as pool:
            for layer, there in zip(known, pool.map(self._exist, known), strict=True):
                if not there:
                    del self._found[layer]

    def _exist(self, layer: int) -> bool:
        try:
            for one in self._found[layer]:
                with self._places.use(one.place) as store:
                    if not store.exists(_described(one)):
                        return False
        except DmsignError:
            return False
        return True

    def check(self, root_hashes: Mapping[int, bytes]) -> None:
        """See that root hashes cover the parts of their layers; of each layer once in a run.

        Raises:
            VerificationError: one does not, or the parts are gone; all such layers are useless.
            RegistryError: whether they do cannot be told.
        """
        problem: VerificationError | None = None
        for layer, root_hash in root_hashes.items() if self.wanted else ():
            with self._locks.setdefault(layer, threading.Lock()):
                try:
                    if self._checked.get(layer) != root_hash:
                        self._check(layer, root_hash)
                        self._checked[layer] = root_hash
                except VerificationError as error:
                    problem = problem or error
        if problem:
            raise problem

    def _check(self, layer: int, root_hash: bytes) -> None:
        found = self._found[layer]
        where = ", ".join(sorted({one.place for one in found}))
        try:
            by_part = {Part(one.part): _described(one) for one in found}
            if set(by_part) != set(Part) - {Part.SIGNATURE} or len({it.place for it in found}) > 1:
                raise VerificationError("they are not complete")
            with self._places.use(found[0].place) as store:
                check_parts(store, by_part, root_hash)
        except TransientError:
            raise
        except (DmsignError, ValueError) as error:
            self.useless.add(layer)
            raise VerificationError(
                f"what a worker has pushed of the layer to {where} beside its root hash is of no "
                f"use: {error}; --resume reads the layer again"
            ) from error

    def blobs(self, layer: int) -> dict[Part, LayerBlob]:
        """The parts of a layer, to be pushed; nothing where no form has parts."""
        return {
            Part(one.part): LayerBlob(
                Digest(one.digest), one.size, functools.partial(self._content, one)
            )
            for one in self._found.get(layer, ())
        }

    def _content(self, one: PartBlob) -> Iterator[bytes]:
        with self._places.use(one.place) as store:
            yield from store.fetch(_described(one))

    def bring(self, layer: int, store: Store, place: str) -> None:
        """Let a registry take a layer's parts over from another of its repositories, if it does.

        Where it does not, whoever pushes the artifact copies them.
        """
        for one in self._found.get(layer, ()):
            if (
                isinstance(store, Registry)
                and place != one.place
                and registry_of(place) == registry_of(one.place)
            ):
                with contextlib.suppress(RegistryError):
                    store.mount(_described(one), one.place.partition("/")[2])


def _described(one: PartBlob) -> Descriptor:
    return Descriptor(BLOB_TYPE, Digest(one.digest), one.size)
