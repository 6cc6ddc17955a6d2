"""Logins as docker and podman keep them (containers-auth.json(5), docker-credential-helpers)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.arguments import TEXT, takes
from dmsign_fast.errors import FormatError, ProgramError, RegistryError, StorageError
from dmsign_fast.outputs import Outputs, locked, storage_errors, write_all
from dmsign_fast.processes import run_program
from dmsign_fast.strict_json import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Credentials", "find_credentials", "logins_in", "remove_logins", "save_login"]

_HELPER_SECONDS = 60.0
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_DOCKER_HUB_URL = "https://index.docker.io/v1/"  # what a helper knows it by


@takes(username=TEXT, password=TEXT, identity_token=TEXT.or_none, registry_token=TEXT.or_none)
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


def logins_in(authfile: Path | None) -> dict[str, str] | None:
    """The environment by which find_credentials takes logins from that file alone.

    Raises:
        StorageError: there is no such file.
    """
    if authfile is None:
        return None
    if not authfile.exists():
        raise StorageError(
            f"cannot read {authfile}: no such file; dmsign-fast login --authfile makes it"
        )
    return {**os.environ, "REGISTRY_AUTH_FILE": str(authfile)}


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
    keys = _keys(registry, repository)
    helper = _helper_of(config, keys)
    if helper and (found := _from_helper(helper, _server(registry), path, environment)):
        return found
    entries = {_bare(key): entry for key, entry in (config.get("auths") or {}).items()}
    for key in keys:
        if entries.get(key) and (found := _from_entry(entries[key], path, key)):
            return found
    return None


def _helper_of(config: dict[str, Any], keys: list[str]) -> Any:
    helpers = {_bare(key): helper for key, helper in (config.get("credHelpers") or {}).items()}
    return next((helpers[key] for key in keys if key in helpers), config.get("credsStore"))


def _server(registry: str) -> str:
    """What helpers and docker's own file call it."""
    return _DOCKER_HUB_URL if registry in _DOCKER_HUB else registry


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


def _run_helper(
    helper: Any, action: str, stdin: str, server: str, path: Path, environment: Mapping[str, str]
) -> bytes | None:
    """What a helper prints; None if it has no such login."""
    if not isinstance(helper, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", helper):
        raise FormatError(f"{path} names a credential helper {helper!r}: that is no program name")
    program = f"docker-credential-{helper}"
    try:
        finished = run_program(
            [program, action],
            stdin=stdin.encode(),
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
        raise RegistryError(f"{program}, which {path} names, cannot {action} the login: {said}")
    return finished.out


def _from_helper(
    helper: Any, server: str, path: Path, environment: Mapping[str, str]
) -> Credentials | None:
    said = _run_helper(helper, "get", server, server, path, environment)
    if said is None:
        return None
    try:
        answer = read_json(said, "it")
        username, secret = answer["Username"], answer["Secret"]
    except (FormatError, KeyError, TypeError):
        username = secret = None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise FormatError(
            f"docker-credential-{helper}, which {path} names, did not print a login as JSON: "
            "repair it, or remove it there"
        ) from None
    if username == "<token>":
        return Credentials(identity_token=secret)
    return Credentials(username, secret) if username or secret else None


def save_login(
    registry: str,
    credentials: Credentials,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Path | str:
    """Keep a login where ``find_credentials`` looks first; return the file or helper that has it.

    That is ``file``, ``$REGISTRY_AUTH_FILE``, or docker's ``config.json``. A helper that the file
    names for the registry keeps the login instead. The file is readable by its owner alone.

    Raises:
        StorageError, FormatError, RegistryError, ProgramError: as find_credentials.
    """
    environment = os.environ if environment is None else environment
    path = _files_of_logins(file, environment)[0]
    server = _server(registry)
    with _changed(path) as config:
        entries = _without(config, registry)
        helper = _helper_of(config, _keys(registry, ""))
        if helper:
            secret = credentials.password
            login = {"ServerURL": server, "Username": credentials.username, "Secret": secret}
            _run_helper(helper, "store", json.dumps(login), server, path, environment)
            entry = {}  # as docker marks it
        else:
            pair = f"{credentials.username}:{credentials.password}".encode()
            entry = {"auth": base64.b64encode(pair).decode()}
        config["auths"] = entries | {server: entry}
    return f"docker-credential-{helper}" if helper else path


def remove_logins(
    registry: str, file: Path | None = None, environment: Mapping[str, str] | None = None
) -> list[Path | str]:
    """Remove the login to a registry from every file and helper that ``find_credentials`` asks.

    Logins to single repositories stay. Returns the files and helpers that had it.

    Raises:
        StorageError, FormatError, RegistryError, ProgramError: as find_credentials.
    """
    environment = os.environ if environment is None else environment
    removed: list[Path | str] = []
    for path in _files_of_logins(file, environment):
        config = _parsed(path, _read(path))
        if (helper := _helper_of(config, _keys(registry, ""))) and _from_helper(
            helper, _server(registry), path, environment
        ):
            server = _server(registry)
            _run_helper(helper, "erase", server, server, path, environment)
            removed.append(f"docker-credential-{helper}")
        left, entries = _without(config, registry), config.get("auths") or {}
        if left != entries:
            with _changed(path) as config:
                config["auths"] = _without(config, registry)
            if any(entries[key] for key in entries.keys() - left):  # a helper's are empty
                removed.append(path)
    return removed


def _files_of_logins(file: Path | None, environment: Mapping[str, str]) -> list[Path]:
    named = file or environment.get("REGISTRY_AUTH_FILE")
    return [Path(named)] if named else list(_usual_files(environment))


def _without(config: dict[str, Any], registry: str) -> dict[str, Any]:
    """The logins of a file but those to the registry, under any of its names."""
    names = _keys(registry, "")
    entries = (config.get("auths") or {}).items()
    return {key: entry for key, entry in entries if _bare(key) not in names}


@contextlib.contextmanager
def _changed(path: Path) -> Iterator[dict[str, Any]]:
    """The contents of a file of logins, to be changed; nobody else changes it meanwhile."""
    path = Path(os.path.realpath(path))
    with storage_errors("create", path.parent):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(path.parent), Outputs() as outputs:
        config = _parsed(path, _read(path))
        yield config
        fd = outputs.open(path)
        with storage_errors("write", path):
            os.fchmod(fd, 0o600)
            write_all(fd, f"{json.dumps(config, indent=4)}\n".encode(), 0)
