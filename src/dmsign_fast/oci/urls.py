"""Questions about URLs that a registry gives us, which may be any text."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urljoin, urlsplit

from dmsign_fast.errors import RegistryError

__all__ = ["is_loopback", "join", "keeps_secrets", "origin", "shown", "split"]

_PORTS = {"http": 80, "https": 443}
# What every parser of URLs takes for the same host: neither user nor backslash, escape or zone.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f\\]")


def split(url: str) -> SplitResult:
    """The parts of a URL with a host; RegistryError if it is none, or programs read it differently.

    >>> split("https://r.example:5000/v2/").port
    5000
    """
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
        good = parts.scheme in _PORTS and _AUTHORITY.fullmatch(parts.netloc)
    except ValueError:
        good = None
    if not good or _NOT_IN_URLS.search(url):
        place = url.partition("?")[0][:200]  # what follows may be a signature
        raise RegistryError(f"the registry points to {place!r}, which is no URL of HTTP")
    return parts


def join(base: str, url: str) -> str:
    """Where ``url`` leads from ``base``; RegistryError as ``split`` has it."""
    try:
        joined = urljoin(base, url)
    except ValueError:
        joined = url
    split(joined if not _NOT_IN_URLS.search(url) else url)
    return joined


def shown(url: str) -> str:
    """A URL for messages: what follows the path may be a signature."""
    parts = split(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


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
