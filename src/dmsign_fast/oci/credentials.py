"""Logins as docker and podman keep them (containers-auth.json(5), docker-credential-helpers)."""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.errors import FormatError, ProgramError, RegistryError, StorageError
from dmsign_fast.outputs import storage_errors
from dmsign_fast.processes import run_program
from dmsign_fast.strict_json import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Credentials", "find_credentials"]

_HELPER_SECONDS = 60.0
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_DOCKER_HUB_URL = "https://index.docker.io/v1/"  # what a helper knows it by


@dataclass(frozen=True)
class Credentials:
    """One login; its secrets never show in its repr.

    Attributes:
        username: and
        password: for Basic, of the registry or of the server that gives out tokens.
        identity_token: an OAuth 2 refresh token instead of them.
        registry_token: a bearer token, which the registry takes as it is.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str | None = field(default=None, repr=False)
    registry_token: str | None = field(default=None, repr=False)


def find_credentials(
    registry: str, repository: str, environment: Mapping[str, str] | None = None
) -> Credentials | None:
    """The login for a repository, from the first file that has one; None for anonymous access.

    ``$REGISTRY_AUTH_FILE`` alone if it is set; otherwise the text of ``$DOCKER_AUTH_CONFIG``,
    ``$DOCKER_CONFIG/config.json`` or ``~/.docker/config.json``,
    ``$XDG_RUNTIME_DIR/containers/auth.json``, and
    ``${XDG_CONFIG_HOME:-~/.config}/containers/auth.json``. In each, a helper for the registry
    comes before the store of all logins, and that before the logins in the file itself.

    Raises:
        StorageError: a file is there and cannot be read.
        FormatError: a file, or what a helper prints, is malformed.
        RegistryError: a helper says that it failed.
        ProgramError: a helper is missing or hangs.
    """
    environment = os.environ if environment is None else environment
    for path, data in _files(environment):
        config = _parsed(path, data)
        if config and (found := _in_file(config, path, registry, repository, environment)):
            return found
    return None


def _files(environment: Mapping[str, str]) -> Iterator[tuple[Path, bytes]]:
    """Where logins may be, and what stands there."""
    if named := environment.get("REGISTRY_AUTH_FILE"):
        if not Path(named).exists():
            raise StorageError(f"cannot read {named}, which REGISTRY_AUTH_FILE names: no such file")
        yield Path(named), _read(Path(named))
        return
    if text := environment.get("DOCKER_AUTH_CONFIG"):
        yield Path("$DOCKER_AUTH_CONFIG"), os.fsencode(text)
    for path in _usual_files(environment):
        yield path, _read(path)


def _usual_files(environment: Mapping[str, str]) -> Iterator[Path]:
    home = Path(environment.get("HOME") or Path.home())
    yield Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
    runtime = environment.get("XDG_RUNTIME_DIR")
    yield Path(runtime or f"/run/containers/{os.getuid()}") / (
        "containers/auth.json" if runtime else "auth.json"
    )
    yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json"


def _read(path: Path) -> bytes:
    with storage_errors("read", path):
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return b""


def _parsed(path: Path, data: bytes) -> dict[str, Any]:
    try:
        config = read_json(data or b"{}", str(path))
    except FormatError:
        config = None
    members = ("auths", "credHelpers")
    if not isinstance(config, dict) or not all(
        isinstance(config.get(name) or {}, dict) for name in members
    ):
        raise FormatError(f"{path} is not a JSON file of logins: repair it, or log in again")
    return config


def _in_file(
    config: dict[str, Any],
    path: Path,
    registry: str,
    repository: str,
    environment: Mapping[str, str],
) -> Credentials | None:
    helpers = {_bare(key): helper for key, helper in (config.get("credHelpers") or {}).items()}
    keys = _keys(registry, repository)
    helper = next((helpers[key] for key in keys if key in helpers), config.get("credsStore"))
    if helper:
        server = _DOCKER_HUB_URL if registry in _DOCKER_HUB else registry
        if found := _from_helper(helper, server, path, environment):
            return found
    entries = {_bare(key): entry for key, entry in (config.get("auths") or {}).items()}
    for key in keys:
        if entries.get(key) and (found := _from_entry(entries[key], path, key)):
            return found
    return None


def _keys(registry: str, repository: str) -> list[str]:
    """The names that a login may have, the longest path first, as podman has it."""
    names = _DOCKER_HUB if registry in _DOCKER_HUB else (registry,)
    parts = repository.split("/")
    lengths = range(len(parts), -1, -1)
    return ["/".join([name, *parts[:length]]) for length in lengths for name in names]


def _bare(key: str) -> str:
    """``https://index.docker.io/v1/`` and the like as ``index.docker.io``."""
    return re.sub(r"^https?://", "", key).removesuffix("/").removesuffix("/v1").removesuffix("/v2")


def _from_entry(entry: Any, path: Path, name: str) -> Credentials | None:
    bad = FormatError(f"the login for {name} in {path} is malformed: log in again")
    if not isinstance(entry, dict):
        raise bad
    found = {key: entry.get(key) or "" for key in _ENTRY}
    if not all(isinstance(value, str) for value in found.values()):
        raise bad
    username, password = found["username"], found["password"]
    if found["auth"]:
        try:
            text = base64.b64decode(found["auth"], validate=True).decode()
        except (binascii.Error, ValueError):
            raise bad from None
        username, colon, password = text.partition(":")
        if not colon:
            raise bad
        password = password.rstrip("\0")
    login = Credentials(
        username, password, found["identitytoken"] or None, found["registrytoken"] or None
    )
    return login if login != Credentials() else None


_ENTRY = ("auth", "username", "password", "identitytoken", "registrytoken")


def _from_helper(
    helper: Any, server: str, path: Path, environment: Mapping[str, str]
) -> Credentials | None:
    if not isinstance(helper, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", helper):
        raise FormatError(f"{path} names a credential helper {helper!r}: that is no program name")
    program = f"docker-credential-{helper}"
    try:
        finished = run_program(
            [program, "get"],
            stdin=server.encode(),
            timeout=_HELPER_SECONDS,
            environment=environment,
        )
    except ProgramError as error:
        raise ProgramError(
            f"{error}; {path} asks it for the login to {server}: install it, or remove it there"
        ) from error
    if finished.exit_code:  # what it says then stands in its standard output
        said = finished.out.decode(errors="replace").strip()
        if "credentials not found" in said.lower():
            return None
        said = "".join(letter if letter.isprintable() else "?" for letter in said[:300])
        raise RegistryError(f"{program}, which {path} names, cannot find the login: {said}")
    try:
        answer = read_json(finished.out, "it")
        username, secret = answer["Username"], answer["Secret"]
    except (FormatError, KeyError, TypeError):
        username = secret = None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise FormatError(f"{program} did not print a login as JSON") from None
    if username == "<token>":
        return Credentials(identity_token=secret)
    return Credentials(username, secret) if username or secret else None
