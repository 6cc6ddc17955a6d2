"""Content by its digest (OCI image-spec 1.1: descriptor.md)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.strict_json import Members

__all__ = ["Descriptor", "Digest", "Platform", "check_media_type"]

_ENCODED = {"sha256": 64, "sha384": 96, "sha512": 128}  # hexadecimal digits
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"  # RFC 6838, section 4.2
_SYSTEMS = {"macos": "darwin"}
# An architecture by its other names, and the variant that they stand for.
_ARCHITECTURES: dict[str, tuple[str, str | None]] = {
    "i386": ("386", ""),
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_VARIANTS = {
    ("amd64", "v1"): "",
    ("arm64", "8"): "",
    ("arm64", "v8"): "",
    ("arm", ""): "v7",
    ("arm", "5"): "v5",
    ("arm", "6"): "v6",
    ("arm", "7"): "v7",
    ("arm", "8"): "v8",
}
_MEDIA_TYPE = re.compile(f"{_NAME}/{_NAME}")


def check_media_type(text: str, what: str) -> str:
    """``text`` if it is a media type without parameters; FormatError otherwise."""
    if not _MEDIA_TYPE.fullmatch(text):
        raise FormatError(f"{what}: {text!r} is not a media type")
    return text


class Digest(str):
    """``algorithm:hex``, checked: sha256, sha384 or sha512 in lower case.

    >>> Digest.of(b"{}").referrers_tag
    'sha256-44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """FormatError for anything else."""
        algorithm, _, encoded = text.partition(":")
        if len(encoded) != _ENCODED.get(algorithm, -1) or not re.fullmatch("[0-9a-f]+", encoded):
            raise FormatError(
                f"{text!r} is not a digest: sha256, sha384 or sha512, a colon and its hexadecimal "
                "digits in lower case"
            )
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Self:
        """The digest of ``data``."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """Its name for hashlib."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The hexadecimal digits."""
        return self.partition(":")[2]

    @property
    def referrers_tag(self) -> str:
        """The tag of the index of its referrers, in registries that cannot list them."""
        return f"{self.algorithm}-{self.encoded[:64]}"


@dataclass(frozen=True)
class Platform:
    """What a manifest in an index runs on, in the words of Go: ``linux/arm64/v8``.

    Go programs write empty names beside what is no image.
    """

    os: str
    architecture: str
    variant: str | None = None
    os_version: str | None = None
    os_features: tuple[str, ...] = ()
    other: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def from_json(cls, value: Any, what: str) -> Platform:
        """Read the JSON object."""
        known = ("os", "architecture", "variant", "os.version", "os.features")
        members = Members(value, known, what)
        return cls(
            os=members.optional_text("os") or "",
            architecture=members.optional_text("architecture") or "",
            variant=members.optional_text("variant"),
            os_version=members.optional_text("os.version"),
            os_features=members.texts("os.features"),
            other=members.other,
        )

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``OS/ARCHITECTURE[/VARIANT]``; ParameterError for anything else."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(parts):
            raise ParameterError(
                f"{text!r} is not OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64"
            )
        return cls(parts[0], parts[1], parts[2] if len(parts) == 3 else None)

    @property
    def normal(self) -> tuple[str, str, str]:
        """Operating system, architecture and variant: equal for names of the same platform.

        As containerd normalises them (containerd/platforms, database.go).

        >>> Platform.parse("linux/aarch64").normal == Platform.parse("linux/arm64/v8").normal
        True
        """
        os, architecture = self.os.lower(), self.architecture.lower()
        architecture, implied = _ARCHITECTURES.get(architecture, (architecture, None))
        variant = (self.variant or "").lower() if implied is None else implied
        variant = _VARIANTS.get((architecture, variant), variant)
        return _SYSTEMS.get(os, os), architecture, variant

    def to_json(self) -> dict[str, Any]:
        """The JSON object, with the members that we do not know."""
        members = {
            "architecture": self.architecture,
            "os": self.os,
            "os.version": self.os_version,
            "os.features": list(self.os_features),
            "variant": self.variant,
        }
        return {name: value for name, value in members.items() if value} | dict(self.other)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@dataclass(frozen=True)
class Descriptor:
    """What to fetch and how to know it: the only currency of the stores.

    Attributes:
        media_type: RFC 6838, without parameters.
        digest: of the content.
        size: bytes of the content.
        annotations: any text by name.
        artifact_type: of the manifest that it describes; it should be a media type.
        platform: of the image that it describes.
        urls: where else the content may be; never followed.
        data: the content itself, if it came with the descriptor; it has the digest.
        other: members that the specification does not know, kept as they were.
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str | None = None
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    data: bytes | None = None
    other: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)

    @classmethod
    def of(cls, data: bytes, media_type: str, **fields: Any) -> Descriptor:
        """The descriptor of ``data``."""
        return cls(check_media_type(media_type, "data"), Digest.of(data), len(data), **fields)

    @classmethod
    def from_json(cls, value: Any, what: str) -> Descriptor:
        """Read the JSON object; ``what`` names it in messages.

        Raises:
            FormatError: a member is missing, has the wrong type or is out of range, or ``data``
                is not what the digest stands for.
        """
        known = ("mediaType", "digest", "size", "annotations", "artifactType", "platform", "urls")
        members = Members(value, (*known, "data"), what)
        media_type = check_media_type(members.text("mediaType"), what)
        try:
            digest = Digest(members.text("digest"))
        except FormatError as error:
            raise FormatError(f"{what}: {error}") from None
        platform = members.value("platform")
        return cls(
            media_type=media_type,
            digest=digest,
            size=(size := members.integer("size")),
            annotations=members.annotations(),
            artifact_type=members.optional_text("artifactType"),
            platform=Platform.from_json(platform, what) if platform else None,
            urls=members.texts("urls"),
            data=_read_data(members, digest, size),
            other=members.other,
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON object: all that ``from_json`` read, empty members left out."""
        members = {
            "artifactType": self.artifact_type,
            "urls": list(self.urls),
            "annotations": dict(sorted(self.annotations.items())),
            "platform": self.platform and self.platform.to_json(),
            "data": None if self.data is None else base64.b64encode(self.data).decode(),
        }
        return {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
            **{name: value for name, value in members.items() if value not in (None, [], {})},
            **self.other,
        }

    def plain(self) -> Descriptor:
        """Media type, digest and size alone, as a ``subject`` or a signature has them."""
        return Descriptor(self.media_type, self.digest, self.size)

    def __str__(self) -> str:
        return f"{self.media_type} {self.digest} ({self.size} bytes)"


def _read_data(members: Members, digest: Digest, size: int) -> bytes | None:
    if not members.has("data"):
        return None
    text = members.value("data")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise members.wrong("data", "is not base64") from error
    if len(data) != size or Digest.of(data, digest.algorithm) != digest:
        raise members.wrong("data", "is not what the digest and size stand for")
    return data
