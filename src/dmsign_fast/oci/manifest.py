"""Image manifests and indexes (OCI image-spec 1.1, Docker schema 2), and those that we make."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from dmsign_fast.errors import FormatError
from dmsign_fast.oci.descriptor import Descriptor, check_media_type
from dmsign_fast.strict_json import Members, check_value, read_object

__all__ = [
    "DOCKER_LIST",
    "DOCKER_MANIFEST",
    "EMPTY_CONFIG",
    "EMPTY_JSON",
    "MANIFEST_LIMIT",
    "MANIFEST_TYPES",
    "OCI_INDEX",
    "OCI_MANIFEST",
    "Entry",
    "Index",
    "Manifest",
    "make_index",
    "make_manifest",
    "parse_manifest",
    "read_entries",
    "type_of_manifest",
]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
_INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)

MANIFEST_LIMIT = 4 << 20  # bytes; registries need not take more (distribution-spec 1.1)

EMPTY_JSON = b"{}"
EMPTY_CONFIG = Descriptor.of(EMPTY_JSON, "application/vnd.oci.empty.v1+json")

_COMMON = ("schemaVersion", "mediaType", "artifactType", "subject", "annotations")
_KNOWN = (*_COMMON, "config", "layers", "manifests")


@dataclass(frozen=True)
class Manifest:
    """An image, or an artifact such as a signature.

    Attributes:
        descriptor: media type, digest and size of ``raw``.
        raw: the bytes that were hashed; no others are ever stored or sent.
        config: of the image; for an artifact often ``EMPTY_CONFIG``.
        layers: in order.
        subject: the manifest to which this one refers.
        annotations: any text by name.
        artifact_type: as it stands in the manifest; ``referrer`` has the one that counts.
    """

    descriptor: Descriptor
    raw: bytes = field(repr=False)
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None
    annotations: Mapping[str, str] = field(hash=False)
    artifact_type: str | None

    @property
    def referrer(self) -> Descriptor:
        """Its descriptor as a list of referrers has it: with artifact type and annotations."""
        return replace(
            self.descriptor,
            artifact_type=self.artifact_type or self.config.media_type,
            annotations=self.annotations,
        )


@dataclass(frozen=True)
class Entry:
    """What stands at one place of a list that several people write.

    Attributes:
        value: of the JSON, as it was; None for what is not written again, since programs do not
            agree on what it says.
        descriptor: what it says; None if it cannot be read.
        problem: why not.
    """

    value: Any = field(hash=False, repr=False)
    descriptor: Descriptor | None
    problem: str | None = None


@dataclass(frozen=True)
class Index:
    """A list of manifests; ``entries`` are all that it lists, the other attributes as in Manifest.

    An entry that cannot be read is passed over: it stands in nobody's way.
    """

    descriptor: Descriptor
    raw: bytes = field(repr=False)
    entries: tuple[Entry, ...]
    subject: Descriptor | None
    annotations: Mapping[str, str] = field(hash=False)
    artifact_type: str | None

    @cached_property
    def manifests(self) -> tuple[Descriptor, ...]:
        """The entries that can be read."""
        return tuple(one.descriptor for one in self.entries if one.descriptor)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the others."""
        return tuple(one.problem for one in self.entries if one.problem)

    @property
    def referrer(self) -> Descriptor:
        """Its descriptor as a list of referrers has it."""
        return replace(
            self.descriptor, artifact_type=self.artifact_type, annotations=self.annotations
        )

    def with_more(
        self, added: Iterable[Descriptor], without: Callable[[Descriptor], bool] = lambda _: False
    ) -> Index:
        """The same with more manifests, and without some; all else in it stays as it was."""
        value = read_object(self.raw, f"manifest {self.descriptor.digest}", "manifests")
        kept = [
            one.value
            for one in self.entries
            if one.value is not None and not (one.descriptor and without(one.descriptor))
        ]
        return _make_index(value | {"manifests": [*kept, *(one.to_json() for one in added)]})


def read_entries(values: Iterable[Any], what: str) -> tuple[Entry, ...]:
    """Read descriptors each on its own: no error for what is wrong with one of them.

    ``values`` are as ``read_object`` leaves them; ``what`` names the list.
    """
    return tuple(_read_entry(value, f"{what}[{number}]") for number, value in enumerate(values))


