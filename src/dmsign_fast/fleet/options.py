"""What is signed in a run, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from dmsign_fast.fleet.hashing import Limits
from dmsign_fast.fleet.places import Access

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.pipeline.plan import SignOptions

__all__ = ["FleetOptions"]


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
    pushes: int = 64
    renew_before: timedelta = timedelta(days=30)
    max_failures: int | None = None
    index: bool = True
    audit: float = 0.0
