"""The places of notation's configuration, and its trust stores: directories of certificates.

As notation does, and the specification asks, symbolic links are refused. What is in a store is
trusted, so that anything that does not belong there is an error and not passed over.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from cryptography import x509

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import FormatError, StorageError
from dmsign_fast.signing.certificates import (
    issued,
    issuer_problem,
    load_certificates,
    name_of,
    read_file,
)
from dmsign_fast.strict_json import read_object

__all__ = ["STORE_TYPES", "config_directory", "load_store", "read_config"]

STORE_TYPES = ("ca", "signingAuthority", "tsa")

_SUFFIXES = (".pem", ".crt", ".cer")
_NAME = re.compile(r"[a-zA-Z0-9_.-]+", re.ASCII)


def config_directory() -> Path:
    """Return ``$NOTATION_CONFIG``, or where notation keeps its configuration without it."""
    if chosen := os.environ.get("NOTATION_CONFIG"):
        return Path(chosen)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "notation"


def read_config(path: Path) -> dict[str, object] | None:
    """Return the JSON object in a file of the configuration, or None if there is no such file.

    Raises StorageError for one that cannot be read or is not a regular file, FormatError for one
    that is not JSON.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise StorageError(f"{path} is not a regular file; notation takes no symbolic links")
    return read_object(read_file(path), str(path))


def load_store(config: Path, kind: str, name: str) -> TrustAnchors:
    """Return the certificates of a named store, such as ``ca``, ``acme``.

    Each is a CA, or signed by itself. Raises StorageError for a store that is missing or empty, or
    holds what is not a file; FormatError for a name that is not one or a certificate that is none.
    """
    if kind not in STORE_TYPES or not _NAME.fullmatch(name) or not name.strip("."):
        raise FormatError(
            f"{kind}:{name} is not a trust store; use {', '.join(STORE_TYPES)} and letters, "
            "digits, '_', '.', '-'"
        )
    directory = config / "truststore" / "x509" / kind / name
    try:
        if directory.is_symlink():
            raise StorageError(f"the trust store {directory} is a symbolic link")
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise StorageError(
            f"cannot read the trust store {directory}: {error.strerror}; "
            "add a certificate with 'notation cert add'"
        ) from error
    certificates: list[x509.Certificate] = []
    for path in entries:
        if path.is_symlink() or not path.is_file() or path.suffix not in _SUFFIXES:
            raise StorageError(
                f"{path} does not belong in a trust store, which holds {', '.join(_SUFFIXES)} files"
            )
        found = load_certificates(path)
        for certificate in found:
            root = issued(certificate, certificate)
            if not root and (kind == "tsa" or issuer_problem(certificate) is not None):
                raise FormatError(f"{path}: {name_of(certificate)} is neither a CA nor self-signed")
        certificates += found
    if not certificates:
        raise StorageError(f"the trust store {directory} is empty")
    return TrustAnchors(tuple(dict.fromkeys(certificates)))