def _read_entry(value: Any, what: str) -> Entry:
    kept = None
    try:
        check_value(value, what)
        kept = value
        return Entry(value, Descriptor.from_json(value, what))
    except FormatError as error:
        named = value.get("digest") if isinstance(value, dict) else None
        which = f" ({named[:140]})" if isinstance(named, str) else ""
        return Entry(kept, None, f"{error}{which}")


def parse_manifest(raw: bytes, descriptor: Descriptor) -> Manifest | Index:
    """Read a manifest whose bytes are known to be those of ``descriptor``.

    Raises:
        FormatError: no manifest, one of another media type, or one that could be taken for both
            an image and an index.
    """
    what = f"manifest {descriptor.digest}"
    is_index = descriptor.media_type in _INDEX_TYPES
    value = read_object(raw, what, "manifests" if is_index else None)
    members = Members(value, _KNOWN, what)
    if descriptor.media_type not in MANIFEST_TYPES:
        raise FormatError(
            f"{what} is of type {descriptor.media_type}, which is not supported: use one of "
            + ", ".join(MANIFEST_TYPES)
        )
    if members.value("schemaVersion") != 2:
        raise members.wrong("schemaVersion", "is not 2: push the image again with a newer program")
    if members.optional_text("mediaType") not in (None, descriptor.media_type):
        raise members.wrong("mediaType", f"is not {descriptor.media_type}, as which it came")
    subject = members.value("subject")
    common: dict[str, Any] = {
        "descriptor": descriptor.plain(),
        "raw": raw,
        "subject": None if subject is None else Descriptor.from_json(subject, f"{what}, subject"),
        "annotations": members.annotations(),
        "artifact_type": members.optional_text("artifactType"),
    }
    for name in ("config", "layers") if is_index else ("manifests",):
        if members.has(name):
            raise members.wrong(name, f"does not belong in a {descriptor.media_type}")
    if is_index:
        entries = read_entries(members.array("manifests"), f"{what}, manifests")
        return Index(entries=entries, **common)
    config = Descriptor.from_json(members.value("config"), f"{what}, config")
    layers = tuple(
        Descriptor.from_json(one, f"{what}, layers[{number}]")
        for number, one in enumerate(members.array("layers"))
    )
    return Manifest(config=config, layers=layers, **common)


def type_of_manifest(raw: bytes) -> str:
    """The media type that a manifest names or, as old ones need not, shows by its members."""
    members = Members(read_object(raw, "the manifest", "manifests"), _KNOWN, "the manifest")
    by_members = OCI_INDEX if members.has("manifests") else OCI_MANIFEST
    return check_media_type(members.optional_text("mediaType") or by_members, "the manifest")


def make_manifest(
    *,
    layers: Sequence[Descriptor],
    config: Descriptor = EMPTY_CONFIG,
    artifact_type: str | None = None,
    subject: Descriptor | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """Make an artifact: serialised once, and read back by the rules for those of others.

    The same arguments make the same bytes.
    """
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
        "subject": subject and subject.plain().to_json(),
        "annotations": dict(sorted((annotations or {}).items())),
    }
    made = _make(
        {name: one for name, one in value.items() if one or name == "layers"}, OCI_MANIFEST
    )
    assert isinstance(made, Manifest)  # noqa: S101
    return made


def make_index(manifests: Iterable[Descriptor] = ()) -> Index:
    """Make an index, such as one of referrers."""
    listed = [one.to_json() for one in manifests]
    return _make_index({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed})


def _make_index(value: Mapping[str, Any]) -> Index:
    made = _make(value, OCI_INDEX)
    assert isinstance(made, Index)  # noqa: S101
    return made


def _make(value: Mapping[str, Any], media_type: str) -> Manifest | Index:
    raw = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    if len(raw) > MANIFEST_LIMIT:
        raise FormatError(f"the manifest would have {len(raw)} bytes, more than {MANIFEST_LIMIT}")
    return parse_manifest(raw, Descriptor.of(raw, media_type))
