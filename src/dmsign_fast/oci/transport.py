"""HTTP to one registry: the one module that knows oras-py and requests.

The session is that of oras-py. What oras-py does with it is done here instead, since its
``do_request`` has no time limits, waits for minutes and gives up on what passes, and shares one
token among all scopes (docs/registries.md has the list).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.arguments import NUMBER, PATH, SECONDS, takes
from dmsign_fast.bounded_http import Budget, budget_adapter, reason_of
from dmsign_fast.errors import NotFoundError, RegistryError
from dmsign_fast.oci.auth import Authenticator, Scope
from dmsign_fast.oci.certificates import Certificates, certificate_directory
from dmsign_fast.oci.refusals import trouble_of, words_of
from dmsign_fast.oci.request import Request, body_of, first_byte
from dmsign_fast.oci.retry import TRANSIENT, Patience, TransientError, retry_after
from dmsign_fast.oci.store import Content
from dmsign_fast.oci.urls import is_loopback, join, origin, shown, split

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from dmsign_fast.oci.credentials import Credentials

__all__ = ["Answer", "AnswerTooLargeError", "Connection", "Transport"]

_DOCKER_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_log = logging.getLogger(__name__)
_PIECE = 1 << 20
_ANSWER_LIMIT = 1 << 20
_CERTIFIED = "certified://"  # no scheme of a URL: it names an adapter
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_LEAST_RATE = 32 << 10  # bytes a second, of which a blob may take as long as it has


class AnswerTooLargeError(RegistryError):
    """An answer has more bytes than it may have."""


@takes(
    ca_file=PATH.or_none,
    client_certificate=PATH.or_none,
    client_key=PATH.or_none,
    connect_timeout=SECONDS,
    read_timeout=SECONDS,
    deadline=SECONDS.or_none,
    tries=NUMBER,
    patience=SECONDS,
    pause=SECONDS,
    settle=SECONDS,
)
@dataclass(frozen=True)
class Connection:
    """How to reach a registry.

    Attributes:
        plain_http: None is HTTPS, but HTTP for a loopback address without certificates, given or in
            a directory for it; False is always HTTPS. True is HTTP; there is no login that way but
            to a loopback address.
        ca_file: PEM certificates to trust instead of the usual ones (docs/registries.md).
        client_certificate: PEM; the key may stand in the same file.
        client_key: PEM, not encrypted.
        connect_timeout: seconds to connect, or to send one piece.
        read_timeout: seconds of silence from the registry.
        deadline: seconds to wait for the registry in one operation, over all its tries; by default
            three times ``read_timeout``. Each 32 KiB that pass allow another second.
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
    deadline: float | None = None
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


