"""What layouts and registries have in common, and the one check of all that comes from them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Protocol

from dmsign_fast.arguments import Kind
from dmsign_fast.errors import FormatError, ParameterError, VerificationError
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.manifest import MANIFEST_LIMIT, Index, Manifest, parse_manifest

__all__ = [
    "STORE",
    "Content",
    "Referrers",
    "Store",
    "StreamHash",
    "by_subject",
    "pieces_of",
    "read_manifest",
    "refers_to",
    "verified",
]

# Bytes, or a function that begins a new iteration over them: a registry may ask for them again.
Content = bytes | Callable[[], Iterable[bytes]]


class StreamHash(Protocol):
    """A hash as hashlib has them."""

    def update(self, data: bytes, /) -> None:
        """Append bytes."""
        ...

    def hexdigest(self) -> str:
        """The digest of all bytes."""
        ...


class Store(Protocol):
    """A place for blobs and manifests: a Layout, or one repository of a registry.

    Any thread may call any method. Besides what is listed, every method raises StorageError (a
    layout) or RegistryError (a registry) when the store cannot be used.
    """

    def resolve(self, reference: str) -> Manifest | Index:
        """The manifest that a tag or digest names.

        Raises:
            NotFoundError: it names none.
            VerificationError: the bytes are not those of the digest.
            FormatError: no manifest of a type that we know.
        """
        ...

    def fetch(self, descriptor: Descriptor, digest: StreamHash | None = None) -> Iterator[bytes]:
        """The content in pieces, which are those of the digest when the iteration ends well.

        ``digest`` computes it in the place of hashlib, by the descriptor's algorithm.

        Raises:
            NotFoundError: it is not there.
            VerificationError: it is longer, shorter or other than the descriptor says; all but
                the last piece may have been handed out by then.
        """
        ...

    def read_blob(self, digest: Digest) -> Iterator[bytes]:
        """The bytes of a blob of unknown size, not verified: the reader checks digest and size.

        Raises:
            NotFoundError: it is not there.
        """
        ...

    def fetch_manifest(self, descriptor: Descriptor) -> Manifest | Index:
        """The manifest that a descriptor names, verified; raises as ``resolve`` does."""
        ...

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether the content is there."""
        ...

    def push(self, descriptor: Descriptor, content: Content) -> None:
        """Store content, unless it is there; a manifest goes where manifests go, without a tag.

        Raises:
            VerificationError: the content is not that of the descriptor; it is not stored.
        """
        ...

    def tag(self, manifest: Manifest | Index, tag: str) -> None:
        """Store a manifest under a tag, which no longer names what it named."""
        ...

    def references(self) -> list[str]:
        """Tags and digests of manifests that may be there, as far as the store can tell.

        Those that came last are last, as far as that is known.
        """
        ...

    def referrers(self, subject: Descriptor, *artifact_types: str) -> Referrers:
        """What refers to a manifest, by what the store says: fetch it to know.

        The descriptors have the artifact type and annotations of their manifests. With types, only
        those that have one of them are listed, and those of which the store does not tell.
        """
        ...

    def attach(self, manifests: Iterable[Manifest]) -> None:
        """Store manifests, whose blobs are there, as referrers of their subjects.

        Those of one subject become visible together: in one update of the index, where there is
        one. Where a registry has no lock, one pause serves all subjects: attach as many at once as
        there are. Referrers that others attach meanwhile stay.

        Raises:
            ParameterError: a manifest has no subject; nothing is stored.
            AttachError: of several subjects, some did not get theirs.
        """
        ...

    def detach(self, subject: Descriptor, referrers: Iterable[Descriptor]) -> None:
        """Take manifests out of the list of what refers to a subject; others stay.

        Raises:
            RegistryError: the registry lists referrers by itself, and deletes no manifests.
        """
        ...


STORE = Kind(
    "a Layout, a Registry, or a Store of your own",
    lambda value: not isinstance(value, type) and hasattr(value, "fetch_manifest"),
)


class Referrers(list[Descriptor]):
    """Descriptors, each once.

    Attributes:
        problems: what stands in the list beside them and was passed over.
        cut: whether there are more, too many to be read.
    """

    def __init__(
        self,
        descriptors: Iterable[Descriptor] = (),
        problems: Iterable[str] = (),
        *,
        cut: bool = False,
    ) -> None:
        """Take each descriptor once."""
        unique: dict[Descriptor, Descriptor] = {}
        for one in descriptors:
            unique.setdefault(one.plain(), one)
        super().__init__(unique.values())
        self.problems = tuple(dict.fromkeys(problems))
        self.cut = cut

    def of_types(self, artifact_types: Collection[str]) -> Referrers:
        """Those of some types or none; all if no types are given."""
        wanted = [
            one
            for one in self
            if not artifact_types
            or one.artifact_type is None
            or one.artifact_type in artifact_types
        ]
        return Referrers(wanted, self.problems, cut=self.cut)


def verified(
    pieces: Iterable[bytes],
    descriptor: Descriptor,
    where: str,
    digest: StreamHash | None = None,
) -> Iterator[bytes]:
    """The same pieces; the last is held back until all are known to be the descriptor's content.

    ``digest`` computes it in the place of hashlib.

    Raises:
        VerificationError: too short, too long, or of another digest; ``where`` names the source.
    """
    what = f"{descriptor.digest} from {where}"
    algorithm = descriptor.digest.algorithm
    digest = digest or hashlib.new(algorithm)
    size, last = 0, b""
    for piece in filter(None, pieces):
        size += len(piece)
        if size > descriptor.size:
            raise VerificationError(f"{what} is longer than its {descriptor.size} bytes")
        digest.update(piece)
        if last:
            yield last
        last = piece
    if size < descriptor.size:
        raise VerificationError(f"{what} has {size} bytes instead of {descriptor.size}")
    if digest.hexdigest() != descriptor.digest.encoded:
        raise VerificationError(
            f"{what} has another digest, {algorithm}:{digest.hexdigest()}: it was damaged or "
            "exchanged"
        )
    if last:
        yield last


def pieces_of(content: Content) -> Iterable[bytes]:
    """The bytes of content, from its beginning."""
    return (content,) if isinstance(content, bytes) else content()


def read_manifest(pieces: Iterable[bytes], descriptor: Descriptor, where: str) -> Manifest | Index:
    """Verify and parse a manifest; FormatError if it is larger than manifests may be."""
    if descriptor.size > MANIFEST_LIMIT:
        raise FormatError(
            f"manifest {descriptor.digest} from {where} has {descriptor.size} bytes, more than "
            f"{MANIFEST_LIMIT}"
        )
    return parse_manifest(b"".join(verified(pieces, descriptor, where)), descriptor)


def refers_to(manifest: Manifest | Index, subject: Descriptor) -> bool:
    """Whether a manifest's subject is this one."""
    return manifest.subject is not None and manifest.subject.digest == subject.digest


def by_subject(manifests: Iterable[Manifest]) -> dict[Descriptor, list[Manifest]]:
    """Manifests by the plain descriptors of their subjects; ParameterError for one without."""
    groups: dict[Descriptor, list[Manifest]] = {}
    for manifest in manifests:
        if manifest.subject is None:
            raise ParameterError(f"manifest {manifest.descriptor.digest} refers to nothing")
        groups.setdefault(manifest.subject.plain(), []).append(manifest)
    return groups
