"""What refers to a manifest in a registry: by the Referrers API, or the index under a tag.

Who reads and who writes decide alike. A registry has the API for a subject if it answers
``GET /referrers/<digest>`` with an index. Some that answer so list nothing whatever was pushed, so
an empty list says nothing: then the index under the tag is read, and written where the registry
does not promise (header OCI-Subject) to list what was pushed.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from dmsign_fast.errors import (
    AttachError,
    DmsignError,
    FormatError,
    RegistryError,
    VerificationError,
)
from dmsign_fast.oci.manifest import OCI_INDEX, Entry, Index, read_entries
from dmsign_fast.oci.pages import read_pages
from dmsign_fast.oci.store import Referrers, by_subject
from dmsign_fast.oci.tag_schema import update_indexes
from dmsign_fast.oci.transport import AnswerTooLargeError
from dmsign_fast.strict_json import Members, read_object

if TYPE_CHECKING:
    from dmsign_fast.oci.auth import Scope
    from dmsign_fast.oci.descriptor import Descriptor, Digest
    from dmsign_fast.oci.manifest import Manifest
    from dmsign_fast.oci.transport import Answer, Transport

__all__ = ["MOST_REFERRERS", "RegistryReferrers"]

MOST_REFERRERS = 10_000
# What registries without the API say; 401 without a challenge is one of them (Harbor 2.7).
_NO_API = (400, 401, 403, 404, 405, 406, 410, 501)
_log = logging.getLogger(__name__)


class _Part(NamedTuple):
    entries: list[Entry]
    more: bool


class RegistryReferrers:
    """The referrers of one repository."""

    def __init__(
        self,
        transport: Transport,
        repository: str,
        scope: Scope,
        get: Callable[[str], Manifest | Index | None],
        put: Callable[[Manifest | Index, str], Answer],
        delete: Callable[[Digest], None],
    ) -> None:
        """Take the means: ``get`` and ``put`` read and write a manifest under a tag or digest."""
        self._transport, self._scope = transport, scope
        self._path = f"/v2/{repository}/referrers/"
        self._where = f"{transport.registry}/{repository}"
        self._get, self._put, self._delete = get, put, delete

    def read(self, subject: Descriptor, artifact_types: Sequence[str]) -> Referrers:
        """See Store; with types, a list that is long is asked for by types."""
        listed = self._listed(subject, artifact_types)
        if listed or (listed is not None and listed.cut):
            return listed
        problems: tuple[str, ...] = () if listed is None else listed.problems
        try:
            index = self._index(subject.digest.referrers_tag)
        except (FormatError, VerificationError) as error:
            if listed is None:
                raise
            index, problems = None, (*problems, str(error))
        if index:
            return Referrers(index.manifests, (*problems, *index.problems)).of_types(artifact_types)
        return Referrers((), problems)

    def _listed(self, subject: Descriptor, artifact_types: Sequence[str] = ()) -> Referrers | None:
        """The answer of the Referrers API; None from a registry that does not have it."""
        path = self._path + subject.digest
        try:
            part = self._part(path, first_only=bool(artifact_types))
        except AnswerTooLargeError as error:
            if not artifact_types:
                return Referrers((), (str(error),), cut=True)
        else:
            if part is None:
                return None
            if not (artifact_types and part.more):
                return self._referrers([part]).of_types(artifact_types)
        parts = [self._part(f"{path}?artifactType={quote(one, safe='')}") for one in artifact_types]
        return self._referrers(filter(None, parts)).of_types(artifact_types)

    def _part(self, path: str, *, first_only: bool = False) -> _Part | None:
        """Some pages of a list; None from a registry without the Referrers API."""
        what = f"the list of referrers of {self._where}"
        part = None
        entries: list[Entry] = []
        for page in read_pages(self._transport, path, self._scope, what, _NO_API, OCI_INDEX):
            members = Members(read_object(page.body, what, "manifests"), ["manifests"], what)
            room = MOST_REFERRERS - len(entries)
            listed = members.array("manifests")
            entries += read_entries(listed[:room], what)
            part = _Part(entries, page.more or len(listed) > room)
            if first_only or len(listed) >= room:
                break
        if part is None:
            _log.info("%s has no Referrers API: its index under a tag is used", self._where)
        return part

    def _referrers(self, parts: Iterable[_Part]) -> Referrers:
        parts = list(parts)
        entries = [one for part in parts for one in part.entries]
        problems = [one.problem for one in entries if one.problem]
        cut = any(part.more for part in parts)
        if cut:
            problems.append(
                f"the list of referrers of {self._where} goes on after {len(entries)} entries, "
                "which are all that is read"
            )
        found = (one.descriptor for one in entries if one.descriptor)
        return Referrers(found, problems, cut=cut)

    def _index(self, tag: str) -> Index | None:
        """What the registry has under the tag of an index of referrers."""
        index = self._get(tag)
        if index is not None and not isinstance(index, Index):
            raise FormatError(
                f"{self._where}:{tag} should be an index of referrers, and is a "
                f"{index.descriptor.media_type}: it is in the way"
            )
        return index

    def attach(self, manifests: Iterable[Manifest]) -> None:
        """See Store."""
        groups = by_subject(manifests)
        failed: dict[str, DmsignError] = {}
        promised: dict[Descriptor, bool] = {}
        for subject, group in groups.items():
            try:
                answers = [self._put(one, one.descriptor.digest) for one in group]
            except DmsignError as error:
                failed[subject.digest] = error
            else:
                says = {answer.headers.get("OCI-Subject") for answer in answers}
                promised[subject] = says == {subject.digest}
        tags = {
            subject.digest.referrers_tag: [one.referrer for one in groups[subject]]
            for subject in self._confirm(groups, promised, failed)
        }
        settle = self._transport.connection.settle
        unsettled = update_indexes(tags, self._index, self._put, settle, self._where)
        failed |= {
            subject.digest: unsettled[tag]
            for subject in groups
            if (tag := subject.digest.referrers_tag) in unsettled
        }
        if failed and len(groups) == 1:
            raise next(iter(failed.values()))
        if failed:
            raise AttachError(failed, len(groups))

    def detach(self, subject: Descriptor, referrers: Iterable[Descriptor]) -> None:
        """See Store."""
        gone = {one.digest: one for one in referrers}
        types = {one.artifact_type or "" for one in gone.values()}
        for one in self._listed(subject, sorted(types)) or ():
            if one.digest in gone:
                self._delete(one.digest)
        tag = subject.digest.referrers_tag
        settle = self._transport.connection.settle
        failed = update_indexes({tag: ()}, self._index, self._put, settle, self._where, gone=gone)
        if failed:
            raise failed[tag]

    def _confirm(
        self,
        groups: Mapping[Descriptor, Sequence[Manifest]],
        promised: Mapping[Descriptor, bool],
        failed: dict[str, DmsignError],
    ) -> list[Descriptor]:
        """See that what was pushed is listed: some registries lose what comes at the same time.

        Returns:
            The subjects whose index under a tag must list their referrers.
        """
        connection = self._transport.connection
        unlisted: list[Descriptor] = []
        waiting = dict(promised)
        for number in range(connection.tries):
            if waiting and number:
                time.sleep(connection.settle * random.uniform(0.5, 1))
            for subject in list(waiting):
                try:
                    missing = self._missing(subject, groups[subject], promised[subject])
                    for manifest in missing or ():
                        self._put(manifest, manifest.descriptor.digest)
                except DmsignError as error:
                    failed[subject.digest], missing = error, []
                if missing is None:
                    unlisted.append(subject)
                if not missing:
                    del waiting[subject]
        for subject in waiting:
            failed[subject.digest] = RegistryError(
                f"{self._where} took {groups[subject][0].descriptor.digest} and does not list it "
                f"as a referrer of {subject.digest}: try again, or ask who runs the registry"
            )
        return unlisted

    def _missing(
        self, subject: Descriptor, group: Sequence[Manifest], promised: bool
    ) -> list[Manifest] | None:
        """What the registry does not list; None if it lists nothing and promised nothing."""
        listed = self._listed(subject)
        if listed is not None and listed.cut:
            listed = self._listed(subject, [one.referrer.artifact_type or "" for one in group])
        if listed is None or not (listed or listed.problems or promised):
            return None
        known = {one.plain() for one in listed}
        return [one for one in group if one.descriptor not in known]
