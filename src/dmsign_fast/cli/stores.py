"""Images on the command line: in a registry, or in an OCI image layout."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.options import section
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from dmsign_fast.oci.credentials import Credentials
    from dmsign_fast.oci.store import Store
    from dmsign_fast.oci.transport import Connection

__all__ = [
    "add_image_options",
    "add_registry_options",
    "add_store_options",
    "connection_of",
    "credentials_of",
    "open_image",
    "repository_of",
]


def add_image_options(parser: argparse.ArgumentParser, *, one: bool = False) -> None:
    """The image, and how to reach it; of an index, ``one`` manifest alone."""
    parser.add_argument(
        "reference",
        metavar="REF",
        help="the image: REGISTRY/REPOSITORY:TAG or @DIGEST; with --oci-layout PATH:TAG or @DIGEST",
    )
    group = add_store_options(parser)
    which = group.add_mutually_exclusive_group().add_argument
    which(
        "--platform",
        metavar="OS/ARCH[/VARIANT]",
        help="take the manifest for this platform from an index",
    )
    if one:
        parser.set_defaults(recursive=False)
    else:
        which(
            "--recursive",
            action="store_true",
            help="take an index, which is a list of manifests, and each of them",
        )


def add_store_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """How to reach the image; the group has more room for what it is."""
    group = section(parser, "image")
    group.add_argument(
        "--oci-layout",
        action="store_true",
        help="look for REF in an OCI image layout, a directory or tar",
    )
    add_registry_options(parser).add_argument(
        "--authfile",
        type=Path,
        metavar="FILE",
        help="take the login from this file; default: $REGISTRY_AUTH_FILE, or the files of "
        "docker and podman",
    )
    return group


def add_registry_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """How to reach a registry, and who logs in; the group has more room."""
    reach = section(parser, "registry")
    registry = reach.add_argument
    scheme = reach.add_mutually_exclusive_group().add_argument
    scheme(
        "--plain-http",
        action="store_true",
        default=None,
        help="speak HTTP, and send no login, but on the loopback, where HTTP is the default",
    )
    scheme(
        "--tls",
        dest="plain_http",
        action="store_false",
        default=None,
        help="speak HTTPS on the loopback too, as with --ca-file or --client-cert",
    )
    registry("--ca-file", type=Path, metavar="FILE", help="trust these CAs for the registry (PEM)")
    registry(
        "--client-cert",
        type=Path,
        metavar="FILE",
        help="show this certificate, for mutual TLS (PEM)",
    )
    registry("--client-key", type=Path, metavar="FILE", help="the private key of --client-cert")
    registry(
        "--username", help="log in as this user; default: the login that docker or podman keeps"
    )
    registry(
        "--password-stdin",
        action="store_true",
        help="read the password of --username from standard input",
    )
    return reach


def credentials_of(args: argparse.Namespace) -> Credentials | None:
    """The login of the options or the environment; None if there is none."""
    password = os.environ.get("NOTATION_PASSWORD")
    username = args.username or os.environ.get("NOTATION_USERNAME")
    if args.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    if not username and args.password_stdin:
        raise ParameterError("--password-stdin needs --username, or NOTATION_USERNAME set")
    if not username:
        return None
    if not password:
        raise ParameterError("--username needs --password-stdin, or NOTATION_PASSWORD set")
    from dmsign_fast.oci.credentials import Credentials

    return Credentials(username=username, password=password)


def connection_of(args: argparse.Namespace) -> Connection:
    """How the options reach registries."""
    from dmsign_fast.oci.transport import Connection

    return Connection(
        plain_http=args.plain_http,
        ca_file=args.ca_file,
        client_certificate=args.client_cert,
        client_key=args.client_key,
    )


@contextmanager
def open_image(args: argparse.Namespace) -> Iterator[tuple[Store, str]]:
    """The store that REF names, and the tag or digest in it.

    A tag is resolved once, by who gets it, and a note says what it meant.
    """
    if args.oci_layout:
        from dmsign_fast.oci.layout import Layout
        from dmsign_fast.oci.reference import LayoutReference

        place = LayoutReference.parse(args.reference)
        with Layout(place.path) as layout:
            yield layout, layout.wanted(place)
        return
    from dmsign_fast.oci.credentials import logins_in
    from dmsign_fast.oci.reference import RegistryReference
    from dmsign_fast.oci.registry import Registry

    image = RegistryReference.parse(args.reference)
    logins = logins_in(args.authfile)
    with Registry(image, connection_of(args), credentials_of(args), logins) as registry:
        yield registry, image.wanted


def repository_of(args: argparse.Namespace) -> str:
    """What stands before the tag or digest."""
    if args.oci_layout:
        from dmsign_fast.oci.reference import LayoutReference

        return str(LayoutReference.parse(args.reference).path)
    from dmsign_fast.oci.reference import RegistryReference

    image = RegistryReference.parse(args.reference)
    return f"{image.registry}/{image.repository}"
