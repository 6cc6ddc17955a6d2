"""Tars that hold a whole image, which people give where a layer or a layout is wanted."""

from __future__ import annotations

import itertools
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.errors import FormatError
from dmsign_fast.outputs import storage_errors

if TYPE_CHECKING:
    from typing import IO

__all__ = ["DOCKER_MANIFEST", "check_is_layer", "docker_advice", "is_docker_manifest"]

DOCKER_MANIFEST = "manifest.json"
_MARKER = "oci-layout"
_LIMIT = 4 << 20  # bytes of manifest.json, as of any manifest
_MOST_MEMBERS = 1000  # that are looked at; an image has fewer
# How the first name of such a tar may begin, that of a PAX header by Go or Python too; only then is
# more of it read.
_FIRST = re.compile(
    rb"(\./)?(PaxHeaders\.[0-9]+/)?"
    rb"(oci-layout|index\.json|manifest\.json|repositories|blobs/|(sha256:)?[0-9a-f]{64})"
    rb"|\./?\0|\./\./@PaxHeader"
)


def is_docker_manifest(data: bytes) -> bool:
    """Whether this is ``manifest.json`` of ``docker save``: images with a config and layers."""
    from dmsign_fast.strict_json import read_json

    try:
        images: Any = read_json(data, DOCKER_MANIFEST)
    except FormatError:
        return False
    return isinstance(images, list) and any(
        isinstance(one, dict) and isinstance(one.get("Layers"), list) and "Config" in one
        for one in images
    )


def docker_advice(path: Path) -> str:
    """What to do with what ``docker save`` made, for the end of a message."""
    tar, first = path, ""
    if path.is_dir():
        tar, first = Path("FILE"), f"tar -C {path} -cf FILE . && "
    return (
        f"an archive of 'docker save': {first}skopeo copy docker-archive:{tar} oci:DIR:TAG, and "
        "give --oci-layout DIR:TAG"
    )


def check_is_layer(path: Path) -> None:
    """Refuse a layout, or a tar of a whole image, which is no layer; any other file passes.

    Raises:
        FormatError: it is one, with what to do.
        StorageError: it cannot be read.
    """
    with storage_errors("read", path):
        if (path / _MARKER).is_file():
            raise FormatError(_advice(path, "an OCI image layout", "oci"))
        if not stat.S_ISREG(path.stat().st_mode):
            return
        with path.open("rb") as file:
            if not _FIRST.match(file.read(512)):
                return
            file.seek(0)
            kind = _kind(file)
    if kind == DOCKER_MANIFEST:
        raise FormatError(f"{path} is no layer but {docker_advice(path)}")
    if kind:
        raise FormatError(_advice(path, "the tar of an OCI image layout", "oci-archive"))


def _advice(path: Path, what: str, transport: str) -> str:
    return (
        f"{path} is no layer but {what}: give {path}@DIGEST of a layer with --oci-layout; skopeo "
        f"inspect {transport}:{path} shows the digests"
    )


def _kind(file: IO[bytes]) -> str | None:
    """Which file of a whole image a tar has; the marker of a layout comes first."""
    from dmsign_fast.bounded_tar import tar_members

    found = None
    try:
        for member in itertools.islice(tar_members(file, "it"), _MOST_MEMBERS):
            name = member.name.removeprefix("./")
            if name == _MARKER:
                return name
            if name == DOCKER_MANIFEST and member.isreg() and member.size <= _LIMIT:
                at = file.tell()
                file.seek(member.offset_data)
                found = name if is_docker_manifest(file.read(member.size)) else found
                file.seek(at)
    except FormatError:
        return None  # who reads it as a layer will say so
    return found
