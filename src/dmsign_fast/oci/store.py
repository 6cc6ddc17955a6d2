"""What layouts and registries have in common, and the one check of all that comes from them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from dmsign_fast.errors import FormatError, ParameterError, VerificationError
from dmsign_fast.oci.descriptor import Descriptor
from dmsign_fast.oci.manifest import MANIFEST_LIMIT, Index, Manifest, parse_manifest

__all__ = [
    "Content",
    "Store",
    "check_subjects",
    "pieces_of",
    "read_manifest",
    "refers_to",
    "verified",
]

# Bytes, or a function that begins a new iteration over them: a registry may ask for them again.
Content = bytes | Callable[[], Iterable[bytes]]


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

    def fetch(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The content in pieces, which are those of the digest when the iteration ends well.

        Raises:
            NotFoundError: it is not there.
            VerificationError: it is longer, shorter or other than the descriptor says; all but
                the last piece may have been handed out by then.
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

    def referrers(self, subject: Descriptor, artifact_type: str | None = None) -> list[Descriptor]:
        """What refers to a manifest, by what the store says: fetch it to know.

        The descriptors have the artifact type and annotations of their manifests.
        """
        ...

    def attach(
        self,
        subject: Descriptor,
        manifests: Sequence[Manifest],
        *,
        instead_of: Sequence[Descriptor] = (),
    ) -> None:
        """Store manifests whose subject this is, whose blobs are there, as its referrers.

        They become visible together: in one update of the index, where there is one. Referrers
        that others attach meanwhile stay.

        Args:
            subject: what they refer to.
            manifests: to store; none, to remove others only.
            instead_of: referrers that are no longer listed once the manifests are.
        """
        ...


def verified(pieces: Iterable[bytes], descriptor: Descriptor, where: str) -> Iterator[bytes]:
    """The same pieces; the last is held back until all are known to be the descriptor's content.

    Raises:
        VerificationError: too short, too long, or of another digest; ``where`` names the source.
    """
    what = f"{descriptor.digest} from {where}"
    digest = hashlib.new(descriptor.digest.algorithm)
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
            f"{what} has another digest, {digest.name}:{digest.hexdigest()}: it was damaged or "
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


def check_subjects(manifests: Iterable[Manifest], subject: Descriptor) -> None:
    """ParameterError unless all of them refer to this subject."""
    for manifest in manifests:
        if not refers_to(manifest, subject):
            raise ParameterError(
                f"manifest {manifest.descriptor.digest} does not refer to {subject.digest}"
            )
