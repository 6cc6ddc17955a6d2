"""Questions about URLs that a registry gives us, which may be any text."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urljoin, urlsplit

from dmsign_fast.errors import RegistryError

__all__ = ["is_loopback", "join", "keeps_secrets", "origin", "shown", "split"]

_PORTS = {"http": 80, "https": 443}


def split(url: str) -> SplitResult:
    """The parts of a URL; RegistryError if it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError as error:
        raise RegistryError(f"the registry points to {url[:200]!r}, which is no URL") from error
    return parts


def join(base: str, url: str) -> str:
    """Where ``url`` leads from ``base``; RegistryError if it is none."""
    split(url)
    return urljoin(base, url)


def shown(url: str) -> str:
    """A URL for messages: what follows the path may be a signature, what precedes the host too."""
    parts = split(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what may see the same secrets."""
    parts = split(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def keeps_secrets(url: str) -> bool:
    """Whether nobody else can read what is sent there."""
    parts = split(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")
