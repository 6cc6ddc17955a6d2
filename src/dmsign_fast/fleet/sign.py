"""Sign many images: each different layer is hashed once, wherever it occurs.

Signing and pushing happen here, in the coordinator: no key leaves it. An image is signed as soon
as the root hashes of its layers are known.
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from dmsign_fast.envelope.pkcs7 import check_signer
from dmsign_fast.errors import DmsignError, ParameterError, VerificationError
from dmsign_fast.fleet.hashing import Hashing, Limits
from dmsign_fast.fleet.places import Access, Places
from dmsign_fast.fleet.plan import SignedBefore, plan_fleet
from dmsign_fast.fleet.progress import FleetProgress
from dmsign_fast.fleet.state import State
from dmsign_fast.fleet.task import LayerTask
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.pipeline.forms import form_of
from dmsign_fast.pipeline.plan import Plan, SignedLayer
from dmsign_fast.pipeline.sign_image import push_signed, sign_planned
from dmsign_fast.signing.signer import EnvelopeSigner

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from cryptography import x509

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.fleet.engine import Engine
    from dmsign_fast.fleet.state import FleetState, ImageRow, LayerRow
    from dmsign_fast.fleet.task import LayerOutcome
    from dmsign_fast.pipeline.plan import SignOptions
    from dmsign_fast.signing.scheme import KeySpec, Scheme
    from dmsign_fast.signing.signer import Signer

__all__ = ["FleetOptions", "RunPlan", "parameters_of", "plan_run", "sign_fleet"]

_ROOT_HASH = 128  # characters of the longest, which are what is signed
_SPEED = 400 * 10**6  # bytes of a gzip layer in a second


@dataclass(frozen=True, kw_only=True)
class FleetOptions:
    """What is signed in a run, and how.

    Attributes:
        sign: of each image; its recipe is the first of ``recipes``.
        recipes: each layer gets a root hash and a signature for each.
        layout: whether references are of OCI layouts.
        access: of the coordinator to registries.
        worker_access: of the workers; it has a login only if that is to be shared.
        limits: what is asked at a time.
        pushes: images that are signed and pushed at a time; most of them wait for the look at an
            index of referrers that a registry without the Referrers API needs.
        renew_before: signatures that expire so soon are made anew.
        max_failures: images after whose failure the run stops; None is no limit.
        index: whether root hashes of earlier runs in the same file are taken.
        audit: the part of these, 0 to 1, that is hashed again and compared.
    """

    sign: SignOptions
    recipes: Sequence[Recipe]
    layout: bool = False
    access: Access = field(default_factory=Access)
    worker_access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    pushes: int = 32
    renew_before: timedelta = timedelta(days=30)
    max_failures: int | None = None
    index: bool = True
    audit: float = 0.0


@dataclass(frozen=True)
class RunPlan:
    """What a run has to do.

    Attributes:
        distinct: different layers of the images to sign.
        layers: of these, that must be read.
        size: bytes of these, as they are stored.
        seconds: that one worker would take.
        basis: what that is by, where it is not by the file's own runs.
    """

    distinct: int
    layers: int
    size: int
    seconds: float
    basis: str


def parameters_of(signer: Signer, options: FleetOptions) -> dict[str, Any]:
    """What must be the same when a run is resumed; no secret is among it."""
    from cryptography.hazmat.primitives.hashes import SHA256

    return {
        "command": "sign",
        "signer": [one.fingerprint(SHA256()).hex() for one in signer.certificate_chain[:1]],
        "recipes": [recipe.fields() for recipe in options.recipes],
        "artifact": list(options.sign.forms),
        "signature-format": options.sign.media_type,
        "layout": options.layout,
        "dm-verity": options.sign.dm_verity,
        "manifest-signature": options.sign.manifest_signature,
        "user-metadata": dict(options.sign.user_metadata),
        "platform": options.sign.platform,
    }


def plan_run(
    state: FleetState,
    references: Iterable[str],
    signer: Signer,
    options: FleetOptions,
    *,
    resume: bool = False,
    progress: FleetProgress | None = None,
) -> RunPlan:
    """Look up all references, and say what sign_fleet would do; it is sign_fleet's first half.

    Raises:
        As sign_fleet.
    """
    if options.sign.dm_verity:
        check_signer(signer, options.sign.pkcs7_digest, certificates=options.sign.certificates)
        for form in map(form_of, options.sign.forms):
            if form.parts:
                raise ParameterError(
                    f"the form {form.name} has more of each layer than its signature, which "
                    "workers do not send: sign such images one by one, with sign"
                )
    if state.begin(parameters_of(signer, options), resume=resume):
        state.reset_failures()
    elif not options.index:
        state.forget_root_hashes()
    state.add_sources(references)
    if not state.has_sources():
        raise ParameterError("there are no references: name images, or give --from FILE")
    places = Places(options.access.open)
    try:
        plan_fleet(
            state,
            places,
            layout=options.layout,
            platform=options.sign.platform,
            done=SignedBefore(signer, options.sign, options.recipes, options.renew_before),
            dm_verity=options.sign.dm_verity,
            progress=(progress or FleetProgress()).resolved,
        )
    finally:
        places.close()
    known = [state.root_hashes(state.recipe(one.fields())) for one in options.recipes]
    layers = state.layers()
    todo = [layer for layer in layers if not all(layer.id in roots for roots in known)]
    size = sum(layer.listed.size for layer in todo)
    speed = state.speed()
    basis = "" if speed else f", if it reads {_SPEED // 10**6} MB/s as gzip layers usually are"
    return RunPlan(len(layers), len(todo), size, size / (speed or _SPEED), basis)


def sign_fleet(
    state: FleetState,
    references: Iterable[str],
    signer: Signer,
    options: FleetOptions,
    engine: Engine,
    *,
    resume: bool = False,
    progress: FleetProgress | None = None,
) -> None:
    """Sign what references name; ``state.counts()`` says what became of them.

    A failed image or layer never stops the others, but for ``max_failures``.

    Args:
        state: a new file, a finished run's, or an unfinished run's with ``resume``.
        references: to images; with ``resume`` those of the file and these.
        signer: of the root hashes and manifests.
        options: what and how.
        engine: hashes the layers.
        resume: go on with an unfinished run, and try again what failed.
        progress: is told how the run goes.

    Raises:
        ParameterError: no references, or the file holds another unfinished run.
        StorageError: the file cannot be written.
        SigningError: such a key cannot sign this.
        VerificationError: an audited layer has another root hash than the file says.
        ProgramError: the workers are gone.
    """
    progress = progress or FleetProgress()
    plan_run(state, references, signer, options, resume=resume, progress=progress)
    places = Places(options.access.open)
    try:
        if _Run(state, signer, options, engine, places, progress).go():
            state.end()
    finally:
        places.close()


class _Remembering:
    """A Signer that signs each root hash once in a run: a layer is in many images.

    A key in a cloud costs time and money for each signature.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._made: dict[tuple[bytes, Scheme], bytes] = {}

    @property
    def key_spec(self) -> KeySpec:
        return self._signer.key_spec

    @property
    def certificate_chain(self) -> tuple[x509.Certificate, ...]:
        return self._signer.certificate_chain

    def sign(self, message: bytes, scheme: Scheme) -> bytes:
        if len(message) > _ROOT_HASH:  # of a manifest: no other is the same
            return self._signer.sign(message, scheme)
        key = (message, scheme)
        if key not in self._made:
            self._made[key] = self._signer.sign(message, scheme)
        return self._made[key]


