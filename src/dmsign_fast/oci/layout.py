"""OCI image layouts (image-spec 1.1: image-layout.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

from dmsign_fast.errors import FormatError, NotFoundError, StorageError, VerificationError
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.layout_files import Directory, Files, Tar
from dmsign_fast.oci.manifest import (
    MANIFEST_LIMIT,
    MANIFEST_TYPES,
    OCI_INDEX,
    Index,
    Manifest,
    make_index,
    parse_manifest,
    type_of_manifest,
)
from dmsign_fast.oci.store import (
    Content,
    check_subjects,
    pieces_of,
    read_manifest,
    refers_to,
    verified,
)
from dmsign_fast.outputs import Outputs, locked, storage_errors, write_all
from dmsign_fast.strict_json import Members, read_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = ["REF_NAME", "Layout"]

REF_NAME = "org.opencontainers.image.ref.name"
_MARKER = "oci-layout"
_INDEX = "index.json"
_VERSION = b'{"imageLayoutVersion":"1.0.0"}'


def _blob(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.encoded}"


class Layout:
    """A Store that is a directory or, for reading only, a tar of one.

    Writers, in this process and in others, take turns by an flock of the directory. Files appear
    whole, under their names, and ``index.json`` after what it lists.
    """

    def __init__(self, path: Path) -> None:
        """Open a layout.

        Raises:
            NotFoundError: there is none.
            FormatError: its marker ``oci-layout`` is not that of version 1.
        """
        self.path = path
        self._files: Files = Directory(path) if not path.is_file() else Tar(path)
        try:
            self._check_marker()
        except BaseException:
            self.close()
            raise

    def _check_marker(self) -> None:
        try:
            marker = self._small(_MARKER)
        except NotFoundError as error:
            raise NotFoundError(f"{self.path} is not an OCI image layout: {error}") from error
        what = f"{_MARKER} of {self.path}"
        version = Members(read_object(marker, what), ["imageLayoutVersion"], what).text(
            "imageLayoutVersion"
        )
        if version.split(".")[0] != "1":
            raise FormatError(f"{what} is of version {version}, and only 1 is known")

    @classmethod
    def create(cls, path: Path) -> Self:
        """Open the layout at ``path``, which is made first if there is no file there."""
        with storage_errors("create", path):
            path.mkdir(parents=True, exist_ok=True)
            with locked(path):
                if not any(path.iterdir()):
                    with Outputs() as outputs:
                        outputs.write(path / _INDEX, make_index().raw)
                        outputs.write(path / _MARKER, _VERSION)
        return cls(path)

    def close(self) -> None:
        """Close a tar; a directory is not kept open."""
        if isinstance(self._files, Tar):
            self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _small(self, name: str) -> bytes:
        if self._files.size(name) > MANIFEST_LIMIT:
            raise FormatError(f"{name} of {self.path} has more than {MANIFEST_LIMIT} bytes")
        return b"".join(self._files.read(name))

    def _index(self) -> Index:
        raw = self._small(_INDEX)
        try:
            index = parse_manifest(raw, Descriptor.of(raw, OCI_INDEX))
        except FormatError as error:
            raise FormatError(f"{_INDEX} of {self.path}: {error}") from error
        assert isinstance(index, Index)  # noqa: S101
        return index

    def resolve(self, reference: str) -> Manifest | Index:
        """The manifest that a tag or digest names; see Store."""
        if ":" in reference:
            return self._by_digest(Digest(reference))
        entries = {
            entry.digest: entry
            for entry in self._index().manifests
            if entry.annotations.get(REF_NAME) == reference
        }
        if not entries:
            raise NotFoundError(f"there is no tag {reference} in {self.path}")
        if len(entries) > 1:
            raise FormatError(
                f"tag {reference} names {len(entries)} manifests in {self.path}: use a digest"
            )
        return self.fetch_manifest(next(iter(entries.values())))

    def _by_digest(self, digest: Digest) -> Manifest | Index:
        for entry in self._index().manifests:
            if entry.digest == digest:
                return self.fetch_manifest(entry)
        raw = self._small(_blob(digest))
        return self.fetch_manifest(Descriptor(type_of_manifest(raw), digest, len(raw)))

    def fetch(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The content in verified pieces; see Store."""
        name = _blob(descriptor.digest)
        if (size := self._files.size(name)) != descriptor.size:
            raise VerificationError(
                f"{name} of {self.path} has {size} bytes instead of {descriptor.size}"
            )
        return verified(self._files.read(name), descriptor, str(self.path))

    def fetch_manifest(self, descriptor: Descriptor) -> Manifest | Index:
        """A manifest, verified; see Store."""
        return read_manifest(self._files.read(_blob(descriptor.digest)), descriptor, str(self.path))

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether a blob of that name and size is there."""
        try:
            return self._files.size(_blob(descriptor.digest)) == descriptor.size
        except NotFoundError:
            return False

    def push(self, descriptor: Descriptor, content: Content) -> None:
        """Store a blob, unless it is there and whole; see Store."""
        self._check_writable()
        if self._is_whole(descriptor):
            return
        path = self.path / _blob(descriptor.digest)
        with storage_errors("write", path), Outputs() as outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd, offset = outputs.open(path), 0
            for piece in verified(pieces_of(content), descriptor, "what was to be stored"):
                write_all(fd, piece, offset)
                offset += len(piece)

    def _is_whole(self, descriptor: Descriptor) -> bool:
        try:
            for _ in self.fetch(descriptor):
                pass
        except (NotFoundError, VerificationError):
            return False
        return True

    def tag(self, manifest: Manifest | Index, tag: str) -> None:
        """Store a manifest under a tag; see Store."""
        entry = replace(manifest.descriptor, annotations={REF_NAME: tag})
        self.push(manifest.descriptor, manifest.raw)
        self._update(
            lambda entries: [
                *(one for one in entries if one.annotations.get(REF_NAME) != tag),
                entry,
            ]
        )

    def references(self) -> list[str]:
        """The digests in the index; see Store."""
        manifests = (one for one in self._index().manifests if one.media_type in MANIFEST_TYPES)
        return list(dict.fromkeys(one.digest for one in manifests))

    def referrers(self, subject: Descriptor, artifact_type: str | None = None) -> list[Descriptor]:
        """The manifests in the index whose subject this is; see Store."""
        found = {}
        for entry in self._index().manifests:
            if entry.media_type not in MANIFEST_TYPES or entry.digest in found:
                continue
            try:
                manifest = self.fetch_manifest(entry)
            except NotFoundError:  # a layout need not hold all that its index lists
                continue
            except (FormatError, VerificationError):
                # who fetches it will know what is wrong; an image has no such type
                if entry.artifact_type is not None:
                    found[entry.digest] = entry
                continue
            if refers_to(manifest, subject):
                found[entry.digest] = manifest.referrer
        return [one for one in found.values() if artifact_type in (None, one.artifact_type)]

    def attach(
        self,
        subject: Descriptor,
        manifests: Sequence[Manifest],
        *,
        instead_of: Sequence[Descriptor] = (),
    ) -> None:
        """Store manifests and list them in the index, without tags; see Store."""
        check_subjects(manifests, subject)
        for manifest in manifests:
            self.push(manifest.descriptor, manifest.raw)

        gone = {one.digest for one in instead_of} - {one.descriptor.digest for one in manifests}

        def changed(entries: Sequence[Descriptor]) -> list[Descriptor]:
            known = {entry.digest for entry in entries}
            new = [one.referrer for one in manifests if one.descriptor.digest not in known]
            # annotations would stand in the place of ours: one of them is the tag
            kept = [entry for entry in entries if entry.digest not in gone]
            return [*kept, *(replace(one, annotations={}) for one in new)]

        self._update(changed)

    def _check_writable(self) -> None:
        if not isinstance(self._files, Directory):
            raise StorageError(f"cannot write {self.path}: a tar is only read; use a directory")

    def _update(self, change: Callable[[Sequence[Descriptor]], list[Descriptor]]) -> None:
        self._check_writable()
        with locked(self.path):
            index = self._index()
            with Outputs() as outputs:
                changed = index.with_manifests(change(index.manifests))
                outputs.write(self.path / _INDEX, changed.raw)
