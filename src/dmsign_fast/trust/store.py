"""The places of notation's configuration, and its trust stores: directories of certificates.

As notation does, and the specification asks, symbolic links are refused. What is in a store is
trusted, so that anything that does not belong there is an error and not passed over.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dmsign_fast.directories import config_directory, is_name
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import FormatError, ParameterError, StorageError
from dmsign_fast.outputs import storage_errors
from dmsign_fast.signing.certificates import (
    issued,
    issuer_problem,
    load_certificates,
    name_of,
    read_file,
)
from dmsign_fast.strict_json import read_object
from dmsign_fast.trust.config_edit import Change, changing

__all__ = [
    "STORE_TYPES",
    "TrustedFile",
    "add_certificates",
    "config_directory",
    "delete_certificates",
    "is_name",
    "list_stores",
    "load_file",
    "load_store",
    "put_certificates",
    "read_config",
]

STORE_TYPES = ("ca", "signingAuthority", "tsa")

_SUFFIXES = (".pem", ".crt", ".cer")


@dataclass(frozen=True, slots=True)
class TrustedFile:
    """A file of certificates in a trust store, such as the one of type ``ca`` named ``acme``."""

    kind: str
    store: str
    name: str
    certificates: tuple[x509.Certificate, ...]


def read_config(path: Path) -> dict[str, object] | None:
    """Return the JSON object in a file of the configuration, or None if there is no such file.

    Raises StorageError for a file that cannot be read or is not regular, FormatError for a file
    that is not JSON.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise StorageError(
            f"{path} is not a regular file, and no symbolic links are taken: put a file there"
        )
    return read_object(read_file(path), str(path))


def load_store(config: Path, kind: str, name: str) -> TrustAnchors:
    """Return the certificates of a named store, such as ``ca``, ``acme``.

    Each is a CA, or signed by itself. Raises StorageError for a store that is missing or empty, or
    holds what is not a file; FormatError for a malformed name or certificate.
    """
    try:
        directory = _directory(config, kind, name)
    except ParameterError as error:  # a policy has the name
        raise FormatError(str(error)) from None
    files = _read_store(directory)
    if not files:
        raise StorageError(
            f"the trust store {directory} is empty: add a certificate with "
            f"'dmsign-fast cert add --type {kind} --store {name} FILE'"
        )
    return TrustAnchors(tuple(dict.fromkeys(one for file in files for one in file.certificates)))


def list_stores(
    config: Path, kind: str | None = None, name: str | None = None
) -> tuple[TrustedFile, ...]:
    """Return the files of all stores, or of the stores of a type or name, which need not exist.

    Raises ParameterError for a type or name that is none, and what ``load_store`` raises for what
    does not belong in a store.
    """
    found: list[TrustedFile] = []
    for one in (kind,) if kind is not None else STORE_TYPES:
        named = _directory(config, one, name if name is not None else "any")
        with storage_errors("read", named.parent):
            all_of_kind = sorted(named.parent.iterdir()) if named.parent.exists() else []
        for directory in all_of_kind:
            if name is None or directory == named:
                found += _read_store(directory)
    return tuple(found)


def add_certificates(
    config: Path, kind: str, name: str, paths: Iterable[Path]
) -> tuple[TrustedFile, ...]:
    """Copy files of certificates, PEM or DER, into a store: all of them, or none.

    Raises ParameterError for a name that is none or is taken and for a certificate that the store
    has, FormatError for one that does not belong there, StorageError for a file.
    """
    _directory(config, kind, name)
    found = [TrustedFile(kind, name, path.name, load_certificates(path)) for path in paths]
    with changing(config) as change:
        for number, one in enumerate(found):
            put_certificates(change, config, one, beside=found[:number])
    return tuple(found)