class _Run:
    """The part of a run behind its plan."""

    def __init__(
        self,
        state: FleetState,
        signer: Signer,
        options: FleetOptions,
        engine: Engine,
        places: Places,
        progress: FleetProgress,
    ) -> None:
        self._state, self._options = state, options
        self._signer = signer if isinstance(signer, EnvelopeSigner) else _Remembering(signer)
        self._engine, self._places, self._progress = engine, places, progress
        self._recipes = [state.recipe(recipe.fields()) for recipe in options.recipes]
        self._known = [state.root_hashes(number) for number in self._recipes]
        self._layers: dict[int, LayerRow] = {}
        self._waiting: dict[int, list[int]] = {}  # images by layer
        self._missing: dict[int, int] = {}  # layers by image
        self._images: dict[int, ImageRow] = {}
        self._pushing: dict[Future[tuple[str, ...]], tuple[ImageRow, float]] = {}
        self._key = threading.Lock()
        self._failures = 0

    def go(self) -> bool:
        """Do all that is left; whether nothing is, but for what failed."""
        self._images = {image.id: image for image in self._state.images(State.PLANNED)}
        self._layers = {layer.id: layer for layer in self._state.layers()}
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
            self._engine, ((layer.id, self._task(layer)) for layer in rows), self._options.limits
        )
        pool = ThreadPoolExecutor(self._options.pushes)
        try:
            ready = [image for image in self._images.values() if not self._missing[image.id]]
            for image in ready:
                self._push(pool, image)
            while hashing or self._pushing:
                if self._too_many():
                    break
                for number, outcome in hashing.take([*self._pushing]):
                    for image in self._hashed(number, outcome):
                        self._push(pool, image)
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
        return all(layer in known for known in self._known)

    def _audit(self, todo: set[int]) -> None:
        """Compare a random part of the root hashes that the file has with the layers."""
        known = [number for number in self._layers if number not in todo]
        count = min(len(known), round(self._options.audit * len(known) + 0.5))
        if not self._options.audit or not count:
            return
        chosen = random.SystemRandom().sample(known, count)
        hashing = Hashing(
            self._engine,
            ((number, self._task(self._layers[number])) for number in chosen),
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

    def _task(self, layer: LayerRow) -> LayerTask:
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
        )
        for known, root_hash in zip(self._known, outcome.root_hashes, strict=True):
            known[number] = root_hash
        self._progress.hashed(listed.size)
        ready = []
        for image in waiting:
            self._missing[image] -= 1
            if not self._missing[image] and image in self._images:
                ready.append(self._images[image])
        return ready

    def _push(self, pool: ThreadPoolExecutor, image: ImageRow) -> None:
        future = pool.submit(self._sign, image)
        self._pushing[future] = (image, time.monotonic())

    def _sign(self, image: ImageRow) -> tuple[str, ...]:
        with self._places.use(image.place) as store:
            added: list[str] = []
            artifacts = []
            signed = None
            for recipe, known in zip(self._options.recipes, self._known, strict=True):
                plan = self._plan(image, known)
                options = replace(self._options.sign, recipe=recipe)
                with self._key:  # not every provider's key can be used by several threads
                    signed, made = sign_planned(store, plan, self._signer, options)
                artifacts += made
                if not image.layers:
                    break
            assert signed is not None  # noqa: S101
            push_signed(store, [(signed, artifacts)])
            added = [str(one.manifest.descriptor.digest) for one in artifacts]
        return tuple(added)

    def _plan(self, image: ImageRow, known: Mapping[int, bytes]) -> Plan:
        layers = []
        for number in image.layers:
            listed = self._layers[number].listed
            layers.append(
                SignedLayer(
                    Digest(listed.digest), Digest(listed.diff_id), listed.size, known[number]
                )
            )
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
            error = future.exception()
            if error is None:
                self._state.image_done(
                    image.id, State.SIGNED, future.result(), time.monotonic() - began
                )
                self._progress.finished(image, None)
            elif isinstance(error, DmsignError):
                self._fail(image, str(error))
            else:
                raise error

    def _fail(self, image: ImageRow, reason: str) -> None:
        self._failures += 1
        self._state.image_failed(image.id, reason)
        self._progress.finished(image, reason)
