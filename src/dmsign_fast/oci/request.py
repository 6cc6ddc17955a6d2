"""A request to a registry, its body as it is sent, and where the answer's begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dmsign_fast.errors import RegistryError
from dmsign_fast.oci.urls import shown

if TYPE_CHECKING:
    import requests

    from dmsign_fast.oci.auth import Scope
    from dmsign_fast.oci.store import Content

__all__ = ["Request", "body_of", "first_byte"]


@dataclass(frozen=True)
class Request:
    """What is asked of a registry; its text has the URL without secrets.

    Attributes:
        method: of HTTP.
        url: where.
        scope: what it needs; None for no Authorization of ours.
        headers: besides the usual.
        content: to send.
        size: of the content, in bytes.
    """

    method: str
    url: str
    scope: Scope | None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Content | None = None
    size: int = 0

    def __str__(self) -> str:
        return f"{self.method} {shown(self.url)}"


class _Body:
    """A body of known size for requests, which makes no chunks of it."""

    def __init__(self, pieces: Iterable[bytes], size: int) -> None:
        self._pieces, self._size = pieces, size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)


def body_of(content: Content | None, size: int) -> Any:
    """The content as requests sends it, with its length."""
    if not callable(content):
        return content
    return _Body(content(), size) if size else b"".join(content())  # requests makes chunks of 0


def first_byte(response: requests.Response, request: Request) -> int:
    """Where the body of a response begins in the content; RegistryError if not where asked."""
    if response.status_code == 200:
        return 0
    span = response.headers.get("Content-Range", "")
    first = span.removeprefix("bytes ").partition("-")[0].strip()
    wanted = request.headers["Range"].removeprefix("bytes=").rstrip("-")
    if first != wanted:
        raise RegistryError(f"{request}: asked from byte {wanted}, it sends {span!r}")
    return int(first)
