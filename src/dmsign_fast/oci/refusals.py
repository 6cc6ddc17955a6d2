"""Why a registry did not do what was asked, in its own words and with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.bounded_http import reason_of
from dmsign_fast.errors import FormatError, RegistryError
from dmsign_fast.oci.retry import TransientError
from dmsign_fast.strict_json import read_json

if TYPE_CHECKING:
    import requests

__all__ = ["trouble_of", "words_of"]

_LONGEST = 600
_LONGEST_TEXT = 300
_HINTS = {401: ": log in with docker login", 403: ": this login may not do that"}


def words_of(response: requests.Response, body: bytes) -> str:
    """Status and, if the answer has them, the errors that the distribution-spec wants."""
    words = [str(response.status_code), response.reason or ""]
    words += _errors(body, response.headers.get("Content-Type", ""))
    text = " ".join(filter(None, words))[:_LONGEST]
    hint = _HINTS.get(response.status_code, "")
    if response.status_code == 400 and "Authorization" in response.request.headers:
        hint = ": if the login has expired, log in again"  # ECR says 400 of that
    return "".join(letter if letter.isprintable() else "?" for letter in text) + hint


def _errors(body: bytes, media_type: str) -> list[str]:
    """What an answer says of itself: the errors of the distribution-spec, or a short text."""
    if media_type.startswith("text/plain"):
        return [body.decode(errors="replace")[:_LONGEST_TEXT].strip()]
    try:
        errors = read_json(body, "the answer")["errors"][:4]
        return [str(error.get(name, "")) for error in errors for name in ("code", "message")]
    except (FormatError, TypeError, AttributeError, KeyError):
        return []


def trouble_of(error: Exception, request: str) -> RegistryError:
    """The error for a request that got no answer; one of those that may pass, or not."""
    import requests
    import urllib3

    reason = error.args[0] if error.args else error
    reason = getattr(reason, "reason", None) or reason
    message = f"{request}: {reason_of(error)}"
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
