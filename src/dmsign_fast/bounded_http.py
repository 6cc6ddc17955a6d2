"""HTTP exchanges that end: each has a budget of seconds in all, and of bytes.

requests and urllib3 bound each single wait. A server that sends a byte a second, in headers,
interim answers, bodies or trailers, never exceeds that. Here all waits of an exchange are added up.
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from dmsign_fast.errors import StorageError
from dmsign_fast.tls import default_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    import requests
    from requests.adapters import HTTPAdapter

__all__ = ["Budget", "Fetched", "budget_adapter", "fetch", "mount_budgets", "reason_of"]

_PIECE = 1 << 16
# urllib3 puts the connection in front, as Python writes the object; Python and OpenSSL have numbers
_NOT_FOR_PEOPLE = re.compile(
    r"\w+\(host=.*?, port=\d+\): |\[Errno -?\d+\] |\[[A-Z0-9]+(?:: \w+)?\] | \(_ssl\.c:\d+\)"
)
_INCOMPLETE = re.compile(r"IncompleteRead\((\d+) bytes read, (\d+) more expected\)")
_REDIRECTS = (301, 302, 303, 307, 308)
_thread = threading.local()


class Budget:
    """Seconds for which the other side may still keep us waiting; what we do ourselves is free.

    Use it in a ``with`` block around the request; an answer that was begun there keeps it.
    """

    def __init__(self, seconds: float, least_rate: float | None = None) -> None:
        """Allow ``seconds`` in all, and more as bytes pass: a second for each ``least_rate``."""
        self.seconds = self.left = seconds
        self._least_rate = least_rate

    @property
    def exceeded(self) -> str | None:
        """Why there can be no answer any more; None if there can."""
        return f"it took more than {self.seconds:g} s in all" if self.left <= 0 else None

    def __enter__(self) -> None:
        self._outer = getattr(_thread, "budget", None)
        _thread.budget = self

    def __exit__(self, *_: object) -> None:
        _thread.budget = self._outer

    @contextlib.contextmanager
    def waiting(self, sock: Any, longest: float | None) -> Iterator[None]:
        """Let a socket wait, ``longest`` seconds or what is left; TimeoutError if that is none."""
        if self.left <= 0:
            raise TimeoutError(self.exceeded)
        sock.settimeout(self.left if longest is None else min(self.left, longest))
        began = time.monotonic()
        try:
            yield
        finally:
            self.left -= time.monotonic() - began

    def passed(self, size: int) -> None:
        """Count the bytes that passed."""
        if self._least_rate:
            self.left += size / self._least_rate


class _Socket:
    """A connected socket whose waits are charged to the budget of the thread."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._longest: float | None = sock.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        # of one wait, as urllib3 sets it between sending and reading
        self._longest = seconds
        self._sock.settimeout(seconds)

    def sendall(self, data: Any, *flags: int) -> None:
        budget: Budget | None = getattr(_thread, "budget", None)
        if budget is None:
            self._sock.sendall(data, *flags)
            return
        with budget.waiting(self._sock, self._longest):
            self._sock.sendall(data, *flags)
        budget.passed(len(data))

    def makefile(self, *args: Any, **options: Any) -> Any:
        budget: Budget | None = getattr(_thread, "budget", None)
        if budget is None:
            return self._sock.makefile(*args, **options)
        raw = self._sock.makefile("rb", buffering=0)
        return io.BufferedReader(_Reader(raw, self._sock, self, budget))

    def longest(self) -> float | None:
        return self._longest


class _Reader(io.RawIOBase):
    def __init__(self, raw: Any, sock: Any, outer: _Socket, budget: Budget) -> None:
        self._raw, self._sock, self._outer, self._budget = raw, sock, outer, budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        with self._budget.waiting(self._sock, self._outer.longest()):
            count: int | None = self._raw.readinto(buffer)
        self._budget.passed(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def budget_adapter(context: Callable[[], ssl.SSLContext]) -> HTTPAdapter:
    """What makes a session charge the waits of its requests to the budgets of their threads.

    ``context`` is called for each connection over TLS.
    """
    import requests.adapters
    import urllib3
    import urllib3.connection

    class Plain(urllib3.connection.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            self.sock: Any = _Socket(self.sock)

    class Secure(urllib3.connection.HTTPSConnection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options, ssl_context=context())

        def connect(self) -> None:
            super().connect()
            self.sock: Any = _Socket(self.sock)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
            manager = super().proxy_manager_for(*args, **options)
            manager.pool_classes_by_scheme = pools
            return manager

        def cert_verify(self, *_: Any) -> None:
            """Add no authorities to those of the context; it asks for a certificate itself."""

    pools = {"http": PlainPool, "https": SecurePool}
    return Adapter()


def mount_budgets(session: requests.Session) -> None:
    """Let ``budget_adapter`` do the requests of a session, with the machine's authorities."""
    adapter = budget_adapter(default_context)
    for scheme in ("http", "https"):
        session.mount(f"{scheme}://", adapter)


def reason_of(error: Exception) -> str:
    """Say why a request got no answer: the innermost reason, without objects of urllib3."""
    inner = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
    if isinstance(inner, Exception):
        return reason_of(inner)
    text = _NOT_FOR_PEOPLE.sub("", str(error)) or type(error).__name__
    return _INCOMPLETE.sub(r"\1 bytes came and \2 more were to come", text)


@dataclass(frozen=True)
class Fetched:
    """An answer, whatever its status: the header names are in any case, the body as it was sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def fetch(
    url: str,
    *,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float,
    limit: int,
    redirects: int = 0,
) -> Fetched:
    """GET ``url``, or POST ``content`` to it; no login, no cookie and no decompression.

    Args:
        url: http or https.
        content: to post; such a request is never redirected.
        headers: besides the usual.
        seconds: to wait in all, from connecting to the last byte of the last answer.
        limit: bytes of the answer.
        redirects: how many to follow, from http to http or https and from https to https.

    Raises:
        StorageError: no answer, too late or too long, or the URL is none.
    """
    import requests
    import urllib3

    budget = Budget(seconds)
    try:
        with requests.Session() as session, budget:
            mount_budgets(session)
            for _ in range(redirects + 1):
                if urlsplit(url).scheme not in ("http", "https"):
                    raise StorageError(f"{url} is not an http or https URL")
                answer = _exchange(session, url, content, headers or {}, budget, limit)
                location = answer.headers.get("Location")
                if content is not None or answer.status not in _REDIRECTS or not location:
                    break
                if url.startswith("https:") and not urljoin(url, location).startswith("https:"):
                    raise StorageError(f"{url} points to {location}, which is not https")
                url = urljoin(url, location)
            return answer
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise StorageError(
            f"no answer from {url}: {budget.exceeded or reason_of(error)}"
        ) from error


def _exchange(
    session: requests.Session,
    url: str,
    content: bytes | None,
    headers: Mapping[str, str],
    budget: Budget,
    limit: int,
) -> Fetched:
    with session.request(
        "GET" if content is None else "POST",
        url,
        data=content,
        headers={"Accept-Encoding": "identity", **headers},
        auth=lambda prepared: prepared,  # else requests takes a login from ~/.netrc
        timeout=max(budget.left, 0.001),
        allow_redirects=False,
        stream=True,
    ) as response:
        body = bytearray()
        while piece := response.raw.read1(_PIECE, decode_content=False):
            body += piece
            if len(body) > limit:
                raise StorageError(f"{url} answers with more than {limit} bytes")
        return Fetched(response.status_code, response.headers, bytes(body))
