"""Why a registry did not do what was asked, in its own words and with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.bounded_http import reason_of
from dmsign_fast.errors import FormatError, RegistryError
from dmsign_fast.oci.retry import TransientError
from dmsign_fast.strict_json import read_json

if TYPE_CHECKING:
    import ssl

    import requests

__all__ = ["trouble_of", "words_of"]

_LONGEST = 600
_LONGEST_TEXT = 300
_DEEPEST = 8  # errors in errors

# What ssl says where the other side does not speak TLS; newer versions of OpenSSL say the latter.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_WANTS_CLIENT = ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE")
# The results of X509_verify_cert(), in x509_vfy.h of OpenSSL.
_NOT_NOW = {9: "is not valid yet", 10: "has expired"}
_OTHER_NAME = (62, 64)


def words_of(response: requests.Response, body: bytes, registry: str) -> str:
    """Status and, if the answer has them, the errors that the distribution-spec wants."""
    words = [str(response.status_code), response.reason or ""]
    words += _errors(body, response.headers.get("Content-Type", ""))
    text = " ".join(filter(None, words))[:_LONGEST]
    hint = _hint(response, body, f"dmsign-fast login {registry}")
    return "".join(letter if letter.isprintable() else "?" for letter in text) + hint


def _hint(response: requests.Response, body: bytes, login: str) -> str:
    """What to do, for the end of a message."""
    sent = response.request.headers.get("Authorization")
    if response.status_code == 401:
        if sent and str(sent).startswith("Basic "):
            return f": incorrect user name or password; check them, or log in: {login}"
        return f": check the name; if it is right, log in: {login}"
    if response.status_code == 403:
        return ": this login may not do that" if sent else f": that needs a login: {login}"
    if response.status_code == 400 and sent:
        return f": if the login has expired, log in again: {login}"  # ECR says 400 of that
    if response.status_code == 400 and response.url.startswith("http:") and b"HTTPS" in body:
        return ": it speaks TLS; give --tls, or --ca-file FILE if it has a CA of its own"
    return ""


def _errors(body: bytes, media_type: str) -> list[str]:
    """What an answer says of itself: the errors of the distribution-spec, or a short text."""
    if media_type.startswith("text/plain"):
        return [body.decode(errors="replace")[:_LONGEST_TEXT].strip()]
    try:
        errors = read_json(body, "the answer")["errors"][:4]
        return [str(error.get(name, "")) for error in errors for name in ("code", "message")]
    except (FormatError, TypeError, AttributeError, KeyError):
        return []


def trouble_of(error: Exception, request: str, about_ca: str) -> RegistryError:
    """The error for a request that got no answer; one of those that may pass, or not.

    ``about_ca`` says what to do about an authority that is not trusted.
    """
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
    if words := _about_tls(_ssl_error(error), about_ca):
        return RegistryError(f"{request}: {words}")
    if isinstance(error, requests.exceptions.SSLError):
        return RegistryError(message)
    if isinstance(reason, never_connected):
        return RegistryError(f"{message}: is the registry's address right, and does it run?")
    if isinstance(error, requests.ConnectionError | requests.Timeout | OSError):
        return TransientError(message)
    return RegistryError(message)


def _ssl_error(error: BaseException) -> ssl.SSLError | None:
    """The error of ssl in those of requests and urllib3."""
    import ssl

    for _ in range(_DEEPEST):
        if isinstance(error, ssl.SSLError):
            return error
        inner = [getattr(error, "reason", None), *error.args]
        found = next((one for one in inner if isinstance(one, BaseException)), None)
        if found is None:
            return None
        error = found
    return None


def _about_tls(error: ssl.SSLError | None, about_ca: str) -> str | None:
    if error is None:
        return None
    code = getattr(error, "verify_code", None)
    said = getattr(error, "verify_message", "")
    if error.reason in _NO_TLS:
        return "it does not speak TLS: give --plain-http if it is a registry over plain HTTP"
    if error.reason in _WANTS_CLIENT:
        return "it wants a certificate of the client: give --client-cert and --client-key"
    if code in _NOT_NOW:
        return f"its certificate {_NOT_NOW[code]}: have it renewed, or set the clock"
    if code in _OTHER_NAME:
        return "its certificate is for another name: use a name that it has, or have it issued anew"
    if code:
        return f"its certificate is not trusted, {said}: {about_ca}"
    return None