class Transport:
    """Requests to one registry, from any thread: each has a session of its own."""

    def __init__(
        self, registry: str, connection: Connection, find: Callable[[], Credentials | None]
    ) -> None:
        """Connect to nothing yet; ``find`` finds the login when the registry wants one."""
        host = _DOCKER_HUB.get(registry, registry)
        self._loopback = is_loopback(split(f"https://{host}").hostname or "")
        plain, certificate = connection.plain_http, connection.client_certificate
        own = certificate_directory(registry)
        if plain is None:
            plain = self._loopback and not (connection.ca_file or certificate or own)
        pair = (certificate, connection.client_key or certificate) if certificate else None
        self._certificates = Certificates(registry, connection.ca_file, pair, own)
        self.url = f"{'http' if plain else 'https'}://{host}"
        self.connection = connection
        self.registry = registry
        self._origin = origin(self.url)
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._authenticator = Authenticator(registry, self.url, find, self._fetch_token)
        self._others: dict[tuple[str, str, int], Authenticator] = {}

    def close(self) -> None:
        """Close the connections of all threads."""
        while self._sessions:
            self._sessions.pop().close()

    def patience(self) -> Patience:
        """That for one operation."""
        return Patience(self.connection.tries, self.connection.patience, self.connection.pause)

    def budget(self) -> Budget:
        """The time for one operation."""
        connection = self.connection
        return Budget(connection.deadline or 3 * connection.read_timeout, _LEAST_RATE)

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
        budget: Budget | None = None,
    ) -> Answer:
        """One request, repeated as long as its trouble may pass.

        Args:
            method: of HTTP.
            path: below the registry, or the URL of a further page.
            scope: what the request needs.
            expect: statuses; any other is a RegistryError, or a NotFoundError.
            headers: besides the usual.
            content: to send.
            limit: bytes of the answer; AnswerTooLargeError if it is larger.
            budget: of time, where several requests share one.
        """
        request = Request(
            method, join(self.url, path), scope, headers or {}, content, len(content or b"")
        )
        budget = budget or self.budget()
        return self.patience().keep_trying(lambda: self._once(request, expect, limit, budget))

    def send(
        self, method: str, path: str, scope: Scope, expect: Collection[int], budget: Budget
    ) -> Answer:
        """One request without content, tried once: a step of an operation that is repeated."""
        request = Request(method, join(self.url, path), scope)
        return self._once(request, expect, _ANSWER_LIMIT, budget)

    def upload(
        self,
        url: str,
        scope: Scope,
        expect: Collection[int],
        content: Content,
        size: int,
        budget: Budget,
    ) -> Answer:
        """PUT ``size`` bytes in pieces, tried once."""
        headers = {"Content-Type": "application/octet-stream"}
        request = Request("PUT", url, scope, headers, content, size)
        return self._once(request, expect, _ANSWER_LIMIT, budget)

    def download(self, path: str, scope: Scope, headers: Mapping[str, str]) -> Iterator[bytes]:
        """The pieces of a body; after a break it goes on where it was."""
        offset, begin, again = 0, 0, 0
        patience, budget = self.patience(), self.budget()
        while True:
            span = {"Range": f"bytes={offset}-"} if offset else {}
            request = Request("GET", join(self.url, path), scope, {**headers, **span})
            try:
                with contextlib.closing(self._open(request, budget)) as response:
                    self._expect(response, request, (200, 206) if offset else (200,), budget)
                    skip = again = offset - first_byte(response, request)
                    for piece in self._pieces(response, request, budget):
                        fresh = piece[skip:]
                        skip -= len(piece) - len(fresh)
                        offset += len(fresh)
                        yield fresh
                    return
            except TransientError as error:
                # it gets on; a registry that begins anew each time may do so a few times only
                if offset - begin > _PIECE and not again:
                    begin, patience = offset, self.patience()
                patience.wait(error)

    def _once(
        self,
        request: Request,
        expect: Collection[int],
        limit: int,
        budget: Budget,
    ) -> Answer:
        with contextlib.closing(self._open(request, budget)) as response:
            self._expect(response, request, expect, budget)
            body = bytearray()
            for piece in self._pieces(response, request, budget):
                body += piece
                if len(body) > limit:
                    raise AnswerTooLargeError(f"{request}: the answer has more than {limit} bytes")
            return Answer(response.status_code, response.url, response.headers, bytes(body))

    def _open(self, request: Request, budget: Budget) -> requests.Response:
        """A response whose body is not read yet, after a login if one is wanted; close it."""
        scope = request.scope
        authorization = None if scope is None else self._authenticator.header(scope)
        response = self._send(request, authorization, budget)
        challenge = response.headers.get("WWW-Authenticate", "")
        if response.status_code == 401 and scope is not None and challenge:
            response.close()
            if self._is_own(response.url):
                authorization = self._authenticator.answer(challenge, scope, authorization)
                response = self._send(request, authorization, budget)
            else:
                authorization = self._elsewhere(response.url).answer(challenge, (), None)
                there = replace(request, url=response.url)
                response = self._send(there, authorization, budget, origin(there.url))
        if response.status_code in TRANSIENT:
            with contextlib.closing(response):
                after = retry_after(response.headers.get("Retry-After"))
                raise TransientError(self._refusal(response, request, budget), after)
        return response

    def _elsewhere(self, url: str) -> Authenticator:
        """For another registry, to which this one redirects: it gets no login of ours."""
        host = split(url).netloc
        return self._others.setdefault(
            origin(url),
            Authenticator(
                f"{host}, to which {self.registry} redirects,",
                url,
                lambda: None,
                self._fetch_token,
                f"use {host} itself instead of {self.registry}, with its own login",
            ),
        )

    def _send(
        self,
        request: Request,
        authorization: str | None,
        budget: Budget,
        home: tuple[str, str, int] | None = None,
    ) -> requests.Response:
        url, at_home, home = request.url, True, home or self._origin
        for _ in range(_MOST_REDIRECTS + 1):
            self._check_scheme(url)
            at_home = at_home and origin(url) == home  # what left gets no Authorization again
            headers = {"Accept-Encoding": "identity", **request.headers}
            if authorization and at_home:
                headers["Authorization"] = authorization
            with budget:
                certified = at_home and home == self._origin
                response = self._send_one(request, url, headers, certified, budget)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            response.close()
            url = join(url, location)
            if request.method not in ("GET", "HEAD") or request.scope is None:
                raise RegistryError(f"{request}: will not be sent to {shown(url)} instead")
        raise RegistryError(f"{request}: more than {_MOST_REDIRECTS} redirects")

    def _send_one(
        self,
        request: Request,
        url: str,
        headers: Mapping[str, str],
        certified: bool,
        budget: Budget,
    ) -> requests.Response:
        import requests
        import urllib3

        began = time.monotonic()
        connection, content = self.connection, request.content
        session = self._session()
        try:
            data = body_of(content, request.size)
            prepared = session.prepare_request(
                requests.Request(request.method, url, headers, data=data, auth=_unchanged)
            )
            goes_to = urllib3.util.parse_url(prepared.url or "")  # as the adapter reads it
            if origin(url) != origin(goes_to.url):
                raise RegistryError(f"{request}: {shown(url)} could be read as {goes_to.host}")
            proxies = session.merge_environment_settings(url, {}, True, True, None)["proxies"]
            # not session.send: that reads redirects whole, and follows what they say to a URL
            answer = session.get_adapter(_CERTIFIED if certified else url).send(
                prepared,
                stream=True,
                timeout=(connection.connect_timeout, connection.read_timeout),
                proxies=proxies,
            )
        except (requests.RequestException, OSError) as error:
            if budget.exceeded:
                raise RegistryError(f"{request}: {budget.exceeded}") from error
            raise trouble_of(error, str(request), self._certificates.advice) from error
        where = "" if url == request.url else f", at {shown(url)}"
        seconds = time.monotonic() - began
        _log.debug("%s%s: %d after %.3f s", request, where, answer.status_code, seconds)
        return answer

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            import oras.provider

            session = oras.provider.Registry(hostname=self.registry).session
            session.trust_env = not self._loopback  # proxies
            session.mount("http://", budget_adapter(lambda: self._certificates.context))
            session.mount("https://", budget_adapter(lambda: self._certificates.context))
            session.mount(_CERTIFIED, budget_adapter(lambda: self._certificates.own_context))
            self._local.session = session
            self._sessions.append(session)
        return session

    def _pieces(
        self, response: requests.Response, request: Request, budget: Budget
    ) -> Iterator[bytes]:
        import urllib3

        while True:
            try:
                piece = response.raw.read(_PIECE, decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if budget.exceeded:
                    raise RegistryError(f"{request}: {budget.exceeded}") from error
                raise TransientError(
                    f"{request}: the answer broke off: {reason_of(error)}"
                ) from error
            if not piece:
                return
            yield piece

    def _expect(
        self,
        response: requests.Response,
        request: Request,
        expect: Collection[int],
        budget: Budget,
    ) -> None:
        if response.status_code not in expect:
            absent = request.method == "GET" and response.status_code == 404
            kind = NotFoundError if absent else RegistryError
            raise kind(self._refusal(response, request, budget))

    def _refusal(self, response: requests.Response, request: Request, budget: Budget) -> str:
        body = b""
        with contextlib.suppress(RegistryError):
            body = next(self._pieces(response, request, budget), b"")
        return f"{request}: {words_of(response, body, self.registry)}"

    def _fetch_token(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> bytes:
        request = Request(method, url, None, headers, content, len(content or b""))
        budget = self.budget()
        answer = self.patience().keep_trying(
            lambda: self._once(request, (200,), _ANSWER_LIMIT, budget)
        )
        return answer.body

    def _is_own(self, url: str) -> bool:
        return origin(url) == self._origin

    def _check_scheme(self, url: str) -> None:
        """Refuse to leave HTTPS, and HTTP to where nobody allowed it."""
        parts = split(url)
        plain = self.url.startswith("http:") and (
            self.connection.plain_http or is_loopback(parts.hostname or "")
        )
        if parts.scheme != "https" and not (parts.scheme == "http" and plain):
            raise RegistryError(f"{self.registry} points to {shown(url)}, which is not HTTPS")


def _unchanged(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    """In the place of a login: without one, requests takes that of ~/.netrc."""
    return prepared
