"""What a worker does: a layer is fetched, checked and hashed by every recipe, in one pass.

A task and its outcome are some hundred bytes. A worker gets no key, and no login unless the
coordinator was told to share it. For a form of artifact that has more of a layer than its
signature, the worker pushes that to where it read the layer, before any manifest names it.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dmsign_fast import __version__
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import DmsignError, NotFoundError, RegistryError, StorageError
from dmsign_fast.fleet.parts import BLOB_TYPE
from dmsign_fast.fleet.places import Access
from dmsign_fast.fleet.rows import PartBlob
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.retry import TransientError
from dmsign_fast.pipeline.image import ImageLayer, hash_image_layer_by
from dmsign_fast.pipeline.layer_file import LayerFile
from dmsign_fast.pipeline.layers import Conversion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.layer_file import LayerBlob

__all__ = ["LayerOutcome", "LayerTask", "run_task", "worker_facts", "worker_name"]

_VECTOR = bytes(4096)


@dataclass(frozen=True)
class LayerTask:
    """A layer to hash.

    Attributes:
        digest: of its bytes.
        size: of its bytes.
        diff_id: of the uncompressed tar.
        media_type: as the image lists it.
        places: that have it; the first that answers is taken.
        recipes: the fields of each, see Recipe.fields.
        conversion: how it is converted.
        access: to the places.
        parts: whether to push what forms have of the layer besides its signature; of one recipe.
        version: of the coordinator's dmsign-fast.
    """

    digest: str
    size: int
    diff_id: str
    media_type: str
    places: tuple[str, ...]
    recipes: tuple[Mapping[str, str], ...]
    conversion: Conversion = field(default_factory=Conversion)
    access: Access = field(default_factory=Access)
    parts: bool = False
    version: str = __version__


@dataclass(frozen=True)
class LayerOutcome:
    """What a worker found.

    Attributes:
        digest: of the layer that was read to its end and had this digest.
        diff_id: that its tar had.
        root_hashes: raw, in the order of the recipes; none if it failed.
        uncompressed_size: bytes.
        seconds: that it took.
        host: of the worker, with the number of its process.
        version: of the worker's dmsign-fast.
        failure: why it failed; None if it did not.
        busy: seconds for which a registry is to be left alone before another try; None if another
            try would not help.
        parts: that were pushed, and where.
    """

    digest: str
    diff_id: str
    root_hashes: tuple[bytes, ...] = ()
    uncompressed_size: int = 0
    seconds: float = 0
    host: str = ""
    version: str = __version__
    failure: str | None = None
    busy: float | None = None
    parts: tuple[PartBlob, ...] = ()


def worker_name() -> str:
    """This process among all workers: ``HOST``, by Dask's address where Dask runs it."""
    try:
        from distributed import get_worker

        return str(get_worker().address.rpartition("/")[2].rpartition(":")[0])
    except (ImportError, ValueError):
        return socket.gethostname()


def run_task(task: LayerTask) -> LayerOutcome:
    """Hash a layer. What goes wrong is part of the outcome: no error crosses between versions."""
    host = worker_name()
    if task.version != __version__:
        return LayerOutcome(
            task.digest,
            task.diff_id,
            host=host,
            failure=f"the worker {host} has dmsign-fast {__version__} and the coordinator "
            f"{task.version}: install the same version on both",
        )
    began = time.monotonic()
    problem: DmsignError | None = None
    for place in task.places:
        try:
            done = _hash(task, place)
        except (NotFoundError, RegistryError) as error:
            # another place may have it; that a registry is busy counts where none has
            if not isinstance(problem, TransientError):
                problem = error
            continue
        except DmsignError as error:
            problem = error
            break
        return replace(done, seconds=time.monotonic() - began, host=host)
    busy = (problem.after or 1.0) if isinstance(problem, TransientError) else None
    return LayerOutcome(
        task.digest,
        task.diff_id,
        host=host,
        failure=str(problem or "no place is known that has it"),
        busy=busy,
    )


def _hash(task: LayerTask, place: str) -> LayerOutcome:
    layer = ImageLayer(
        Descriptor(task.media_type, Digest(task.digest), task.size), Digest(task.diff_id)
    )
    recipes = [Recipe.from_fields(fields) for fields in task.recipes]
    store = task.access.open(place)
    file = LayerFile(recipes[0].params) if task.parts else None
    try:
        hashed = hash_image_layer_by(store, layer, recipes, task.conversion, file=file)
        blobs = file.finish(hashed[0].image.tree) if file else {}
        for blob in blobs.values():
            _push(store, place, blob)
    finally:
        close = getattr(store, "close", None)
        if close:
            close()
    return LayerOutcome(
        task.digest,
        task.diff_id,
        tuple(one.image.root_hash for one in hashed),
        hashed[0].uncompressed_size,
        parts=tuple(PartBlob(part, blob.digest, blob.size, place) for part, blob in blobs.items()),
    )


def _push(store: Store, place: str, blob: LayerBlob) -> None:
    try:
        store.push(Descriptor(BLOB_TYPE, blob.digest, blob.size), blob.content)
    except TransientError:
        raise
    except RegistryError as error:  # another place would not help
        raise StorageError(
            f"the worker cannot push what nodes want beside the signature to {place}: {error}; "
            "give workers a login that may push, or --share-login"
        ) from error


def worker_facts(places: tuple[str, ...] = (), access: Access | None = None) -> dict[str, object]:
    """What ``fleet check`` asks of a worker: its version, core, processor, and what it reaches."""
    from dmsign_fast import VerityHasher, _core
    from dmsign_fast.verity.params import VerityParams

    hasher = VerityHasher(VerityParams(salt=bytes(32)))
    hasher.update(_VECTOR)
    unreached = {}
    for place in places:
        store = (access or Access()).open(place)
        try:
            if hasattr(store, "references"):
                store.references()
        except DmsignError as error:
            unreached[place] = str(error)
        finally:
            close = getattr(store, "close", None)
            if close:
                close()
    return {
        "host": worker_name(),
        "version": __version__,
        "implementation": _core.SHA256.chosen,
        "threads": _core.thread_count(None),
        "vector": hasher.finalize().root_hash.hex(),
        "unreached": unreached,
    }
