"""Names of images, as notation and oras take them; nothing is added to what is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.oci.descriptor import Digest

__all__ = ["LayoutReference", "RegistryReference", "is_tag"]

# distribution-spec 1.1, Pulling manifests; hosts as in the reference grammar of Docker
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_TAGS = "use up to 128 letters, digits, and _ . -, the last two not in front"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(f"{_PART}(?:/{_PART})*")
_LABEL = "(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?")
_LONGEST_NAME = 255
# image-spec 1.1, annotations.md
_REF_NAME = re.compile(r"[A-Za-z0-9]+(?:(?:--|[-._:@+/])[A-Za-z0-9]+)*")
_DIGEST = re.compile(r"sha(?:256|384|512):|[a-z0-9+._-]+:[0-9a-f]{32,}$", re.IGNORECASE)


def is_tag(text: str) -> bool:
    """Whether a registry would take ``text`` as a tag."""
    return _TAG.fullmatch(text) is not None


def _digest_of(text: str, whole: str) -> Digest:
    try:
        return Digest(text)
    except FormatError as error:
        raise ParameterError(f"{whole}: {error}") from None


def _exists(path: str) -> bool:
    """Whether it is there, as far as we may see; a name that is too long is not."""
    try:
        return Path(path).exists()
    except OSError:
        return False


def _or_layout(text: str) -> str:
    """What the end of a message adds where a path stands for the name of an image."""
    there = any(_exists(text.rpartition(mark)[0] or text) for mark in ":@")
    return "; or give --oci-layout, if it is a layout" if there else ""


def _wanted(tag: str | None, digest: Digest | None, whole: object) -> str:
    if wanted := digest or tag:
        return wanted
    raise ParameterError(f"{whole} names no image: add :TAG or @DIGEST")


@dataclass(frozen=True)
class RegistryReference:
    """``REGISTRY/REPOSITORY[:TAG][@DIGEST]``; the first component always is the registry.

    >>> RegistryReference.parse("localhost:5000/app/web:1.0")
    RegistryReference(registry='localhost:5000', repository='app/web', tag='1.0', digest=None)
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> RegistryReference:
        """Read a reference.

        Raises:
            ParameterError: not of that form.
        """
        if "://" in text:
            raise ParameterError(
                f"{text!r}: leave out {text.partition('://')[0]}://, as in localhost:5000/app:1.0; "
                "--plain-http is for a registry over plain HTTP"
            )
        name, at, digest = text.partition("@")
        registry, slash, repository = name.partition("/")
        if not slash:
            raise ParameterError(
                f"{text!r} does not name a registry: write it in full, such as "
                f"docker.io/library/debian:12{_or_layout(text)}"
            )
        repository, colon, tag = repository.partition(":")
        if not _REGISTRY.fullmatch(registry):
            raise ParameterError(
                f"{text!r}: {registry!r} is not a registry's HOST or HOST:PORT{_or_layout(text)}"
            )
        if not _REPOSITORY.fullmatch(repository):
            raise ParameterError(
                f"{text!r}: {repository!r} is not a repository: use lower-case letters, digits, "
                "and single . _ - between them"
            )
        if colon and not is_tag(tag):
            raise ParameterError(f"{text!r}: {tag!r} is not a tag: {_TAGS}")
        if len(registry) + 1 + len(repository) > _LONGEST_NAME:
            raise ParameterError(f"{text!r}: a name has at most {_LONGEST_NAME} characters")
        return cls(registry, repository, tag or None, _digest_of(digest, text) if at else None)

    @property
    def wanted(self) -> str:
        """The digest, or else the tag; ParameterError if there is neither."""
        return _wanted(self.tag, self.digest, self)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def _only_exists(first: str, path: str) -> bool:
    """Whether the first of two readings of a path is of something that is there."""
    return _exists(first) and not _exists(path.rpartition(":")[0])


@dataclass(frozen=True)
class LayoutReference:
    """``PATH[:TAG][@DIGEST]`` of an OCI image layout, a directory or a tar.

    TAG may be a name such as ``app:1.0`` or ``docker.io/app:1.0``, as podman and skopeo write it,
    where PATH exists and the text before the last colon does not.

    >>> LayoutReference.parse("images/app:v1").tag
    'v1'
    """

    path: Path
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> LayoutReference:
        """Read a reference; ParameterError if it is not of that form."""
        path, digest = text, None
        before, at, after = text.rpartition("@")
        if at and _DIGEST.match(after):  # a path may have an @ too
            path, digest = before, _digest_of(after, text)
        first, _, name = path.partition(":")
        if set("/:") & set(name) and _REF_NAME.fullmatch(name) and _only_exists(first, path):
            return cls(Path(first), name, digest)
        before, colon, tag = path.rpartition(":")
        named = "/" in tag and _REF_NAME.fullmatch(tag)
        if named and _exists(before) and not _exists(path):  # without a tag of its own
            return cls(Path(before), tag, digest)
        if not colon or "/" in tag:
            before, tag = path, ""
        elif not is_tag(tag):
            raise ParameterError(f"{text!r}: {tag!r} is not a tag: {_TAGS}")
        if not before:
            raise ParameterError(f"{text!r} does not name a directory or tar: use PATH:TAG")
        return cls(Path(before), tag or None, digest)

    @property
    def wanted(self) -> str:
        """The digest, or else the tag; ParameterError if there is neither."""
        return _wanted(self.tag, self.digest, self)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.path}{tag}{digest}"
