"""Whose an EROFS image is: the layer of a signed image with that root hash."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.errors import FormatError
from dmsign_fast.oci.manifest import Manifest
from dmsign_fast.pipeline.export import LISTING
from dmsign_fast.pipeline.image import image_layers
from dmsign_fast.strict_json import Members, read_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.verify_image import ImageVerdict

__all__ = ["Whose", "listed_whose", "signed_whose"]

_LISTING_LIMIT = 16 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Whose:
    """A layer that has a root hash.

    Attributes:
        number: of the layer, from 0, the lowest.
        digest: of the layer.
        diff_id: of its contents.
        root_hash: hex.
        image: its repository and digest; of a list the digest alone.
        listed: the list that says so; None where a verified signature does.
    """

    number: int
    digest: str
    diff_id: str
    root_hash: str
    image: str
    listed: str | None = None

    @property
    def json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)

    def __str__(self) -> str:
        source = f", by {self.listed}" if self.listed else ""
        return (
            f"layer {self.number} of {self.image}: {self.digest}, diff ID {self.diff_id}, "
            f"root hash {self.root_hash}{source}"
        )


def signed_whose(store: Store, name: str, verdict: ImageVerdict, root_hash: str) -> Whose | None:
    """The layer of an image in whose accepted artifacts the root hash stands.

    Args:
        store: where the image is.
        name: its repository and digest.
        verdict: on the image.
        root_hash: that is looked for, hex.

    Raises:
        FormatError, RegistryError: the image cannot be read.
    """
    signed = {
        layer.layer
        for artifact in verdict.referrers
        if artifact.accepted
        for layer in artifact.layers
        if layer.root_hash == root_hash
    }
    manifest = store.resolve(verdict.manifest) if signed else None
    if not isinstance(manifest, Manifest):
        return None
    for number, layer in enumerate(image_layers(store, manifest)):
        if layer.descriptor.digest in signed:
            return Whose(number, layer.descriptor.digest, layer.diff_id, root_hash, name)
    return None


def listed_whose(image: Path, root_hash: str | None) -> Whose | None:
    """The layer that the list of an exported directory says a file holds.

    The root hash is hex; without it the name of the file is enough. The list is not signed; one
    that is not ours says nothing.
    """
    image = image.absolute()
    for directory in image.parents[:2]:
        with suppress(FormatError, OSError):
            for file, whose in _listed(directory / LISTING):
                if directory / file == image and root_hash in (None, whose.root_hash):
                    return whose
    return None


def _listed(path: Path) -> Iterator[tuple[str, Whose]]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        data = file.read(_LISTING_LIMIT)
    listing = Members(read_object(data, str(path)), ("manifest", "layers"), str(path))
    known = ("number", "digest", "diff_id", "root_hash", "image")
    for value in listing.array("layers"):
        one = Members(value, known, str(path))
        yield (
            one.text("image"),
            Whose(
                one.integer("number"),
                one.text("digest"),
                one.text("diff_id"),
                one.text("root_hash"),
                listing.text("manifest"),
                str(path),
            ),
        )
