"""A repository of a registry (OCI distribution-spec 1.1)."""

from __future__ import annotations

import contextlib
import random
import re
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlunsplit

from dmsign_fast.errors import (
    FormatError,
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
    OCI_INDEX,
    Index,
    Manifest,
    parse_manifest,
    type_of_manifest,
)
from dmsign_fast.oci.reference import RegistryReference, is_tag
from dmsign_fast.oci.store import (
    Content,
    check_subjects,
    pieces_of,
    read_manifest,
    verified,
)
from dmsign_fast.oci.tag_schema import update_index
from dmsign_fast.oci.transport import Answer, Connection, Transport
from dmsign_fast.oci.urls import join, origin, split
from dmsign_fast.strict_json import Members, read_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Registry"]

_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
_NO_TYPE = ("", "application/json", "application/octet-stream", "text/plain")
_MOST_PAGES = 1000
_CATALOG: Scope = ("registry:catalog:*",)
_REFERRERS_TAG = re.compile("^sha256-([0-9a-f]{64})$")
_OURS = "what was to be pushed"


class Registry:
    """A Store that is one repository; close it, or use it in a ``with`` block."""

    def __init__(
        self,
        reference: RegistryReference,
        connection: Connection = Connection(),  # noqa: B008  frozen
        credentials: Credentials | None = None,
    ) -> None:
        """Take the repository of a reference; nothing is sent yet.

        Args:
            reference: its tag and digest do not matter here.
            connection: how to reach the registry.
            credentials: the login; otherwise that which docker or podman keep, if one is needed.
        """
        self.registry, self.repository = reference.registry, reference.repository
        self._transport = Transport(
            self.registry,
            connection,
            lambda: credentials or find_credentials(self.registry, self.repository),
        )
        self._connection = connection
        self._pull: Scope = (f"repository:{self.repository}:pull",)
        self._push: Scope = (f"repository:{self.repository}:pull,push",)

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
            raise NotFoundError(f"there is no {reference} in {self}")
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

    def fetch(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The content in verified pieces, after breaks from where they were; see Store."""
        return verified(self._download(descriptor), descriptor, str(self))

    def fetch_manifest(self, descriptor: Descriptor) -> Manifest | Index:
        """A manifest, verified; see Store."""
        return read_manifest(self._download(descriptor), descriptor, str(self))

    def _download(self, descriptor: Descriptor) -> Iterator[bytes]:
        accept = {"Accept": descriptor.media_type if _is_manifest(descriptor) else "*/*"}
        return self._transport.download(self._place(descriptor), self._pull, accept)

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether the registry says that it has the content."""
        answer = self._transport.ask(
            "HEAD", self._place(descriptor), self._pull, (200, 404), headers=_ACCEPT
        )
        return answer.status == 200

    def push(self, descriptor: Descriptor, content: Content) -> None:
        """Store a blob, unless it is there, or a manifest; see Store."""
        if _is_manifest(descriptor):
            manifest = read_manifest(pieces_of(content), descriptor, _OURS)
            self._put(manifest, descriptor.digest)
        elif not self.exists(descriptor):
            self._transport.patience().keep_trying(lambda: self._upload(descriptor, content))

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
                self._transport.send("DELETE", place, self._push, (202, 204))
        return answer.status == 201

    def _upload(self, descriptor: Descriptor, content: Content) -> None:
        start = self._transport.send("POST", self._path("blobs", "uploads/"), self._push, (202,))
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
        tags: list[str] = []
        for answer in self._pages(self._path("tags", "list"), "tags"):
            tags += Members(read_object(answer.body, what), ["name", "tags"], what).texts("tags")
        return list(dict.fromkeys(_REFERRERS_TAG.sub(r"sha256:\1", tag) for tag in tags))

    def repositories(self) -> list[str]:
        """The repositories of the whole registry, where it tells: many hosted ones do not."""
        what = f"the list of repositories of {self.registry}"
        names: list[str] = []
        for answer in self._pages("/v2/_catalog", "repositories", scope=_CATALOG):
            members = Members(read_object(answer.body, what), ["repositories"], what)
            names += members.texts("repositories")
        return list(dict.fromkeys(names))

    def referrers(self, subject: Descriptor, artifact_type: str | None = None) -> list[Descriptor]:
        """What the registry lists, or else the index under the tag for it; see Store."""
        found = self._listed(subject, artifact_type)
        if found is None:
            index = self._referrers_index(subject)
            found = list(index.manifests) if index else []
        unique = {one.digest: one for one in found}
        return [one for one in unique.values() if artifact_type in (None, one.artifact_type)]

    def _listed(self, subject: Descriptor, artifact_type: str | None) -> list[Descriptor] | None:
        """The answer of the Referrers API; None from a registry that does not have it."""
        page = self._path("referrers", subject.digest)
        if artifact_type is not None:
            page += f"?artifactType={quote(artifact_type, safe='')}"
        found: list[Descriptor] | None = None
        for answer in self._pages(page, "referrers", OCI_INDEX):
            index = parse_manifest(answer.body, Descriptor.of(answer.body, OCI_INDEX))
            found = [*(found or ()), *(index.manifests if isinstance(index, Index) else ())]
        return found

    def _pages(
        self, page: str, what: str, media_type: str | None = None, scope: Scope | None = None
    ) -> Iterator[Answer]:
        """A list and its further pages; nothing where there is none, or none of that type."""
        for number in range(_MOST_PAGES):
            answer = self._transport.ask(
                "GET",
                page,
                scope or self._pull,
                (200, 404),
                headers={"Accept": media_type or "application/json"},
                limit=MANIFEST_LIMIT,
            )
            if answer.status == 404 or media_type not in (None, answer.content_type):
                if number == 0:
                    return
                raise RegistryError(f"{self}: a further page of {what} is missing")
            yield answer
            following = _next_page(answer, what)
            if following is None:
                return
            page = following
        raise RegistryError(f"{self} lists more than {_MOST_PAGES} pages of {what}")

    def _referrers_index(self, subject: Descriptor) -> Index | None:
        """What the registry has under the tag of an index of referrers."""
        index = self._get(subject.digest.referrers_tag)
        if index is not None and not isinstance(index, Index):
            raise FormatError(
                f"{self}:{subject.digest.referrers_tag} should be an index of referrers, and is a "
                f"{index.descriptor.media_type}: it is in the way"
            )
        return index

    def attach(
        self,
        subject: Descriptor,
        manifests: Sequence[Manifest],
        *,
        instead_of: Sequence[Descriptor] = (),
    ) -> None:
        """Push manifests as referrers, and list them where the registry does not; see Store.

        Raises:
            RegistryError: the registry deletes no manifests, and lists referrers by itself.
        """
        check_subjects(manifests, subject)
        answers = [self._put(one, one.descriptor.digest) for one in manifests]
        gone = {one.digest for one in instead_of} - {one.descriptor.digest for one in manifests}
        lists = (
            all(answer.headers.get("OCI-Subject") == subject.digest for answer in answers)
            if answers
            else self._listed(subject, None) is not None
        )
        if lists:
            self._confirm(subject, manifests)
            for digest in gone:
                self._delete(digest)
            return
        update_index(
            [one.referrer for one in manifests],
            lambda: self._referrers_index(subject),
            lambda index: self.tag(index, subject.digest.referrers_tag),
            self._connection.settle,
            f"{self}:{subject.digest.referrers_tag}",
            gone,
        )

    def _delete(self, digest: Digest) -> None:
        answer = self._transport.ask(
            "DELETE",
            self._path("manifests", digest),
            merge_scopes(*self._push, f"repository:{self.repository}:delete"),
            (202, 200, 404, 405, 400),
        )
        if answer.status in (405, 400):
            raise RegistryError(
                f"{self} deletes no manifests ({answer.status}), so that {digest} stays beside the "
                "new referrer: allow it, or ask who runs the registry"
            )

    def _confirm(self, subject: Descriptor, manifests: Sequence[Manifest]) -> None:
        """See that they are listed: some registries lose what several push at the same time."""
        missing = list(manifests)
        for _ in range(self._connection.tries):
            listed = {one.digest for one in self.referrers(subject)}
            missing = [one for one in missing if one.descriptor.digest not in listed]
            if not missing:
                return
            time.sleep(self._connection.settle * random.uniform(0.5, 1))
            for manifest in missing:
                self._put(manifest, manifest.descriptor.digest)
        raise RegistryError(
            f"{self} took {missing[0].descriptor.digest} and does not list it as a referrer of "
            f"{subject.digest}: try again, or ask who runs the registry"
        )


def _is_manifest(descriptor: Descriptor) -> bool:
    return descriptor.media_type in MANIFEST_TYPES


def _check_reference(reference: str) -> None:
    if ":" in reference:
        Digest(reference)
    elif not is_tag(reference):
        raise ParameterError(f"{reference!r} is neither a tag nor a digest")


def _claimed_digest(answer: Answer) -> Digest | None:
    claimed = answer.headers.get("Docker-Content-Digest")
    return Digest(claimed) if claimed else None


def _next_page(answer: Answer, what: str) -> str | None:
    """The URL of the next page (RFC 8288), which must be of the same registry."""
    for link in re.finditer(r"<([^>]*)>([^<]*)", answer.headers.get("Link", "")):
        if re.search(r';\s*rel="?next"?\s*(?:[;,]|$)', link[2], re.IGNORECASE):
            url = join(answer.url, link[1])
            if origin(url) != origin(answer.url):
                raise RegistryError(f"the {what} at {answer.url} go on at another host")
            return url
    return None
