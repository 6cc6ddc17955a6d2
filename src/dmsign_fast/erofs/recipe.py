"""Recipes: all that decides the root hash of a layer, one row for each kind of node."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, UUID, uuid5

from dmsign_fast import _core
from dmsign_fast.arguments import TEXT, instance, takes
from dmsign_fast.errors import ParameterError
from dmsign_fast.verity.params import VerityParams

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["RECIPE", "RECIPES", "ImageLayout", "Recipe", "UuidRule"]

_NEWEST = "1.9.4"


class ImageLayout(enum.Enum):
    """What mkfs.erofs is told to make of the tar."""

    FULL = "full"
    """All files converted, in blocks of 4096 bytes."""
    TAR_INDEX = "tar-index"
    """Metadata in front of the tar as it is, in blocks of 512 bytes."""

    @property
    def block_size(self) -> int:
        """Bytes of a block of the image."""
        return 4096 if self is ImageLayout.FULL else 512

    @property
    def mkfs_arguments(self) -> tuple[str, ...]:
        """The options of mkfs.erofs; the order of ``--sort=none`` makes one pass possible."""
        if self is ImageLayout.FULL:
            return ("--tar=f", "--aufs", "--quiet", "-Enoinline_data", "-b4096", "--sort=none")
        return ("--tar=i", "--aufs", "--quiet")


class UuidRule(enum.Enum):
    """Which digest the UUID of the image is made from."""

    DIGEST = "digest"
    """The digest of the layer as it is stored, which the manifest names."""
    DIFF_ID = "diff-id"
    """The digest of the uncompressed tar, which the image's config names."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a node makes a dm-verity device of a layer.

    Attributes:
        name: as users give it.
        layout: what mkfs.erofs makes.
        uuid: of the image: fixed, or UUIDv5 of a digest.
        params: of the hash tree.
        mkfs_version: of mkfs.erofs, such as ``1.9.4``.
        enable_tar_index: the setting of containerd's differ that makes it; None for other nodes.

    Raises:
        ParameterError: that version of mkfs.erofs is not supported.
    """

    name: str
    layout: ImageLayout
    uuid: UuidRule | UUID
    params: VerityParams
    mkfs_version: str = _NEWEST
    enable_tar_index: bool | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.mkfs_versions:
            groups = ", ".join(_core.mkfs_groups())
            raise ParameterError(
                f"mkfs.erofs {self.mkfs_version or '(no version)'} is not supported: use one of "
                f"{groups} (versions with a dash between them make the same images)"
            )

    @classmethod
    @takes(text=TEXT)
    def parse(cls, text: str) -> Recipe:
        """The recipe of a text ``NAME`` or ``NAME@MKFS_VERSION``.

        Raises:
            ParameterError: unknown name or version.
        """
        name, at, version = text.partition("@")
        for recipe in RECIPES:
            if recipe.name == name:
                return dataclasses.replace(recipe, mkfs_version=version) if at else recipe
        known = ", ".join(recipe.name for recipe in RECIPES)
        raise ParameterError(f"recipe {name!r} is unknown: use one of {known}")

    def fields(self) -> dict[str, str]:
        """All that decides the root hash, as text for from_fields()."""
        return {
            "name": self.name,
            "layout": self.layout.value,
            "uuid": self.uuid.value if isinstance(self.uuid, UuidRule) else str(self.uuid),
            "mkfs-version": self.mkfs_version,
            "data-block-size": str(self.params.data_block_size),
            "hash-block-size": str(self.params.hash_block_size),
            "salt": self.params.salt.hex(),
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Recipe:
        """The recipe that fields() described.

        Raises:
            KeyError: a field is missing.
            ValueError: a field is malformed; ParameterError: it is outside its limits.
        """
        rules = {rule.value: rule for rule in UuidRule}
        return cls(
            name=fields["name"],
            layout=ImageLayout(fields["layout"]),
            uuid=rules.get(fields["uuid"]) or UUID(fields["uuid"]),
            params=VerityParams(
                data_block_size=int(fields["data-block-size"]),
                hash_block_size=int(fields["hash-block-size"]),
                salt=bytes.fromhex(fields["salt"]),
            ),
            mkfs_version=fields["mkfs-version"],
        )

    def others(self) -> Iterator[Recipe]:
        """Recipes that another node might have used, the most similar first."""
        newest = [versions[-1] for versions in _core.mkfs_groups().values()]
        for recipe in (self, *RECIPES):
            for version in reversed(newest):
                other = dataclasses.replace(recipe, mkfs_version=version)
                if other.fields() | {"name": ""} != self.fields() | {"name": ""}:
                    yield other

    @property
    def mkfs_versions(self) -> tuple[str, ...]:
        """All versions of mkfs.erofs that make the images of ``mkfs_version``."""
        groups = _core.mkfs_groups().values()
        return next((versions for versions in groups if self.mkfs_version in versions), ())

    def makes_the_images_of(self, other: Recipe) -> bool:
        """Whether both give every layer the same root hash, as far as that is known."""
        same = (self.layout, self.uuid, self.params) == (other.layout, other.uuid, other.params)
        return same and other.mkfs_version in self.mkfs_versions

    @property
    def mkfs_arguments(self) -> tuple[str, ...]:
        """The options of mkfs.erofs, without the UUID."""
        return (*self.layout.mkfs_arguments, "-T0", "--mkfs-time")

    def image_uuid(self, *, digest: str | None, diff_id: str | None) -> UUID:
        """The UUID of a layer's image.

        Args:
            digest: of the layer as the manifest names it, ``sha256:…``.
            diff_id: of the uncompressed tar.

        Raises:
            ParameterError: the digest that the rule needs is not given.
        """
        if isinstance(self.uuid, UUID):
            return self.uuid
        name = digest if self.uuid is UuidRule.DIGEST else diff_id
        if name is None:
            raise ParameterError(
                f"the recipe {self.name} makes the UUID of the {self.uuid.value}: give "
                f"the {self.uuid.value}, or a UUID"
            )
        return uuid5(NAMESPACE_URL, f"erofs:blobs/{name}")


def _params(block_size: int) -> VerityParams:
    # containerd: internal/dmverity, DefaultDmverityOptions
    return VerityParams(data_block_size=block_size, hash_block_size=block_size, salt=bytes(32))


RECIPE = instance(Recipe, "a Recipe, as of Recipe.parse")
RECIPES = (
    # containerd 2.3: plugins/diff/erofs, Apply, with mkfs_options = ["-T0", "--mkfs-time",
    # "--sort=none"] as docs/snapshotters/erofs.md has them
    Recipe(
        name="containerd",
        layout=ImageLayout.FULL,
        uuid=UuidRule.DIGEST,
        params=_params(4096),
        enable_tar_index=False,
    ),
    # containerd: ctr images build-erofs-cache; core/images/converter/erofs, ConvertLayerToErofs
    Recipe(
        name="containerd-cache",
        layout=ImageLayout.FULL,
        uuid=UuidRule.DIFF_ID,
        params=_params(4096),
    ),
    # containerd: enable_tar_index; internal/erofsutils, GenerateTarIndexAndAppendTar
    Recipe(
        name="containerd-tar-index",
        layout=ImageLayout.TAR_INDEX,
        uuid=UuidRule.DIGEST,
        params=_params(512),
        enable_tar_index=True,
    ),
    # the prototype of notation sign --dm-verity, and the tardev and OSGuard snapshotters
    Recipe(
        name="osguard",
        layout=ImageLayout.TAR_INDEX,
        uuid=UUID("c1b9d5a2-f162-11cf-9ece-0020afc76f16"),
        params=_params(512),
    ),
)
