"""Which authorities vouch for servers over TLS, and who we are to servers that ask.

Where the authorities are is as in Go's crypto/x509 (``root_unix.go``), and so as in docker and
podman: ``$SSL_CERT_FILE`` or else the first bundle below that is there, and ``$SSL_CERT_DIR`` or
else the usual directories. ``$REQUESTS_CA_BUNDLE`` and ``$CURL_CA_BUNDLE``, of other programs in
Python, are read like ``$SSL_CERT_FILE``, and stand for the usual directories too.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.errors import FormatError, StorageError
from dmsign_fast.outputs import storage_errors

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

__all__ = ["default_context", "names_in", "new_context"]

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Azure Linux
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_DIRECTORIES = ("/etc/ssl/certs", "/etc/pki/tls/certs")
_INSTEAD = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_NAMED = ("SSL_CERT_FILE", *_INSTEAD)
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # names that ``openssl rehash`` gives
_MAX_SIZE = 16 << 20  # bytes of a file; a distribution's bundle has about 250 KiB
_MAX_NAMES = 10_000  # in a directory


def new_context(
    authorities: Path | None = None,
    more: Iterable[Path] = (),
    client: tuple[Path, Path] | None = None,
) -> ssl.SSLContext:
    """How to talk to a server over TLS, which is always asked for a certificate of its name.

    Args:
        authorities: PEM certificates that are trusted; by default those of the machine.
        more: files of PEM certificates that are trusted besides.
        client: certificate and key with which we answer a server that asks; PEM, and may be the
            same file.

    Raises:
        StorageError: a file cannot be read.
        FormatError: it is not PEM, too large, or the key is encrypted or not the certificate's.
    """
    import ssl

    from urllib3.util.ssl_ import create_urllib3_context

    context = create_urllib3_context()
    # As Go, whatever the version of Python: authorities that are trusted need no root above them,
    # and need not have every extension that RFC 5280 asks for.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if authorities is None:
        _trust_defaults(context)
    else:
        _trust_file(context, authorities)
    for path in more:
        _trust_file(context, path)
    if client:
        _answer_with(context, *client)
    return context


@functools.cache
def default_context() -> ssl.SSLContext:
    """That of ``new_context()``, made once."""
    return new_context()


def names_in(directory: Path) -> list[str]:
    """The names in a directory, in order; StorageError if it cannot be read or has too many."""
    with storage_errors("read", directory):
        names = sorted(path.name for path in directory.iterdir())
    if len(names) > _MAX_NAMES:
        raise StorageError(f"{directory} has more than {_MAX_NAMES} files: certificates have fewer")
    return names


def _trust_defaults(context: ssl.SSLContext) -> None:
    named = {path: variable for variable in _NAMED if (path := os.environ.get(variable))}
    instead = any(map(os.environ.get, _INSTEAD))
    for one, variable in named.items():
        _trust_named(context, Path(one), variable)
    bundle = next(filter(os.path.isfile, _BUNDLES), None)
    if bundle and not named:
        _trust_file(context, Path(bundle))
    # an empty name would be the current directory, whose files are anybody's
    directories = list(filter(None, os.environ.get("SSL_CERT_DIR", "").split(os.pathsep)))
    for one in directories:
        if Path(one).is_dir():  # lists of usual places have some that are not there
            _trust_named(context, Path(one), "SSL_CERT_DIR")
    usual = [] if directories or instead else [one for one in _DIRECTORIES if Path(one).is_dir()]
    for one in usual:
        context.load_verify_locations(capath=one)
    if not (named or bundle or directories or usual):
        import certifi

        _trust_file(context, Path(certifi.where()))


def _trust_named(context: ssl.SSLContext, path: Path, variable: str) -> None:
    try:
        (_trust_directory if path.is_dir() else _trust_file)(context, path)
    except (StorageError, FormatError) as error:
        raise type(error)(f"{error}; the environment variable {variable} names it") from error


def _trust_directory(context: ssl.SSLContext, directory: Path) -> None:
    """As Go, which reads every file and passes over what is none of certificates."""
    paths = [directory / name for name in names_in(directory)]
    context.load_verify_locations(capath=directory)  # read by hash, when one is wanted
    hashed = {os.path.realpath(path) for path in paths if _HASHED.fullmatch(path.name)}
    for path in paths:
        if path.is_file() and os.path.realpath(path) not in hashed:
            try:
                _trust_file(context, path)
            except FormatError:
                continue


def _trust_file(context: ssl.SSLContext, path: Path) -> None:
    import ssl

    _check_file(path)
    try:
        with storage_errors("read", path):
            context.load_verify_locations(cafile=path)
    except StorageError as error:
        if not isinstance(error.__cause__, ssl.SSLError):
            raise
        raise FormatError(
            f"{path} is not a file of PEM certificates: give the certificate of the authority, "
            "BEGIN CERTIFICATE and the rest"
        ) from None


def _answer_with(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    import ssl

    for path in (certificate, key):
        _check_file(path)

    def encrypted() -> bytes:
        raise FormatError(
            f"the key {key} is encrypted, and a key for TLS is read without a passphrase: give one "
            "that is not, as 'openssl pkey' writes it"
        )

    try:
        with storage_errors("read", certificate):
            context.load_cert_chain(certificate, key, encrypted)
    except StorageError as error:
        cause = error.__cause__
        if not isinstance(cause, ssl.SSLError):
            raise
        if cause.reason == "KEY_VALUES_MISMATCH":
            why = f"the key {key} is not that of the certificate {certificate}"
        else:
            why = f"{certificate} and {key} are not a certificate and its key in PEM"
        raise FormatError(
            f"{why}: give both of the client, with --client-cert and --client-key"
        ) from None


def _check_file(path: Path) -> None:
    with storage_errors("read", path):
        found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"cannot read {path}: not a regular file")
    if found.st_size > _MAX_SIZE:
        raise FormatError(f"{path} has more than {_MAX_SIZE >> 20} MiB: too many for certificates")
