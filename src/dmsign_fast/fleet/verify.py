"""Verify many images: signatures here, root hashes of a part of them by the workers."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dmsign_fast.errors import DmsignError, ParameterError
from dmsign_fast.fleet.hashing import Hashing, Limits
from dmsign_fast.fleet.places import Access, Places
from dmsign_fast.fleet.plan import plan_fleet
from dmsign_fast.fleet.progress import FleetProgress
from dmsign_fast.fleet.rows import State
from dmsign_fast.fleet.task import LayerTask
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.manifest import Manifest
from dmsign_fast.pipeline.artifact import blobs_of
from dmsign_fast.pipeline.forms import form_of
from dmsign_fast.pipeline.layers import Conversion
from dmsign_fast.pipeline.node_check import node_problems
from dmsign_fast.pipeline.published import check_parts
from dmsign_fast.pipeline.verify_image import verify_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.fleet.engine import Engine
    from dmsign_fast.fleet.rows import ImageRow
    from dmsign_fast.fleet.state import FleetState
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.nodes import Node
    from dmsign_fast.pipeline.verify_image import ImageVerdict, VerifyOptions

__all__ = ["FleetVerifyOptions", "verify_fleet"]

_BATCH = 1024


@dataclass(frozen=True, kw_only=True)
class FleetVerifyOptions:
    """What verified images need.

    Attributes:
        verify: gives what an image of a place needs; without ``deep``, which is this run's own.
        recipe: for artifacts that record none.
        deep: the part of the images, 0 to 1, whose root hashes are made again; chosen by chance.
        platform: of an index, this manifest alone.
        dm_verity: whether layers must be signed.
        layout: whether references are of OCI layouts.
        access: of the coordinator to registries.
        worker_access: of the workers; it has a login only if that is to be shared.
        limits: what is asked at a time.
        conversion: of layers that are hashed again.
        threads: images at a time.
        node: must take the images, None if that does not matter.
        parameters: what must be the same when a run is resumed.
    """

    verify: Callable[[str], VerifyOptions]
    recipe: Recipe
    deep: float = 0.0
    platform: str | None = None
    dm_verity: bool = True
    layout: bool = False
    access: Access = field(default_factory=Access)
    worker_access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    conversion: Conversion = field(default_factory=Conversion)
    threads: int = 8
    node: Node | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def verify_fleet(
    state: FleetState,
    references: Iterable[str],
    options: FleetVerifyOptions,
    engine: Callable[[], Engine],
    *,
    resume: bool = False,
    progress: FleetProgress | None = None,
) -> None:
    """Verify what references name; ``state.counts()`` says what became of them.

    Args:
        state: a new file, a finished run's, or an unfinished run's with ``resume``.
        references: to images; with ``resume`` those of the file and these.
        options: what the images need.
        engine: opens workers, which are needed for ``deep`` alone.
        resume: go on with an unfinished run, and try again what failed.
        progress: is told how the run goes.

    Raises:
        ParameterError: no references, or the file holds another unfinished run.
        StorageError: the file cannot be written.
        ProgramError: the workers are gone.
    """
    progress = progress or FleetProgress()
    if state.begin({**options.parameters, "command": "verify"}, resume=resume):
        state.reset_failures()
    state.add_sources(references)
    places = Places(options.access.open)
    try:
        if not state.has_sources():
            raise ParameterError("there are no references: name images, or give --from FILE")
        plan_fleet(
            state,
            places,
            layout=options.layout,
            platform=options.platform,
            dm_verity=options.dm_verity,
            progress=progress.resolved,
        )
        _Check(state, options, engine, places, progress).go()
        state.end()
    finally:
        places.close()


class _Check:
    def __init__(
        self,
        state: FleetState,
        options: FleetVerifyOptions,
        engine: Callable[[], Engine],
        places: Places,
        progress: FleetProgress,
    ) -> None:
        self._state, self._options, self._engine = state, options, engine
        self._places, self._progress = places, progress
        # the images that claim a root hash, by layer and recipe, for those that are read again
        self._claims: dict[str, dict[str, list[tuple[ImageRow, str]]]] = {}
        self._recipes: dict[str, Mapping[str, str]] = {}
        self._good_parts: set[tuple[str, ...]] = set()

    def go(self) -> None:
        images = list(self._state.images(State.PLANNED))
        chance = random.SystemRandom()
        count = min(len(images), round(self._options.deep * len(images) + 0.499999))
        chosen = {image.id for image in chance.sample(images, count)}
        self._progress.planned(len(images), 0, 0)
        with ThreadPoolExecutor(self._options.threads) as pool:
            for first in range(0, len(images), _BATCH):
                begun = {
                    pool.submit(self._verify, image, image.id in chosen): image
                    for image in images[first : first + _BATCH]
                }
                for future in as_completed(begun):
                    self._judge(begun[future], future.result(), begun[future].id in chosen)
        if self._claims:
            self._read_again()

    def _verify(self, image: ImageRow, deep: bool) -> tuple[ImageVerdict | None, str, float]:
        began = time.monotonic()
        try:
            options = self._options.verify(image.place)
            with self._places.use(image.place) as store:
                described = Descriptor(image.media_type, Digest(image.digest), image.size)
                manifest = store.fetch_manifest(described)
                verdict = verify_manifest(store, manifest, options)
                if deep and verdict.passed:
                    self._check_parts(store, verdict)
                reason = _reason(verdict)
                if self._options.node and not reason:
                    problems = node_problems(store, verdict, self._options.node)
                    reason = "; ".join(problems)
        except DmsignError as error:
            return None, str(error), time.monotonic() - began
        return verdict, reason, time.monotonic() - began

    def _check_parts(self, store: Store, verdict: ImageVerdict) -> None:
        """Check what artifacts have of layers besides signatures; the same parts once in the run.

        Raises:
            VerificationError, FormatError: a root hash does not cover them.
        """
        for one in verdict.referrers:
            form = form_of(one.form) if one.form else None
            if not (one.accepted and form and form.parts):
                continue
            manifest = store.resolve(one.digest)
            assert isinstance(manifest, Manifest)  # noqa: S101
            parts = blobs_of(form, manifest, {Digest(it.layer) for it in one.layers})
            for layer in one.layers:
                of_layer = parts[Digest(layer.layer)]
                key = (layer.root_hash, *sorted(it.digest for it in of_layer.values()))
                if key not in self._good_parts:
                    check_parts(store, of_layer, bytes.fromhex(layer.root_hash))
                    self._good_parts.add(key)

    def _judge(
        self,
        image: ImageRow,
        found: tuple[ImageVerdict | None, str, float],
        deep: bool,
    ) -> None:
        verdict, reason, seconds = found
        if verdict is None or reason:
            self._state.image_failed(image.id, reason)
            self._progress.finished(image, reason)
            return
        if deep and self._claim(image, verdict):
            return
        self._state.image_done(image.id, State.VERIFIED, seconds=seconds)
        self._progress.finished(image, None)

    def _claim(self, image: ImageRow, verdict: ImageVerdict) -> bool:
        """Note what the image's good signatures say of its layers; whether they say anything."""
        claims = False
        for one in verdict.referrers:
            if not (one.accepted and one.kind == "dm-verity"):
                continue
            recipe = one.recipe or self._options.recipe.fields()
            name = repr(sorted(recipe.items()))
            self._recipes[name] = recipe
            for layer in one.layers:
                of_layer = self._claims.setdefault(layer.layer, {})
                of_layer.setdefault(name, []).append((image, layer.root_hash))
                claims = True
        return claims

    def _read_again(self) -> None:
        """Compare what was claimed with the layers; each layer is read once for all images."""
        rows = [row for row in self._state.layers() if row.listed.digest in self._claims]
        self._progress.planned(0, len(rows), sum(row.listed.size for row in rows))
        images = {
            image.id: image
            for of_layer in self._claims.values()
            for claims in of_layer.values()
            for image, _ in claims
        }
        problems: dict[int, str] = {}
        names = {row.id: list(self._claims[row.listed.digest]) for row in rows}
        by_id = {row.id: row for row in rows}
        tasks = [
            (
                row.id,
                LayerTask(
                    row.listed.digest,
                    row.listed.size,
                    row.listed.diff_id,
                    row.listed.media_type,
                    row.places,
                    tuple(self._recipes[name] for name in names[row.id]),
                    self._options.conversion,
                    self._options.worker_access,
                ),
            )
            for row in rows
        ]
        hashing = Hashing(self._engine, tasks, self._options.limits)
        try:
            while hashing:
                for number, outcome in hashing.take():
                    listed = by_id[number].listed
                    claims = self._claims[listed.digest]
                    roots = dict(
                        zip(names[number], (one.hex() for one in outcome.root_hashes), strict=False)
                    )
                    for name in names[number]:
                        for image, root_hash in claims[name]:
                            if outcome.failure:
                                problems.setdefault(
                                    image.id, f"layer {listed.digest}: {outcome.failure}"
                                )
                            elif roots[name] != root_hash:
                                problems.setdefault(
                                    image.id,
                                    f"layer {listed.digest} has the root hash {roots[name]}, and "
                                    f"{root_hash} is signed",
                                )
                    self._progress.hashed(listed.size)
        finally:
            hashing.cancel()
        for number, image in images.items():
            if reason := problems.get(number):
                self._state.image_failed(number, reason)
            else:
                self._state.image_done(number, State.VERIFIED)
            self._progress.finished(image, reason)


def _reason(verdict: ImageVerdict) -> str:
    if verdict.passed:
        return ""
    refused = [one.problem for one in verdict.referrers if one.problem]
    missing = " and ".join(verdict.missing)
    if not verdict.referrers:
        return f"it has no {missing} signature"
    return f"no {missing} signature is valid and trusted: {'; '.join(refused)}"
