"""The values that the file of a run keeps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Counts", "FoundImage", "ImageRow", "LayerRow", "Listed", "PartBlob", "State"]


class State(StrEnum):
    """What became of an image."""

    PLANNED = "planned"
    PASSED_OVER = "signed before"
    SIGNED = "signed"
    VERIFIED = "verified"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Listed:
    """A layer as an image lists it."""

    digest: str
    diff_id: str
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A different layer of the run, and the places that have it."""

    id: int
    listed: Listed
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartBlob:
    """What a form has of a layer besides its signature: a value of forms.Part, and its blob."""

    part: str
    digest: str
    size: int
    place: str


@dataclass(frozen=True, slots=True)
class FoundImage:
    """A manifest that a reference stands for: where it is, its descriptor, layers and state."""

    place: str
    digest: str
    media_type: str
    size: int
    layers: tuple[Listed, ...]
    state: State


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image of the run.

    Attributes:
        id: in the file.
        reference: as it was asked for.
        place: its registry and repository, or the path of its layout.
        digest: of its manifest.
        media_type: of its manifest.
        size: of its manifest.
        layers: identifiers of its layers, in order.
        state: what became of it.
        reason: why it failed.
        added: digests of the referrers that it got.
        seconds: that signing and pushing took.
    """

    id: int
    reference: str
    place: str
    digest: str
    media_type: str
    size: int
    layers: tuple[int, ...]
    state: State
    reason: str | None
    added: tuple[str, ...]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a run is.

    Attributes:
        images: by what became of them.
        unresolved: references that are not looked up yet, and those that could not be.
        layers: different layers, those with all root hashes, those that failed.
        bytes: of the different layers, of those that are done, and of all layers of all images.
        began: seconds since the epoch.
        ended: the same; None while the run is unfinished.
        parameters: of the run.
    """

    images: Mapping[State, int]
    unresolved: tuple[int, int]
    layers: tuple[int, int, int]
    bytes: tuple[int, int, int]
    began: float
    ended: float | None
    parameters: Mapping[str, Any]