def put_certificates(
    change: Change, config: Path, new: TrustedFile, beside: Iterable[TrustedFile] = ()
) -> Path:
    """Let a change add a file to its store, ``beside`` others; return where it will be.

    What is written is the certificates and nothing else that a file may have held. Raises what
    ``add_certificates`` raises.
    """
    directory = _directory(config, new.kind, new.store)
    path = directory / new.name
    if path.suffix not in _SUFFIXES:
        raise ParameterError(
            f"{new.name} cannot be in a trust store: rename it to end in {' or '.join(_SUFFIXES)}"
        )
    _check_trusted(new.certificates, new.kind, new.name)
    for other in [*list_stores(config, new.kind, new.store), *beside]:
        if other.name == new.name:
            raise ParameterError(
                f"the trust store {directory} has a file {new.name} already: give the new one "
                "another name, or delete the old one with 'dmsign-fast cert delete'"
            )
        for certificate in set(other.certificates) & set(new.certificates):
            raise ParameterError(
                f"{directory / other.name} has the certificate {name_of(certificate)} already: "
                "there is nothing to add"
            )
    change.write(path, b"".join(one.public_bytes(Encoding.PEM) for one in new.certificates))
    return path


def load_file(config: Path, kind: str, name: str, file: str) -> TrustedFile:
    """Return one file of a store, whatever else is in it.

    Raises ParameterError for names that are none, and what ``load_store`` raises for the file.
    """
    path = _directory(config, kind, name) / _file_name(file)
    if not os.path.lexists(path):
        raise StorageError(f"there is no {path}: 'dmsign-fast cert list' shows what there is")
    return _read_file(path)


def delete_certificates(config: Path, kind: str, name: str, file: str | None = None) -> Path:
    """Delete one file of a store, whatever it holds, or the whole store; return what was deleted.

    Raises ParameterError for names that are none, StorageError for what is not there or stays.
    """
    directory = _directory(config, kind, name)
    path = directory if file is None else directory / _file_name(file)
    with changing(config), storage_errors("delete", path):
        if file is not None:
            path.unlink()
        else:
            _refuse_link(directory)
            # renamed first, to where no store is looked for: no half of a store may stand
            away = directory.parents[1] / f".dmsign-{os.urandom(8).hex()}"
            directory.rename(away)
            shutil.rmtree(away)
    return path


def _directory(config: Path, kind: str, name: str) -> Path:
    if kind not in STORE_TYPES or not is_name(name):
        raise ParameterError(
            f"{kind}:{name} is not a trust store; use {', '.join(STORE_TYPES)} and letters, "
            "digits, '_', '.', '-'"
        )
    return config / "truststore" / "x509" / kind / name


def _refuse_link(directory: Path) -> None:
    if directory.is_symlink():
        raise StorageError(
            f"the trust store {directory} is a symbolic link, and links are refused: make it a "
            "directory"
        )


def _read_store(directory: Path) -> list[TrustedFile]:
    _refuse_link(directory)
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise StorageError(
            f"cannot read the trust store {directory}: {error.strerror}; add a certificate with "
            f"'dmsign-fast cert add --type {directory.parent.name} --store {directory.name} FILE'"
        ) from error
    return [_read_file(path) for path in entries]


def _read_file(path: Path) -> TrustedFile:
    if path.is_symlink() or not path.is_file() or path.suffix not in _SUFFIXES:
        raise StorageError(
            f"{path} does not belong in a trust store, which holds {', '.join(_SUFFIXES)} files"
        )
    store = path.parent
    found = TrustedFile(store.parent.name, store.name, path.name, load_certificates(path))
    _check_trusted(found.certificates, found.kind, path)
    return found


def _check_trusted(certificates: Iterable[x509.Certificate], kind: str, what: Path | str) -> None:
    for certificate in certificates:
        root = issued(certificate, certificate)
        if not root and (kind == "tsa" or issuer_problem(certificate) is not None):
            raise FormatError(
                f"{what}: {name_of(certificate)} is neither a CA nor self-signed: give the "
                "certificate of the CA that issued it"
            )


def _file_name(file: str) -> str:
    if file in ("", "..") or Path(file).name != file:
        raise ParameterError(f"{file!r} is not the name of a file in a trust store")
    return file
