"""Sign many images: each different layer is hashed once, wherever it occurs.

Signing and pushing happen here, in the coordinator: no key leaves it. An image is signed as soon
as the root hashes of its layers are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsign_fast.envelope.notary import check_manifest_signer
from dmsign_fast.envelope.pkcs7 import check_signers
from dmsign_fast.errors import ParameterError
from dmsign_fast.fleet.engine import Engine
from dmsign_fast.fleet.options import FleetOptions
from dmsign_fast.fleet.places import Places
from dmsign_fast.fleet.plan import SignedBefore, plan_fleet
from dmsign_fast.fleet.progress import FleetProgress
from dmsign_fast.fleet.run import SigningRun
from dmsign_fast.pipeline.forms import form_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Any

    from dmsign_fast.fleet.state import FleetState
    from dmsign_fast.signing.signer import Signer

__all__ = ["RunPlan", "parameters_of", "plan_run", "sign_fleet"]

_SPEED = 400 * 10**6  # bytes of a gzip layer in a second


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
    return {
        "command": "sign",
        "signer": _leaves(signer),
        "and-signer": [_leaves(one) for one in options.sign.and_by],
        "manifest-signer": _leaves(options.sign.manifest_signer or signer),
        "digest": options.sign.pkcs7_digest,
        "certificates": options.sign.certificates,
        "recipes": [recipe.fields() for recipe in options.recipes],
        "artifact": list(options.sign.forms),
        "signature-format": options.sign.media_type,
        "layout": options.layout,
        "dm-verity": options.sign.dm_verity,
        "manifest-signature": options.sign.manifest_signature,
        "user-metadata": dict(options.sign.user_metadata),
        "platform": options.sign.platform,
    }


def _leaves(signer: Signer) -> list[str]:
    from cryptography.hazmat.primitives.hashes import SHA256

    return [one.fingerprint(SHA256()).hex() for one in signer.certificate_chain[:1]]


def _check_options(signer: Signer, options: FleetOptions) -> None:
    """Raise ParameterError or SigningError for what no image could be signed with."""
    sign = options.sign
    if sign.dm_verity:
        check_signers(signer, sign.and_by, sign.pkcs7_digest, certificates=sign.certificates)
        for form in map(form_of, sign.forms):
            for recipe in options.recipes:
                if misfit := form.misfit(recipe):
                    raise ParameterError(f"{misfit}: use another --recipe, or another --artifact")
            if form.parts and len(options.recipes) > 1:
                raise ParameterError(
                    f"the form {form.name} goes with one recipe, and a node refuses images that "
                    "have several of it: give one --recipe"
                )
    if sign.manifest_signature:
        check_manifest_signer(sign.manifest_signer or signer)


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
    _check_options(signer, options)
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
    recipes = [state.recipe(one.fields()) for one in options.recipes]
    known: list[Collection[int]] = [state.root_hashes(recipe) for recipe in recipes]
    if options.sign.parts:
        known.append(state.parts(recipes[0]))
    layers = state.layers()
    todo = [layer for layer in layers if not all(layer.id in some for some in known)]
    size = sum(layer.listed.size for layer in todo)
    speed = state.speed()
    basis = "" if speed else f", if it reads {_SPEED // 10**6} MB/s as gzip layers usually are"
    return RunPlan(len(layers), len(todo), size, size / (speed or _SPEED), basis)


def sign_fleet(
    state: FleetState,
    references: Iterable[str],
    signer: Signer,
    options: FleetOptions,
    engine: Engine | Callable[[], Engine],
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
        engine: hashes the layers; or what gives it, which is called if there are any.
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
        opened = (lambda: engine) if isinstance(engine, Engine) else engine
        if SigningRun(state, signer, options, opened, places, progress).go():
            state.end()
    finally:
        places.close()
