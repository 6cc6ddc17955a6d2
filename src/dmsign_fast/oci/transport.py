"""HTTP to one registry: the one module that knows oras-py and requests.

The session is that of oras-py. What oras-py does with it is done here instead, since its
``do_request`` has no time limits, waits for minutes and gives up on what passes, and shares one
token among all scopes (docs/registries.md has the list).
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.errors import NotFoundError, RegistryError
from dmsign_fast.oci.auth import Authenticator, Scope
from dmsign_fast.oci.retry import TRANSIENT, Patience, TransientError, retry_after
from dmsign_fast.oci.store import Content
from dmsign_fast.oci.urls import is_loopback, join, origin, shown, split

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from dmsign_fast.oci.credentials import Credentials

__all__ = ["Answer", "Connection", "Transport"]

_DOCKER_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_PIECE = 1 << 20
_ANSWER_LIMIT = 1 << 20
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5


@dataclass(frozen=True)
class Connection:
    """How to reach a registry.

    Attributes:
        plain_http: None is HTTP for a loopback address and HTTPS for all others; False is always
            HTTPS. True is HTTP; no password goes that way but to a loopback address.
        ca_file: PEM certificates to trust instead of the usual ones.
        client_certificate: PEM; the key may stand in the same file.
        client_key: PEM, not encrypted.
        connect_timeout: seconds to connect, or to send one piece.
        read_timeout: seconds of silence from the registry.
        tries: of one operation, as long as its trouble may pass.
        patience: seconds of pauses between them, in all.
        pause: seconds before the second try; each further pause is twice as long.
        settle: seconds after which a writer of an index of referrers looks again.
    """

    plain_http: bool | None = None
    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    connect_timeout: float = 10.0
    read_timeout: float = 120.0
    tries: int = 6
    patience: float = 120.0
    pause: float = 0.5
    settle: float = 0.5


@dataclass(frozen=True)
class Answer:
    """A response that was read in full; header names are in any case."""

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case; empty if there is none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class _Request:
    method: str
    url: str
    scope: Scope | None  # None: no Authorization from us
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


class Transport:
    """Requests to one registry, from any thread: each has a session of its own."""

    def __init__(
        self, registry: str, connection: Connection, find: Callable[[], Credentials | None]
    ) -> None:
        """Connect to nothing yet; ``find`` finds the login when the registry wants one."""
        host = _DOCKER_HUB.get(registry, registry)
        self._loopback = is_loopback(split(f"//{host}").hostname or "")
        plain = self._loopback if connection.plain_http is None else connection.plain_http
        self.url = f"{'http' if plain else 'https'}://{host}"
        self.connection = connection
        self._registry = registry
        self._origin = origin(self.url)
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._authenticator = Authenticator(registry, self.url, find, self._fetch_token)

    def close(self) -> None:
        """Close the connections of all threads."""
        while self._sessions:
            self._sessions.pop().close()

    def patience(self) -> Patience:
        """That for one operation."""
        return Patience(self.connection.tries, self.connection.patience, self.connection.pause)

    def ask(
        self,
        method: str,
        path: str,
        scope: Scope,
        expect: Collection[int],
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        limit: int = _ANSWER_LIMIT,
    ) -> Answer:
        """One request, repeated as long as its trouble may pass.

        Args:
            method: of HTTP.
            path: below the registry, or the URL of a further page.
            scope: what the request needs.
            expect: statuses; any other is a RegistryError, or a NotFoundError.
            headers: besides the usual.
            content: to send.
            limit: bytes of the answer; RegistryError if it is larger.
        """
        request = _Request(
            method, join(self.url, path), scope, headers or {}, content, len(content or b"")
        )
        return self.patience().keep_trying(lambda: self._once(request, expect, limit))

    def send(self, method: str, path: str, scope: Scope, expect: Collection[int]) -> Answer:
        """One request without content, tried once: a step of an operation that is repeated."""
        return self._once(_Request(method, join(self.url, path), scope), expect, _ANSWER_LIMIT)

    def upload(
        self, url: str, scope: Scope, expect: Collection[int], content: Content, size: int
    ) -> Answer:
        """PUT ``size`` bytes in pieces, tried once."""
        headers = {"Content-Type": "application/octet-stream"}
        return self._once(
            _Request("PUT", url, scope, headers, content, size), expect, _ANSWER_LIMIT
        )

    def download(self, path: str, scope: Scope, headers: Mapping[str, str]) -> Iterator[bytes]:
        """The pieces of a body; after a break it goes on where it was."""
        offset, begin, patience = 0, 0, self.patience()
        while True:
            span = {"Range": f"bytes={offset}-"} if offset else {}
            request = _Request("GET", join(self.url, path), scope, {**headers, **span})
            try:
                with self._exchange(request) as response:
                    self._expect(response, request, (200, 206) if offset else (200,))
                    skip = offset - _first_byte(response, request)
                    for piece in self._pieces(response, request):
                        fresh = piece[skip:]
                        skip -= len(piece) - len(fresh)
                        offset += len(fresh)
                        yield fresh
                    return
            except TransientError as error:
                if offset - begin > _PIECE:  # it gets on
                    begin, patience = offset, self.patience()
                patience.wait(error)

    def _once(self, request: _Request, expect: Collection[int], limit: int) -> Answer:
        with self._exchange(request) as response:
            self._expect(response, request, expect)
            body = bytearray()
            for piece in self._pieces(response, request):
                body += piece
                if len(body) > limit:
                    raise RegistryError(f"{request}: the answer has more than {limit} bytes")
            return Answer(response.status_code, response.url, response.headers, bytes(body))

    @contextlib.contextmanager
    def _exchange(self, request: _Request) -> Iterator[requests.Response]:
        """A response whose body is not read yet, after a login if one is wanted."""
        scope = request.scope
        authorization = None if scope is None else self._authenticator.header(scope)
        response = self._send(request, authorization)
        if response.status_code == 401 and scope is not None and self._is_own(response.url):
            response.close()
            challenge = response.headers.get("WWW-Authenticate", "")
            authorization = self._authenticator.answer(challenge, scope, authorization)
            response = self._send(request, authorization)
        with contextlib.closing(response):
            if response.status_code in TRANSIENT:
                after = retry_after(response.headers.get("Retry-After"))
                raise TransientError(self._refusal(response, request), after)
            yield response

    def _send(self, request: _Request, authorization: str | None) -> requests.Response:
        url, at_home = request.url, True
        for _ in range(_MOST_REDIRECTS + 1):
            self._check_scheme(url)
            at_home = at_home and self._is_own(url)  # what once left gets no Authorization again
            headers = {"Accept-Encoding": "identity", **request.headers}
            if authorization and at_home:
                headers["Authorization"] = authorization
            response = self._send_one(request, url, headers, at_home)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            response.close()
            if request.method not in ("GET", "HEAD") or request.scope is None:
                raise RegistryError(f"{request}: will not be sent to {shown(location)} instead")
            url = join(url, location)
        raise RegistryError(f"{request}: more than {_MOST_REDIRECTS} redirects")

    def _send_one(
        self, request: _Request, url: str, headers: Mapping[str, str], at_home: bool
    ) -> requests.Response:
        import requests

        connection, content = self.connection, request.content
        certificate, key = connection.client_certificate, connection.client_key
        session = self._session()
        try:
            data = _body(content, request.size)
            prepared = session.prepare_request(
                requests.Request(request.method, url, headers, data=data, auth=_unchanged)
            )
            settings: Any = session.merge_environment_settings(
                url,
                {},
                True,  # as a stream
                str(connection.ca_file) if connection.ca_file else True,
                (str(certificate), str(key or certificate)) if certificate and at_home else None,
            )
            # not session.send: that reads redirects whole, and follows what they say to a URL
            return session.get_adapter(url).send(
                prepared,
                timeout=(connection.connect_timeout, connection.read_timeout),
                **settings,
            )
        except (requests.RequestException, OSError) as error:
            raise _trouble(request, error) from error

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            import oras.provider

            session = oras.provider.Registry(hostname=self._registry).session
            session.trust_env = not self._loopback  # proxies, and a file of certificates
            self._local.session = session
            self._sessions.append(session)
        return session

    def _pieces(self, response: requests.Response, request: _Request) -> Iterator[bytes]:
        import urllib3

        while True:
            try:
                piece = response.raw.read(_PIECE, decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise TransientError(f"{request}: the answer broke off: {error}") from error
            if not piece:
                return
            yield piece

    def _expect(
        self, response: requests.Response, request: _Request, expect: Collection[int]
    ) -> None:
        if response.status_code not in expect:
            absent = request.method == "GET" and response.status_code == 404
            kind = NotFoundError if absent else RegistryError
            raise kind(self._refusal(response, request))

    def _refusal(self, response: requests.Response, request: _Request) -> str:
        """Status and, if the answer has them, the errors that the distribution-spec wants."""
        words = [str(response.status_code), response.reason or ""]
        with contextlib.suppress(TransientError, ValueError, TypeError, AttributeError, KeyError):
            for error in json.loads(next(self._pieces(response, request), b""))["errors"][:4]:
                words += [str(error.get("code", "")), str(error.get("message", ""))]
        text = " ".join(filter(None, words))[:600]
        hint = {401: ": log in with docker login", 403: ": this login may not do that"}
        printable = "".join(letter if letter.isprintable() else "?" for letter in text)
        return f"{request}: {printable}{hint.get(response.status_code, '')}"

    def _fetch_token(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> bytes:
        request = _Request(method, url, None, headers, content, len(content or b""))
        return self.patience().keep_trying(lambda: self._once(request, (200,), _ANSWER_LIMIT)).body

    def _is_own(self, url: str) -> bool:
        return origin(url) == self._origin

    def _check_scheme(self, url: str) -> None:
        """Refuse to leave HTTPS, and HTTP to where nobody allowed it."""
        parts = split(url)
        plain = self.url.startswith("http:") and (
            self.connection.plain_http or is_loopback(parts.hostname or "")
        )
        if parts.scheme != "https" and not (parts.scheme == "http" and plain):
            raise RegistryError(f"{self._registry} points to {shown(url)}, which is not HTTPS")


def _body(content: Content | None, size: int) -> Any:
    if not callable(content):
        return content
    return _Body(content(), size) if size else b"".join(content())  # requests makes chunks of 0


def _unchanged(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    """In the place of a login: without one, requests takes that of ~/.netrc."""
    return prepared


def _trouble(request: _Request, error: Exception) -> RegistryError:
    import requests
    import urllib3

    reason = error.args[0] if error.args else error
    reason = getattr(reason, "reason", None) or reason
    message = f"{request}: {reason}"
    never_connected = (
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
        urllib3.exceptions.ProxyError,
    )
    if isinstance(error, requests.exceptions.SSLError):
        return RegistryError(f"{message}: give its CA's certificates if it has a CA of its own")
    if isinstance(reason, never_connected):
        return RegistryError(f"{message}: is the registry's address right, and does it run?")
    if isinstance(error, requests.ConnectionError | requests.Timeout | OSError):
        return TransientError(message)
    return RegistryError(message)


def _first_byte(response: requests.Response, request: _Request) -> int:
    """Where the body of a response begins in the content."""
    if response.status_code == 200:
        return 0
    span = response.headers.get("Content-Range", "")
    first = span.removeprefix("bytes ").partition("-")[0].strip()
    wanted = request.headers["Range"].removeprefix("bytes=").rstrip("-")
    if first != wanted:
        raise RegistryError(f"{request}: asked from byte {wanted}, it sends {span!r}")
    return int(first)
