"""What a run has to do: references become images, and images become different layers."""

from __future__ import annotations

import functools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import DmsignError
from dmsign_fast.fleet.places import parse_reference
from dmsign_fast.fleet.rows import FoundImage, Listed, State
from dmsign_fast.oci.manifest import Manifest
from dmsign_fast.pipeline.image import image_layers, is_image, manifests_of
from dmsign_fast.pipeline.verify_image import VerifyOptions, verify_manifest
from dmsign_fast.trust.verdict import trust_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cryptography import x509

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.fleet.places import Places
    from dmsign_fast.fleet.state import FleetState
    from dmsign_fast.oci.manifest import Index
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.plan import SignOptions
    from dmsign_fast.pipeline.verify_image import ReferrerVerdict
    from dmsign_fast.signing.signer import Signer

__all__ = ["SignedBefore", "plan_fleet"]

_T = TypeVar("_T")
_R = TypeVar("_R")

_BATCH = 256  # references that are recorded in one step
_STEP = 5.0  # seconds after which fewer are, too


@dataclass(frozen=True)
class SignedBefore:
    """Tells which images need no new signature.

    Attributes:
        signer: whose signatures of root hashes count, and of manifests unless ``options`` name
            another.
        options: what they must be like.
        recipes: for each of which there must be one.
        renew_before: a signature that expires so soon does not count.
    """

    signer: Signer
    options: SignOptions
    recipes: Sequence[Recipe]
    renew_before: timedelta

    def __call__(self, store: Store, manifest: Manifest | Index) -> bool:
        """Whether valid signatures of these signers are there, for every form and recipe."""
        options = self.options
        signers = (self.signer, *options.and_by)
        of_manifest = options.manifest_signer or self.signer
        if options.force or not all(one.certificate_chain for one in (*signers, of_manifest)):
            return False
        if not store.referrers(manifest.descriptor):
            return False
        layers = options.dm_verity and is_image(manifest)
        if not layers and not options.manifest_signature:
            return True
        judge = functools.cache(functools.partial(self._accepted, store, manifest, layers=layers))
        bound: set[str | None] = set()
        if options.manifest_signature:
            notary = [
                one
                for one in judge(of_manifest.certificate_chain[0])
                if one.signature
                and one.signature.media_type == options.media_type
                and self._lasts(one.signature.expiry)
            ]
            if not notary:
                return False
            bound = {one.root_hashes for one in notary}
        if not layers:
            return True
        there = [
            (one.form, one.recipe)
            for one in judge(signers[0].certificate_chain[0])
            if one.kind == "dm-verity"
            and all(it.signature and it.signature.signers == len(signers) for it in one.layers)
            and (not options.manifest_signature or one.root_hashes in bound)
            # a message of several signers is accepted for each of them
            and all(
                one.digest in {it.digest for it in judge(by.certificate_chain[0])}
                for by in options.and_by
            )
        ]
        return all(
            (form, recipe.fields()) in there for form in options.forms for recipe in self.recipes
        )

    def _accepted(
        self, store: Store, manifest: Manifest | Index, leaf: x509.Certificate, *, layers: bool
    ) -> list[ReferrerVerdict]:
        """The signatures that count for who believes one certificate alone."""
        options = self.options
        verdict = verify_manifest(
            store,
            manifest,
            VerifyOptions(
                trust=trust_files(TrustAnchors((leaf,))),
                recipe=self.recipes[0],
                dm_verity=layers,
                manifest_signature=options.manifest_signature,
                user_metadata=options.user_metadata,
            ),
        )
        return [one for one in verdict.referrers if one.accepted]

    def _lasts(self, expiry: str | None) -> bool:
        if expiry is None:
            return self.options.expiry is None
        return datetime.fromisoformat(expiry) > datetime.now(UTC) + self.renew_before


def plan_fleet(
    state: FleetState,
    places: Places,
    *,
    layout: bool = False,
    platform: str | None = None,
    done: Callable[[Store, Manifest | Index], bool] = lambda _store, _manifest: False,
    dm_verity: bool = True,
    threads: int = 8,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Look up every reference of a run that is not looked up yet, and record what it stands for.

    An index is descended into, and is an image without layers itself. A tag is resolved once.

    Args:
        state: of the run, with its references.
        places: gives the stores.
        layout: whether references are of OCI layouts.
        platform: of an index, this manifest alone.
        done: whether a manifest needs nothing more.
        dm_verity: whether the layers count.
        threads: references that are looked up at a time.
        progress: called with the number of references since its last call.

    Raises:
        StorageError: the state cannot be written.
    """

    def look_up(source: tuple[int, str]) -> tuple[int, list[FoundImage], str | None]:
        number, reference = source
        try:
            place, wanted = parse_reference(reference, layout=layout)
            with places.use(place) as store:
                manifests = manifests_of(
                    store, wanted, platform=platform, recursive=platform is None
                )
                return (
                    number,
                    [_found(store, place, one, done, dm_verity) for one in manifests],
                    None,
                )
        except DmsignError as error:
            return number, [], str(error)

    pending = state.unresolved()
    batch: list[tuple[int, list[FoundImage], str | None]] = []
    written = time.monotonic()
    for found in _in_threads(look_up, pending, threads):
        batch.append(found)
        progress(1)
        if len(batch) >= _BATCH or time.monotonic() - written > _STEP:
            state.resolve(batch)
            batch, written = [], time.monotonic()
    if batch:
        state.resolve(batch)


def _in_threads(function: Callable[[_T], _R], items: Sequence[_T], threads: int) -> Iterator[_R]:
    """As map, some at a time, with no more of them begun than are taken soon."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            for first in range(0, len(items), _BATCH):
                yield from pool.map(function, items[first : first + _BATCH])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _found(
    store: Store,
    place: str,
    manifest: Manifest | Index,
    done: Callable[[Store, Manifest | Index], bool],
    dm_verity: bool,
) -> FoundImage:
    described = manifest.descriptor
    layers: tuple[Listed, ...] = ()
    if dm_verity and isinstance(manifest, Manifest) and is_image(manifest):
        layers = tuple(
            Listed(
                one.descriptor.digest, one.diff_id, one.descriptor.media_type, one.descriptor.size
            )
            for one in image_layers(store, manifest)
        )
    state = State.PASSED_OVER if done(store, manifest) else State.PLANNED
    return FoundImage(place, described.digest, described.media_type, described.size, layers, state)
