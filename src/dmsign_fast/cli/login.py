"""``dmsign-fast login``: keep a login to a registry, as docker and podman do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.output import note, print_json, print_line
from dmsign_fast.cli.stores import add_registry_options, connection_of, credentials_of
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    import argparse

    from dmsign_fast.oci.credentials import Credentials

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "log in to a registry, and keep the login where docker has its own"
EXAMPLES = """\
examples:
  dmsign-fast login registry.example --username alice                 asks for the password
  dmsign-fast login registry.example --username alice --password-stdin < password.txt
  dmsign-fast login registry.example --username alice --authfile auth.json
then, where it is not docker's file:
  dmsign-fast verify registry.example/app:1.0 --authfile auth.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("registry", metavar="REGISTRY", help="the registry: HOST or HOST:PORT")
    add_registry_options(parser)
    parser.add_argument(
        "--authfile",
        type=Path,
        metavar="FILE",
        help="keep the login in this file; default: $REGISTRY_AUTH_FILE, or docker's config.json",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.oci.credentials import save_login
    from dmsign_fast.oci.login import check_login, registry_name

    registry = registry_name(args.registry)
    credentials = _credentials(args)
    if ":" in credentials.username:
        raise ParameterError("a user name with a colon cannot be sent: give another --username")
    asked = check_login(registry, credentials, connection_of(args))
    if not asked:
        note(args, f"{registry} asks for no login: the user name and password were not checked")
    kept = save_login(registry, credentials, args.authfile)
    if args.output == "json":
        print_json({"registry": registry, "kept_in": str(kept), "checked": asked})
    else:
        print_line(f"logged in to {registry}; {kept} keeps the login")
    return 0


def _credentials(args: argparse.Namespace) -> Credentials:
    from dmsign_fast.oci.credentials import Credentials

    given = args.password_stdin or os.environ.get("NOTATION_PASSWORD")
    if args.username and not given and sys.stdin.isatty():
        import getpass

        try:
            password = getpass.getpass(f"Password of {args.username}: ")
        except EOFError:
            password = ""
        if not password:
            raise ParameterError("no password was given")
        return Credentials(args.username, password)
    credentials = credentials_of(args)
    if credentials is None:
        raise ParameterError("who logs in? give --username and --password-stdin")
    return credentials
