"""How a run goes, for whoever shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dmsign_fast.fleet.rows import ImageRow

__all__ = ["FleetProgress"]


class FleetProgress:
    """Called as a run goes on; a subclass shows it."""

    def resolved(self, references: int) -> None:
        """So many more references are looked up."""

    def planned(self, images: int, layers: int, size: int) -> None:
        """So many images are to be signed, with so many layers to hash, of so many bytes."""

    def hashed(self, size: int) -> None:
        """A layer of so many bytes is done."""

    def warned(self, image: ImageRow, text: str) -> None:
        """An image is signed, and a node may not like what is there besides."""

    def finished(self, image: ImageRow, reason: str | None) -> None:
        """An image is signed, or failed for a reason."""
