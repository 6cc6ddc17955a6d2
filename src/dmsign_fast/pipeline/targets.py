"""What takes the files of a signed image, and by which names: one table, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from dmsign_fast.erofs.recipe import ImageLayout, UuidRule
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.oci.descriptor import Digest

__all__ = ["TARGETS", "Kind", "Target", "target_of"]


class Kind(StrEnum):
    """What a file holds of a layer."""

    IMAGE = "image"
    """The EROFS image, filled up with zeros to whole data blocks."""
    HASH_FILE = "hash_file"
    """Superblock and hash area; without such a file they stand behind the image."""
    ROOT_HASH = "root_hash_file"
    """The root hash as hex text without a newline."""
    SIGNATURE = "signature_file"
    """The PKCS#7 over the root hash, in DER."""
    SIDECAR = "sidecar"
    """containerd's JSON: the root hash, and where the superblock is in the image."""
    VERITY_SIG = "verity_sig_file"
    """systemd's JSON: root hash, fingerprint of the signer's certificate, signature."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What takes the files.

    Attributes:
        name: as users give it.
        files: of a layer, by their names below the directory. In the names stand ``{number}``, of
            the layer, from 0; ``{algorithm}`` and ``{diff}``, of its diff ID; ``{two}``, the first
            two digits of ``{diff}``.
        listing: whether there is a list of the layers beside them.
        layout: of the images; None for any.
        uuid: of which the images' UUIDs must be made; None for any.
        native: whether it takes layers that are EROFS images.
    """

    name: str
    files: Mapping[Kind, str]
    listing: bool = True
    layout: ImageLayout | None = None
    uuid: UuidRule | None = None
    native: bool = True

    def names(self, number: int, diff_id: Digest) -> dict[Kind, str]:
        """The names of a layer's files."""
        diff = diff_id.encoded
        values = {
            "number": number,
            "algorithm": diff_id.algorithm,
            "diff": diff,
            "two": diff[:2],
        }
        return {kind: name.format_map(values) for kind, name in self.files.items()}

    def misfit(self, recipe: Recipe) -> str | None:
        """Why it does not take what a recipe makes; None if it does."""
        if self.layout not in (None, recipe.layout):
            return (
                f"{self.name} reads EROFS images of the layout {self.layout.value} alone, and the "
                f"recipe {recipe.name} makes {recipe.layout.value}"
            )
        if self.uuid not in (None, recipe.uuid):
            return (
                f"{self.name} has images with UUIDs of the {self.uuid.value}, and the recipe "
                f"{recipe.name} makes others: sign with --recipe containerd-cache"
            )
        return None


TARGETS = (
    Target(
        name="veritysetup",
        files={
            Kind.IMAGE: "layer-{number}.erofs",
            Kind.HASH_FILE: "layer-{number}.verity",
            Kind.ROOT_HASH: "layer-{number}.roothash",
            Kind.SIGNATURE: "layer-{number}.roothash.p7s",
        },
    ),
    # containerd, plugins/snapshots/erofs; the signature is that of its branch and of Azure Linux
    Target(
        name="containerd",
        files={
            Kind.IMAGE: "{number}/layer.erofs",
            Kind.SIDECAR: "{number}/layer.erofs.dmverity",
            Kind.SIGNATURE: "{number}/layer.erofs.sig",
        },
    ),
    # containerd, internal/erofsutils, CacheBlobPath
    Target(
        name="containerd-cache",
        files={
            Kind.IMAGE: "{algorithm}/{two}/{diff}.erofs",
            Kind.SIDECAR: "{algorithm}/{two}/{diff}.erofs.dmverity",
        },
        listing=False,
        layout=ImageLayout.FULL,
        uuid=UuidRule.DIFF_ID,
        native=False,
    ),
    # systemd, src/shared/dissect-image.c, verity_settings_load() and the signature partition. The
    # libblkid of Debian 13, by which it looks at images, knows no EROFS in blocks of 512 bytes.
    Target(
        name="systemd",
        layout=ImageLayout.FULL,
        files={
            Kind.IMAGE: "layer-{number}.raw",
            Kind.HASH_FILE: "layer-{number}.verity",
            Kind.ROOT_HASH: "layer-{number}.roothash",
            Kind.SIGNATURE: "layer-{number}.roothash.p7s",
            Kind.VERITY_SIG: "layer-{number}.verity-sig.json",
        },
    ),
)


def target_of(name: str) -> Target:
    """The target of that name; ParameterError, with those there are, without one."""
    for target in TARGETS:
        if target.name == name:
            return target
    known = ", ".join(target.name for target in TARGETS)
    raise ParameterError(f"nothing to export for is called {name!r}: use one of {known}")
