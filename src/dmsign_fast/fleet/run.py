"""The part of a signing run behind its plan: layers to workers, images to registries."""

from __future__ import annotations

import random
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from dmsign_fast.errors import DmsignError, VerificationError
from dmsign_fast.fleet.hashing import Hashing
from dmsign_fast.fleet.keys import Keys
from dmsign_fast.fleet.parts import Parts
from dmsign_fast.fleet.progress import FleetProgress
from dmsign_fast.fleet.rows import State
from dmsign_fast.fleet.task import LayerTask
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.pipeline.plan import Plan, SignedLayer
from dmsign_fast.pipeline.sign_image import check_same, push_signed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dmsign_fast.fleet.engine import Engine
    from dmsign_fast.fleet.options import FleetOptions
    from dmsign_fast.fleet.places import Places
    from dmsign_fast.fleet.rows import ImageRow, LayerRow
    from dmsign_fast.fleet.state import FleetState
    from dmsign_fast.fleet.task import LayerOutcome
    from dmsign_fast.pipeline.plan import SignedImage
    from dmsign_fast.signing.signer import Signer

__all__ = ["SigningRun"]


class SigningRun:
    """The part of a run behind its plan."""

    def __init__(
        self,
        state: FleetState,
        signer: Signer,
        options: FleetOptions,
        engine: Callable[[], Engine],
        places: Places,
        progress: FleetProgress,
    ) -> None:
        self._state, self._options = state, options
        self._keys = Keys(signer, options.sign)
        self._engine, self._places, self._progress = engine, places, progress
        self._recipes = [state.recipe(recipe.fields()) for recipe in options.recipes]
        self._known = [state.root_hashes(number) for number in self._recipes]
        self._parts = Parts(places, state.parts(self._recipes[0]) if options.sign.parts else None)
        self._layers: dict[int, LayerRow] = {}
        self._waiting: dict[int, list[int]] = {}  # images by layer
        self._missing: dict[int, int] = {}  # layers by image
        self._images: dict[int, ImageRow] = {}
        self._ready: deque[ImageRow] = deque()
        self._pushing: dict[Future[list[SignedImage]], tuple[ImageRow, float]] = {}
        self._failures = 0

    def go(self) -> bool:
        """Do all that is left; whether nothing is, but for what failed."""
        self._images = {image.id: image for image in self._state.images(State.PLANNED)}
        self._layers = {layer.id: layer for layer in self._state.layers()}
        self._parts.drop_missing(self._layers)
        todo = {number for number in self._layers if not self._has(number)}
        for image in self._images.values():
            missing = todo.intersection(image.layers)
            self._missing[image.id] = len(missing)
            for layer in missing:
                self._waiting.setdefault(layer, []).append(image.id)
        self._audit(todo)
        rows = [layer for layer in self._layers.values() if layer.id in todo]
        self._progress.planned(
            len(self._images), len(rows), sum(layer.listed.size for layer in rows)
        )
        hashing = Hashing(
            self._engine,
            ((layer.id, self._task(layer, parts=self._parts.wanted)) for layer in rows),
            self._options.limits,
        )
        pool = ThreadPoolExecutor(self._options.pushes)
        try:
            self._ready.extend(one for one in self._images.values() if not self._missing[one.id])
            while hashing or self._pushing or self._ready:
                if self._too_many():
                    break
                # few at a time: each wait looks at all of them
                while self._ready and len(self._pushing) < 2 * self._options.pushes:
                    image = self._ready.popleft()
                    self._pushing[pool.submit(self._sign, image)] = (image, time.monotonic())
                for number, outcome in hashing.take([*self._pushing]):
                    self._ready.extend(self._hashed(number, outcome))
                self._collect(block=False)
        except BaseException:
            hashing.cancel()
            pool.shutdown(wait=True, cancel_futures=True)
            self._collect(block=False)
            raise
        pool.shutdown(wait=True, cancel_futures=True)
        hashing.cancel()
        self._collect(block=True)
        return not self._too_many()

    def _too_many(self) -> bool:
        most = self._options.max_failures
        return most is not None and self._failures > most

    def _has(self, layer: int) -> bool:
        return all(layer in known for known in self._known) and layer in self._parts

    def _audit(self, todo: set[int]) -> None:
        """Compare a random part of the root hashes that the file has with the layers."""
        known = [number for number in self._layers if number not in todo]
        count = min(len(known), round(self._options.audit * len(known) + 0.5))
        if not self._options.audit or not count:
            return
        chosen = random.SystemRandom().sample(known, count)
        hashing = Hashing(
            self._engine,
            ((number, self._task(self._layers[number], parts=False)) for number in chosen),
            self._options.limits,
        )
        try:
            while hashing:
                for number, outcome in hashing.take():
                    listed = self._layers[number].listed
                    if outcome.failure:
                        raise VerificationError(
                            f"layer {listed.digest} cannot be audited: {outcome.failure}"
                        )
                    if list(outcome.root_hashes) != [known_[number] for known_ in self._known]:
                        raise VerificationError(
                            f"layer {listed.digest} has another root hash than {self._state.path} "
                            "says: somebody changed the file, or another converter wrote it; "
                            "nothing more is signed, run again with --no-index"
                        )
        finally:
            hashing.cancel()

    def _task(self, layer: LayerRow, *, parts: bool) -> LayerTask:
        listed = layer.listed
        return LayerTask(
            listed.digest,
            listed.size,
            listed.diff_id,
            listed.media_type,
            layer.places,
            tuple(recipe.fields() for recipe in self._options.recipes),
            self._options.sign.conversion,
            self._options.worker_access,
            parts,
        )

    def _hashed(self, number: int, outcome: LayerOutcome) -> list[ImageRow]:
        """Record what came of a layer; the images that have all their layers by it."""
        waiting = self._waiting.pop(number, [])
        listed = self._layers[number].listed
        if outcome.failure:
            self._state.layer_failed(number, outcome.failure)
            for image in waiting:
                if image in self._images:
                    self._fail(self._images.pop(image), f"layer {listed.digest}: {outcome.failure}")
            return []
        roots = dict(zip(self._recipes, outcome.root_hashes, strict=True))
        self._state.hashed(
            number,
            roots,
            uncompressed_size=outcome.uncompressed_size,
            seconds=outcome.seconds,
            host=outcome.host,
            parts=outcome.parts,
        )
        self._parts.add(number, outcome.parts)
        for known, root_hash in zip(self._known, outcome.root_hashes, strict=True):
            known[number] = root_hash
        self._progress.hashed(listed.size)
        ready = []
        for image in waiting:
            self._missing[image] -= 1
            if not self._missing[image] and image in self._images:
                ready.append(self._images[image])
        return ready

    def _sign(self, image: ImageRow) -> list[SignedImage]:
        recipes = list(zip(self._options.recipes, self._known, strict=True))
        made = []
        self._parts.check({number: self._known[0][number] for number in image.layers})
        with self._places.use(image.place) as store:
            # without layers all recipes are the same
            for recipe, known in recipes if image.layers else recipes[:1]:
                made.append(self._keys.sign(store, self._plan(image, known), recipe))
            for number in dict.fromkeys(image.layers):
                self._parts.bring(number, store, image.place)
            # what one recipe would replace may be what another has made
            kept = {one.digest for signed, _ in made for one in signed.artifacts.values()}
            for at, (signed, artifacts) in enumerate(made):
                removed = tuple(one for one in signed.removed if one.digest not in kept)
                made[at] = (replace(signed, removed=removed), artifacts)
            return push_signed(store, made)

    def _plan(self, image: ImageRow, known: Mapping[int, bytes]) -> Plan:
        layers = []
        for number in image.layers:
            listed = self._layers[number].listed
            layers.append(
                SignedLayer(
                    Digest(listed.digest),
                    Digest(listed.diff_id),
                    listed.size,
                    known[number],
                    blobs=self._parts.blobs(number),
                )
            )
        check_same("root hash", ((layer.digest, layer.root_hash.hex()) for layer in layers))
        manifest = Descriptor(image.media_type, Digest(image.digest), image.size)
        return Plan(manifest, tuple(layers))

    def _collect(self, *, block: bool) -> None:
        """Record what came of images that were pushed."""
        for future in list(self._pushing):
            if not block and not future.done():
                continue
            image, began = self._pushing.pop(future)
            self._images.pop(image.id, None)
            if future.cancelled():
                continue
            while self._parts.useless:
                self._state.forget_parts(self._parts.useless.pop())
            error = future.exception()
            if error is None:
                signed = future.result()
                added = [str(new.digest) for one in signed for new in one.added]
                self._state.image_done(image.id, State.SIGNED, added, time.monotonic() - began)
                for text in dict.fromkeys(text for one in signed for text in one.warnings):
                    self._progress.warned(image, text)
                self._progress.finished(image, None)
            elif isinstance(error, DmsignError):
                self._fail(image, str(error))
            else:
                raise error

    def _fail(self, image: ImageRow, reason: str) -> None:
        self._failures += 1
        self._state.image_failed(image.id, reason)
        self._progress.finished(image, reason)
