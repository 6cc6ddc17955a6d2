"""Logins to registries: RFC 7235 challenges, Basic, and the bearer tokens of Docker's protocol.

https://distribution.github.io/distribution/spec/auth/token/ and, for identity tokens, /oauth/
"""

from __future__ import annotations

import base64
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlunsplit

from dmsign_fast.errors import FormatError, RegistryError
from dmsign_fast.oci.urls import keeps_secrets, split
from dmsign_fast.strict_json import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dmsign_fast.oci.credentials import Credentials

__all__ = ["Authenticator", "Challenge", "Scope", "merge_scopes", "parse_challenges"]

# What a request needs, such as ("repository:app/web:pull,push",).
Scope = tuple[str, ...]

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  RFC 9110, section 5.6.2
_PART = re.compile(rf'({_TOKEN})(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN})))?')
_LONGEST_CHALLENGE = 8192
_DEFAULT_LIFE = 60.0  # seconds, where the answer does not say
_LONGEST_LIFE = 3600.0


@dataclass(frozen=True)
class Challenge:
    """One way to log in that a registry offers; the scheme is in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of a WWW-Authenticate header, of which there may be several.

    >>> parse_challenges('Bearer realm="https://a/token",service=a, Basic realm="a"')[1].scheme
    'basic'

    Raises:
        RegistryError: it has more than 8192 characters.
    """
    if len(header) > _LONGEST_CHALLENGE:
        raise RegistryError(
            f"a WWW-Authenticate header of {len(header)} characters, more than {_LONGEST_CHALLENGE}"
        )
    found: list[tuple[str, dict[str, str]]] = []
    for match in _PART.finditer(header):
        name, quoted, bare = match.groups()
        if quoted is None and bare is None:
            found.append((name.lower(), {}))
        elif found:
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
            found[-1][1][name.lower()] = value
    return [Challenge(scheme, parameters) for scheme, parameters in found]


def merge_scopes(*scopes: str) -> Scope:
    """Each resource once, with the actions of all.

    >>> merge_scopes("repository:a:pull", "repository:a:push,pull")
    ('repository:a:pull,push',)
    """
    actions: dict[str, set[str]] = {}
    for scope in scopes:
        resource, _, wanted = scope.rpartition(":")
        actions.setdefault(resource, set()).update(wanted.split(","))
    return tuple(
        f"{resource}{':' if resource else ''}{','.join(sorted(some))}"
        for resource, some in actions.items()
    )


@dataclass(frozen=True)
class _Bearer:
    header: str
    end: float  # of time.monotonic()


