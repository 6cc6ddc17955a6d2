"""A repository of a registry (OCI distribution-spec 1.1)."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlunsplit

from dmsign_fast.arguments import MAPPING, instance, takes
from dmsign_fast.errors import (
    NotFoundError,
    ParameterError,
    RegistryError,
    VerificationError,
)
from dmsign_fast.oci.auth import Scope, merge_scopes
from dmsign_fast.oci.credentials import Credentials, find_credentials
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.manifest import (
    MANIFEST_LIMIT,
    MANIFEST_TYPES,
    Index,
    Manifest,
    type_of_manifest,
)
from dmsign_fast.oci.pages import read_pages
from dmsign_fast.oci.reference import RegistryReference, is_tag
from dmsign_fast.oci.referrers import RegistryReferrers
from dmsign_fast.oci.store import Content, Referrers, pieces_of, read_manifest, verified
from dmsign_fast.oci.transport import Answer, Connection, Transport
from dmsign_fast.oci.urls import join, split
from dmsign_fast.strict_json import Members, read_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dmsign_fast.bounded_http import Budget
    from dmsign_fast.oci.store import StreamHash

__all__ = ["Registry"]

_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
_NO_TYPE = ("", "application/json", "application/octet-stream", "text/plain")
_CATALOG: Scope = ("registry:catalog:*",)
_REFERRERS_TAG = re.compile("^sha256-([0-9a-f]{64})$")
_OURS = "what was to be pushed"


class Registry:
    """A Store that is one repository; close it, or use it in a ``with`` block."""

    @takes(
        reference=instance((str, RegistryReference), "text such as registry.example/app"),
        connection=instance(Connection, "a Connection"),
        credentials=instance(Credentials, "Credentials").or_none,
        environment=MAPPING.or_none,
    )
    def __init__(
        self,
        reference: RegistryReference | str,
        connection: Connection = Connection(),  # noqa: B008  frozen
        credentials: Credentials | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Take the repository of a reference; nothing is sent yet.

        Args:
            reference: or its text; its tag and digest do not matter here.
            connection: how to reach the registry.
            credentials: the login; otherwise that which docker or podman keep, if one is needed.
            environment: by which find_credentials finds it; by default that of the process.
        """
        if isinstance(reference, str):
            reference = RegistryReference.parse(reference)
        self.registry, self.repository = reference.registry, reference.repository
        self._transport = Transport(
            self.registry,
            connection,
            lambda: credentials or find_credentials(self.registry, self.repository, environment),
        )
        self._pull: Scope = (f"repository:{self.repository}:pull",)
        self._push: Scope = (f"repository:{self.repository}:pull,push",)
        self._referrers = RegistryReferrers(
            self._transport, self.repository, self._pull, self._get, self._put, self._delete
        )

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}"

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _path(self, kind: str, name: str = "") -> str:
        return f"/v2/{self.repository}/{kind}/{name}"

    def _place(self, descriptor: Descriptor) -> str:
        kind = "manifests" if _is_manifest(descriptor) else "blobs"
        return self._path(kind, descriptor.digest)

    def resolve(self, reference: str) -> Manifest | Index:
        """The manifest that a tag or digest names; see Store."""
        _check_reference(reference)
        found = self._get(reference)
        if found is None:
            raise NotFoundError(
                f"there is no {reference} in {self}: check the repository, and the tag or digest"
            )
        return found

    def _get(self, reference: str) -> Manifest | Index | None:
        answer = self._transport.ask(
            "GET",
            self._path("manifests", reference),
            self._pull,
            (200, 404),
            headers=_ACCEPT,
            limit=MANIFEST_LIMIT,
        )
        if answer.status == 404:
            return None
        by_digest = Digest(reference) if ":" in reference else None
        claimed = _claimed_digest(answer)
        digest = by_digest or claimed or Digest.of(answer.body)
        media_type = answer.content_type
        if media_type in _NO_TYPE:
            media_type = type_of_manifest(answer.body)
        descriptor = Descriptor(media_type, digest, len(answer.body))
        return read_manifest([answer.body], descriptor, str(self))

    def fetch(self, descriptor: Descriptor, digest: StreamHash | None = None) -> Iterator[bytes]:
        """The content in verified pieces, after breaks from where they were; see Store."""
        return verified(self._download(descriptor), descriptor, str(self), digest)

    def read_blob(self, digest: Digest) -> Iterator[bytes]:
        """The bytes of a blob, not verified; see Store."""
        return self._transport.download(self._path("blobs", digest), self._pull, {"Accept": "*/*"})

    def fetch_manifest(self, descriptor: Descriptor) -> Manifest | Index:
        """A manifest, verified; see Store."""
        return read_manifest(self._download(descriptor), descriptor, str(self))

    def _download(self, descriptor: Descriptor) -> Iterator[bytes]:
        accept = {"Accept": descriptor.media_type if _is_manifest(descriptor) else "*/*"}
        return self._transport.download(self._place(descriptor), self._pull, accept)

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether the registry says that it has the content; some cannot tell of blobs."""
        answer = self._transport.ask(
            "HEAD", self._place(descriptor), self._pull, (200, 403, 404, 405), headers=_ACCEPT
        )
        return answer.status == 200

    def push(self, descriptor: Descriptor, content: Content) -> None:
        """Store a blob, unless it is there, or a manifest; see Store."""
        if _is_manifest(descriptor):
            manifest = read_manifest(pieces_of(content), descriptor, _OURS)
            self._put(manifest, descriptor.digest)
        elif not self.exists(descriptor):
            budget = self._transport.budget()
            self._transport.patience().keep_trying(
                lambda: self._upload(descriptor, content, budget)
            )

    def mount(self, descriptor: Descriptor, repository: str) -> bool:
        """Take a blob over from another repository of the registry, if it lets us.

        Returns:
            Whether the blob is there now; if not, push it.
        """
        if self.exists(descriptor):
            return True
        query = f"?mount={quote(descriptor.digest, safe=':')}&from={quote(repository, safe='/')}"
        answer = self._transport.ask(
            "POST",
            self._path("blobs", "uploads/") + query,
            merge_scopes(*self._push, f"repository:{repository}:pull"),
            (201, 202, 404),
        )
        if answer.status == 202 and (location := answer.headers.get("Location")):
            with contextlib.suppress(RegistryError):  # it ends by itself too
                place = join(answer.url, location)
                self._transport.send(
                    "DELETE", place, self._push, (202, 204), self._transport.budget()
                )
        return answer.status == 201

    def _upload(self, descriptor: Descriptor, content: Content, budget: Budget) -> None:
        begin = self._path("blobs", "uploads/")
        start = self._transport.send("POST", begin, self._push, (202,), budget)
        location = start.headers.get("Location")
        if not location:
            raise RegistryError(f"{self} does not say where to push {descriptor.digest}")
        parts = split(join(start.url, location))
        query = "&".join(filter(None, (parts.query, f"digest={quote(descriptor.digest, safe='')}")))
        self._transport.upload(
            urlunsplit(parts._replace(query=query)),
            self._push,
            (201, 204),
            lambda: verified(pieces_of(content), descriptor, _OURS),
            descriptor.size,
            budget,
        )

    def tag(self, manifest: Manifest | Index, tag: str) -> None:
        """Store a manifest under a tag; see Store."""
        _check_reference(tag)
        self._put(manifest, tag)

    def _put(self, manifest: Manifest | Index, name: str) -> Answer:
        descriptor = manifest.descriptor
        answer = self._transport.ask(
            "PUT",
            self._path("manifests", name),
            self._push,
            (200, 201, 202),
            headers={"Content-Type": descriptor.media_type},
            content=manifest.raw,
        )
        if (claimed := _claimed_digest(answer)) not in (None, descriptor.digest):
            raise VerificationError(f"{self} stored {claimed} in the place of {descriptor.digest}")
        return answer

    def references(self) -> list[str]:
        """The tags; where one is of an index of referrers, the digest of their subject."""
        what = f"the list of tags of {self}"
        tags = self._names(self._path("tags", "list"), what, "tags", self._pull)
        named = (_REFERRERS_TAG.sub(r"sha256:\1", tag) for tag in tags if is_tag(tag))
        return list(dict.fromkeys(named))

    def repositories(self) -> list[str]:
        """The repositories of the whole registry, where it tells: many hosted ones do not."""
        what = f"the list of repositories of {self.registry}"
        return list(dict.fromkeys(self._names("/v2/_catalog", what, "repositories", _CATALOG)))

    def _names(self, path: str, what: str, member: str, scope: Scope) -> Iterator[str]:
        """The texts in a list, all of them; what else stands in it is passed over."""
        more = False
        for page in read_pages(self._transport, path, scope, what, absent=(404,)):
            more = page.more
            listed = Members(read_object(page.body, what, member), [member], what)
            yield from (one for one in listed.array(member) if isinstance(one, str) and one)
        if more:
            raise RegistryError(f"{what} is too long: name what you want of it")

    def referrers(self, subject: Descriptor, *artifact_types: str) -> Referrers:
        """What the registry lists, or else the index under the tag for it; see Store."""
        return self._referrers.read(subject, artifact_types)

    def attach(self, manifests: Iterable[Manifest]) -> None:
        """Push manifests as referrers, and list them where the registry does not; see Store."""
        self._referrers.attach(manifests)

    def detach(self, subject: Descriptor, referrers: Iterable[Descriptor]) -> None:
        """Delete manifests that the registry lists, or take them out of its index; see Store."""
        self._referrers.detach(subject, referrers)

    def _delete(self, digest: Digest) -> None:
        answer = self._transport.ask(
            "DELETE",
            self._path("manifests", digest),
            merge_scopes(*self._push, f"repository:{self.repository}:delete"),
            (200, 202, 400, 404, 405),
        )
        if answer.status in (400, 405):
            raise RegistryError(
                f"{self} deletes no manifests ({answer.status}), so that {digest} stays listed: "
                "allow it to, or ask who runs the registry"
            )


def _is_manifest(descriptor: Descriptor) -> bool:
    return descriptor.media_type in MANIFEST_TYPES


def _check_reference(reference: str) -> None:
    if ":" in reference:
        Digest(reference)
    elif not is_tag(reference):
        raise ParameterError(
            f"{reference!r} is neither a tag nor a digest: use TAG, or sha256: and 64 hex digits"
        )


def _claimed_digest(answer: Answer) -> Digest | None:
    claimed = answer.headers.get("Docker-Content-Digest")
    return Digest(claimed) if claimed else None
