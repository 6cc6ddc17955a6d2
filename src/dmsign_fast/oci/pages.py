"""Lists of a registry, page by page (distribution-spec 1.1), with a bound on all of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

from dmsign_fast.errors import RegistryError
from dmsign_fast.oci.urls import join, origin

if TYPE_CHECKING:
    from dmsign_fast.oci.auth import Scope
    from dmsign_fast.oci.transport import Transport

__all__ = ["Page", "next_page", "read_pages"]

_MOST_PAGES = 1000
_PAGE_LIMIT = 8 << 20  # bytes: registries should divide what has more than 4 MiB, and some do not
_LIST_LIMIT = 32 << 20  # bytes, after which no page is asked for
_LONGEST_LINK = 8192
_NEXT = re.compile(r';\s*rel\s*=\s*"?next"?\s*(?:[;,]|$)', re.IGNORECASE)


class Page(NamedTuple):
    """What the registry sent, and whether the list goes on behind it."""

    body: bytes
    more: bool


def read_pages(
    transport: Transport,
    path: str,
    scope: Scope,
    what: str,
    absent: Collection[int],
    media_type: str | None = None,
) -> Iterator[Page]:
    """Yield a list, page by page, to its end or to a bound; all pages share one budget of time.

    Nothing is yielded if there is no such list.

    Args:
        transport: to the registry.
        path: of the first page.
        scope: what reading needs.
        what: names the list in messages.
        absent: statuses that say that there is no such list.
        media_type: that the pages have; a first page of another type is no such list.

    Raises:
        AnswerTooLargeError: a page has more than 8 MiB.
        RegistryError: a further page is missing or elsewhere.
    """
    budget, left = transport.budget(), _LIST_LIMIT
    for number in range(_MOST_PAGES):
        answer = transport.ask(
            "GET",
            path,
            scope,
            (200, *absent),
            headers={"Accept": media_type or "application/json"},
            limit=_PAGE_LIMIT,
            budget=budget,
        )
        if answer.status != 200 or media_type not in (None, answer.content_type):
            if number:
                raise RegistryError(f"{what}: a further page is missing")
            return
        following = next_page(answer.headers.get("Link", ""), answer.url, what)
        yield Page(answer.body, following is not None)
        left -= len(answer.body)
        if following is None or left <= 0:
            return
        path = following


def next_page(link: str, url: str, what: str) -> str | None:
    """The URL of the next page by a Link header (RFC 8288) of the answer from ``url``.

    >>> next_page('</v2/a/tags/list?last=b>; rel="next"', "https://r.example/v2/a/tags/list", "")
    'https://r.example/v2/a/tags/list?last=b'

    Raises:
        RegistryError: it is at another host, no URL, or the header has more than 8192 characters.
    """
    if len(link) > _LONGEST_LINK:
        raise RegistryError(f"{what}: a Link header of more than {_LONGEST_LINK} characters")
    for part in link.split("<")[1:]:
        target, closed, parameters = part.partition(">")
        if closed and _NEXT.search(parameters):
            following = join(url, target)
            if origin(following) != origin(url):
                raise RegistryError(f"{what} at {url} goes on at another host")
            return following
    return None