class Authenticator:
    """What to send to one registry as Authorization; for any number of threads.

    A token serves the scope for which it was given, until it expires.
    """

    def __init__(
        self,
        registry: str,
        url: str,
        find: Callable[[], Credentials | None],
        fetch: Callable[[str, str, Mapping[str, str], bytes | None], bytes],
        advice: str | None = None,
    ) -> None:
        """Take the means: nothing is asked before a registry wants a login.

        Args:
            registry: its name for messages.
            url: where it is.
            find: finds the login; called once.
            fetch: asks the server of tokens: method, URL, headers, body to answer.
            advice: what to do where there is no login; by default ``dmsign-fast login``.
        """
        self._advice = advice or f"dmsign-fast login {registry}"
        self._registry = registry
        self._url = url
        self._find = find
        self._fetch = fetch
        self._lock = threading.RLock()
        self._known: list[Credentials | None] = []
        self._challenges: dict[Scope, Challenge] = {}
        self._tokens: dict[Scope, _Bearer] = {}
        self._basic = False

    def header(self, scope: Scope) -> str | None:
        """The value for a request that needs ``scope``; None as long as nobody asked for one."""
        with self._lock:
            if self._basic:
                return self._basic_header()
            if scope in self._challenges:
                return self._bearer(scope)
            return None

    def answer(self, header: str, scope: Scope, refused: str | None) -> str:
        """The value with which to repeat a request that came back with status 401.

        Args:
            header: WWW-Authenticate of the response.
            scope: what the request needs.
            refused: what was sent as Authorization.

        Raises:
            RegistryError: there is no login, or not of the kind that is asked for, or sending it
                would give it away.
        """
        self._check_safe(self._url)
        challenges = parse_challenges(header)
        with self._lock:
            for challenge in challenges:
                if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                    if (known := self._tokens.get(scope)) and known.header == refused:
                        del self._tokens[scope]
                    self._challenges[scope] = challenge
                    return self._bearer(scope)
            if any(challenge.scheme == "basic" for challenge in challenges):
                return self._answer_basic(refused)
        schemes = ", ".join(challenge.scheme for challenge in challenges) or "nothing"
        raise RegistryError(
            f"{self._registry} wants a login and offers {schemes}: only bearer and basic are known"
        )

    def _credentials(self) -> Credentials | None:
        if not self._known:
            self._known.append(self._find())
        return self._known[0]

    def _basic_header(self) -> str:
        found = self._credentials()
        if found is None or not found.username:
            raise RegistryError(
                f"{self._registry} wants a user name and password, and there are none: "
                f"{self._advice}"
            )
        return _basic(found)

    def _answer_basic(self, refused: str | None) -> str:
        header = self._basic_header()
        if header == refused:
            raise self._refusal()
        self._basic = True
        return header

    def _check_safe(self, url: str) -> None:
        if not keeps_secrets(url):
            raise RegistryError(
                f"{self._registry} wants a login to be sent to {split(url).netloc} over plain "
                "HTTP, where others can read it: use HTTPS"
            )

    def _refusal(self) -> RegistryError:
        return RegistryError(f"{self._registry} refuses the login: check it, or {self._advice}")

    def _bearer(self, scope: Scope) -> str:
        token = self._tokens.get(scope)
        if token is None or token.end <= time.monotonic():
            token = self._tokens[scope] = self._new_token(scope, self._challenges[scope])
        return token.header

    def _new_token(self, scope: Scope, challenge: Challenge) -> _Bearer:
        found = self._credentials()
        if found is not None and found.registry_token:
            return _Bearer(f"Bearer {found.registry_token}", time.monotonic() + _LONGEST_LIFE)
        realm = challenge.parameters["realm"]
        if found is not None:
            self._check_safe(realm)
        asked_for = challenge.parameters.get("scope", "").split()
        wanted = merge_scopes(*scope, *asked_for)
        service = challenge.parameters.get("service")
        begin = time.monotonic()
        raw = self._ask(realm, found, wanted, service)
        where = f"the answer of {split(realm).netloc}"
        try:
            answer = read_json(raw, where)
            token = answer.get("token") or answer.get("access_token")
        except (FormatError, AttributeError):
            answer, token = {}, None
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise RegistryError(f"{where} holds no token: ask who runs {self._registry}")
        return _Bearer(f"Bearer {token}", begin + _life(answer))

    def _ask(
        self, realm: str, found: Credentials | None, scope: Scope, service: str | None
    ) -> bytes:
        headers = {"Accept": "application/json"}
        if found is not None and found.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": found.identity_token,
                "service": service or self._registry,
                "scope": " ".join(scope),
                "client_id": "dmsign-fast",
            }
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            return self._fetch("POST", realm, headers, urlencode(form).encode())
        if found is not None:
            headers["Authorization"] = _basic(found)
        query = [("service", service)] if service else []
        query += [("scope", one) for one in scope]
        parts = split(realm)
        asked = "&".join(filter(None, (parts.query, urlencode(query))))
        return self._fetch("GET", urlunsplit(parts._replace(query=asked)), headers, None)


def _basic(found: Credentials) -> str:
    pair = f"{found.username}:{found.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _life(answer: dict[str, Any]) -> float:
    """Seconds for which to use a token: a tenth less than it lives."""
    seconds = answer.get("expires_in")
    if not isinstance(seconds, int | float) or not seconds > 0:
        seconds = _DEFAULT_LIFE
    return 0.9 * min(float(seconds), _LONGEST_LIFE)
