"""The URI of a key on a PKCS#11 token (RFC 7512): read strictly, and matched."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from dmsign_fast.errors import ParameterError

__all__ = ["TokenUri", "describe", "parse_token_uri"]

_PATH = (
    *("token", "manufacturer", "serial", "model"),
    *("library-manufacturer", "library-description", "library-version"),
    *("slot-manufacturer", "slot-description", "slot-id"),
    *("object", "id", "type"),
)
_QUERY = ("module-path", "module-name", "pin-source")


@dataclass(frozen=True, slots=True)
class TokenUri:
    """What the library, slot, token and key must be, and how to reach them.

    Attributes:
        path: the path attributes, percent-decoded.
        module_path: the file of the module, or the directory that ``module_name`` is in.
        module_name: the module's file name without ``lib`` and ``.so``.
        pin_file: whose first line is the PIN.
    """

    path: Mapping[str, bytes]
    module_path: Path | None = None
    module_name: str | None = None
    pin_file: Path | None = None

    def allows(self, found: Mapping[str, bytes]) -> bool:
        """Tell whether each of these attributes is what the URI says, if it says anything."""
        return all(self.path.get(name, value) == value for name, value in found.items())


def describe(found: Mapping[str, bytes]) -> str:
    """Return the URI of what has these attributes, to show and to copy."""
    parts = (f"{name}={quote(value, safe='')}" for name, value in found.items() if value)
    return f"pkcs11:{';'.join(parts)}"


def parse_token_uri(uri: str) -> TokenUri:
    """Return the parts of the URI of a private key.

    Raises ParameterError for an attribute that RFC 7512 does not have, that comes twice, is not
    percent-encoded as it should be or means nothing here, and for ``pin-value``. A message
    repeats no value that may be a secret.
    """
    text, _, query_text = uri.removeprefix("pkcs11:").partition("?")
    if "pin-value" in re.split("[&=]", query_text):
        raise ParameterError(
            "a PKCS#11 URI with pin-value shows the PIN to everyone on this machine: leave it out, "
            "and give the PIN by pin-source=FILE, --passphrase-file or --passphrase-env"
        )
    query = _attributes(query_text.split("&") if query_text else (), "query", _QUERY)
    path = _attributes(text.split(";") if text else (), "path", _PATH)
    if path.pop("type", b"private") != b"private":
        raise ParameterError("the type of a PKCS#11 URI of a key to sign with is private")
    if "slot-id" in path and not re.fullmatch(rb"\d+", path["slot-id"]):
        raise ParameterError("the slot-id of a PKCS#11 URI is a decimal number")
    if "library-version" in path:
        path["library-version"] = _version(path["library-version"])
    texts = {name: _text(name, value) for name, value in query.items()}
    module_path, module_name = texts.get("module-path"), texts.get("module-name")
    if module_path is not None and not module_path.startswith("/"):
        raise ParameterError("the module-path of a PKCS#11 URI is an absolute path")
    if module_name is not None and (not module_name or "/" in module_name):
        raise ParameterError("the module-name of a PKCS#11 URI is a name, not a path")
    return TokenUri(
        path,
        None if module_path is None else Path(module_path),
        module_name,
        _pin_file(texts["pin-source"]) if "pin-source" in texts else None,
    )


def _attributes(pieces: Iterable[str], component: str, known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for piece in pieces:
        name, equals, value = piece.partition("=")
        if not equals or name not in known:
            raise ParameterError(
                f"{name or 'nothing'!r} is no {component} attribute of a PKCS#11 URI with a value; "
                f"there are {', '.join(known)}"
            )
        if name in found:
            raise ParameterError(f"a PKCS#11 URI has one {name}, not two")
        if re.search("%(?![0-9A-Fa-f]{2})", value):
            raise ParameterError(
                f"the {name} of a PKCS#11 URI has a % that two hexadecimal digits do not follow; "
                "write %25 for the character itself"
            )
        found[name] = unquote_to_bytes(os.fsencode(value))
    return found


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ParameterError(f"the {name} of a PKCS#11 URI is not UTF-8") from None


def _version(value: bytes) -> bytes:
    found = re.fullmatch(rb"(\d{1,3})(?:\.(\d{1,3}))?", value)
    if not found:
        raise ParameterError("the library-version of a PKCS#11 URI is MAJOR.MINOR")
    return b"%d.%d" % (int(found[1]), int(found[2] or 0))


def _pin_file(source: str) -> Path:
    named = re.sub("^file:(//(localhost)?(?=/))?", "", source)
    if not named or named.startswith(("|", "//")) or re.match("[A-Za-z][A-Za-z0-9+.-]+:", named):
        raise ParameterError("the pin-source of a PKCS#11 URI is a file: a path, or file:PATH")
    return Path(named)
