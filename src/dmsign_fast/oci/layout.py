"""OCI image layouts (image-spec 1.1: image-layout.md)."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dmsign_fast.arguments import PATH, instance, takes
from dmsign_fast.errors import (
    FormatError,
    NotFoundError,
    ParameterError,
    StorageError,
    VerificationError,
)
from dmsign_fast.oci.archives import DOCKER_MANIFEST, docker_advice, is_docker_manifest
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
    Referrers,
    by_subject,
    pieces_of,
    read_manifest,
    verified,
)
from dmsign_fast.outputs import Outputs, locked, storage_errors, write_all
from dmsign_fast.strict_json import Members, read_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dmsign_fast.oci.reference import LayoutReference
    from dmsign_fast.oci.store import StreamHash

__all__ = ["REF_NAME", "Layout"]

REF_NAME = "org.opencontainers.image.ref.name"
_MARKER = "oci-layout"
_INDEX = "index.json"
_REFERRERS_LIMIT = 64 << 20  # bytes of all manifests that refer to one
_SHOWN = 10
_DIGEST = re.compile("sha(?:256|384|512):")
_VERSION = b'{"imageLayoutVersion":"1.0.0"}'


def _blob(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.encoded}"


class Layout:
    """A Store that is a directory or, for reading only, a tar of one.

    Writers, in this process and in others, take turns by an flock of the directory. Files appear
    whole, under their names, and ``index.json`` after what it lists.
    """

    @takes(path=instance((Path, str), "a path"))
    def __init__(self, path: Path | str) -> None:
        """Open a layout.

        Raises:
            NotFoundError: there is none.
            FormatError: its marker ``oci-layout`` is not that of version 1.
        """
        self.path = path = Path(path)
        self._subjects: dict[Descriptor, Digest | None] = {}
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
            raise NotFoundError(
                f"{self.path} is not an OCI image layout{self._what_else(error)}"
            ) from error
        what = f"{_MARKER} of {self.path}"
        version = Members(read_object(marker, what), ["imageLayoutVersion"], what).text(
            "imageLayoutVersion"
        )
        if version.split(".")[0] != "1":
            raise FormatError(f"{what} is of version {version}, and only 1 is known")

    def _what_else(self, error: NotFoundError) -> str:
        """What it is instead, for the end of a message."""
        with contextlib.suppress(NotFoundError, FormatError, StorageError):
            if is_docker_manifest(self._small(DOCKER_MANIFEST)):
                return f" but {docker_advice(self.path)}"
        return f": {error}; give the directory or tar that has it"

    @classmethod
    @takes(path=PATH)
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
        if _DIGEST.match(reference):  # a tag may be a whole name with a colon
            return self._by_digest(Digest(reference))
        index = self._index()
        entries = {
            entry.plain()
            for entry in index.manifests
            if entry.annotations.get(REF_NAME) == reference
        }
        if not entries:
            raise NotFoundError(
                f"there is no tag {reference} in {self.path}{_what_there_is(index)}"
            )
        if len(entries) > 1:
            raise FormatError(
                f"tag {reference} names {len(entries)} manifests in {self.path}: use a digest"
            )
        return self.fetch_manifest(entries.pop())

    def wanted(self, reference: LayoutReference) -> str:
        """The digest of a reference, or its tag; ParameterError, with the tags, for neither."""
        try:
            return reference.wanted
        except ParameterError as error:
            raise ParameterError(f"{error}{_what_there_is(self._index())}") from None

    def _by_digest(self, digest: Digest) -> Manifest | Index:
        for entry in self._index().manifests:
            # an entry of another size is a mistake, and another entry may have it right
            if entry.digest == digest and entry.media_type in MANIFEST_TYPES and self.exists(entry):
                return self.fetch_manifest(entry)
        raw = self._small(_blob(digest))
        return self.fetch_manifest(Descriptor(type_of_manifest(raw), digest, len(raw)))

    def fetch(self, descriptor: Descriptor, digest: StreamHash | None = None) -> Iterator[bytes]:
        """The content in verified pieces; see Store."""
        name = _blob(descriptor.digest)
        if (size := self._files.size(name)) != descriptor.size:
            raise VerificationError(
                f"{name} of {self.path} has {size} bytes instead of {descriptor.size}"
            )
        return verified(self._files.read(name), descriptor, str(self.path), digest)

    def read_blob(self, digest: Digest) -> Iterator[bytes]:
        """The bytes of a blob, not verified; see Store."""
        return self._files.read(_blob(digest))

    def fetch_manifest(self, descriptor: Descriptor) -> Manifest | Index:
        """A manifest, verified; see Store."""
        return read_manifest(self.fetch(descriptor), descriptor, str(self.path))

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
            lambda index: index.with_more(
                [entry], without=lambda one: one.annotations.get(REF_NAME) == tag
            )
        )

    def references(self) -> list[str]:
        """The digests in the index; see Store."""
        manifests = (one for one in self._index().manifests if one.media_type in MANIFEST_TYPES)
        return list(dict.fromkeys(one.digest for one in manifests))

    def referrers(self, subject: Descriptor, *artifact_types: str) -> Referrers:
        """The manifests in the index whose subject this is; see Store."""
        index = self._index()
        found: list[Descriptor] = []
        problems = list(index.problems)
        size, cut = 0, False
        for entry in Referrers(index.manifests):
            try:
                if self._subject_of(entry) != subject.digest:
                    continue
                size += entry.size
                if cut := size > _REFERRERS_LIMIT:
                    problems.append(
                        f"the referrers of {subject.digest} in {self.path} have more than "
                        f"{_REFERRERS_LIMIT} bytes: those after are not read"
                    )
                    break
                found.append(self.fetch_manifest(entry).referrer)
            except NotFoundError:  # a layout need not hold all that its index lists
                continue
            except (FormatError, VerificationError) as error:
                problems.append(f"{entry.digest}: {error}")
                # who fetches it will know what is wrong; an image has no such type
                if entry.artifact_type is not None:
                    found.append(entry)
        return Referrers(found, problems, cut=cut).of_types(artifact_types)

    def _subject_of(self, entry: Descriptor) -> Digest | None:
        """What a manifest refers to, remembered: there may be many, and many images to ask for."""
        key = entry.plain()
        if entry.media_type not in MANIFEST_TYPES:
            return None
        if key not in self._subjects:
            subject = self.fetch_manifest(entry).subject
            self._subjects[key] = subject.digest if subject else None
        return self._subjects[key]

    def attach(self, manifests: Iterable[Manifest]) -> None:
        """Store manifests and list them in the index, without tags; see Store."""
        groups = by_subject(manifests)
        every = [one for group in groups.values() for one in group]
        for manifest in every:
            self.push(manifest.descriptor, manifest.raw)

        def added(index: Index) -> Index:
            known = {entry.plain() for entry in index.manifests}
            new = dict.fromkeys(one.descriptor for one in every if one.descriptor not in known)
            types = {one.descriptor: one.referrer.artifact_type for one in every}
            # annotations would stand in the place of ours: one of them is the tag
            return index.with_more(replace(one, artifact_type=types[one]) for one in new)

        self._update(added)

    def detach(self, subject: Descriptor, referrers: Iterable[Descriptor]) -> None:
        """Take manifests out of the index; their blobs stay; see Store."""
        digests = {one.digest for one in referrers} & {
            one.digest for one in self.referrers(subject)
        }
        self._update(lambda index: index.with_more((), lambda one: one.digest in digests))

    def _check_writable(self) -> None:
        if not isinstance(self._files, Directory):
            raise StorageError(f"cannot write {self.path}: a tar is only read; use a directory")

    def _update(self, change: Callable[[Index], Index]) -> None:
        self._check_writable()
        with locked(self.path), Outputs() as outputs:
            outputs.write(self.path / _INDEX, change(self._index()).raw)


def _what_there_is(index: Index) -> str:
    """The end of a message: the tags of a layout, some of them."""
    tags = dict.fromkeys(one.annotations.get(REF_NAME) for one in index.manifests)
    names = [repr(tag) for tag in tags if tag is not None]
    if not names:
        return ": none of its manifests has one, use a digest"
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f": it has {', '.join(names[:_SHOWN])}{rest}"
