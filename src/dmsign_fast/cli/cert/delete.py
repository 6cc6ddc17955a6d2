"""``dmsign-fast cert delete``: trust certificates no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.cert.options import add_store_options
from dmsign_fast.cli.config import confirm
from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "delete a file of a trust store, or a whole store"
EXAMPLES = """\
examples:
  dmsign-fast cert delete --type ca --store acme acme-root.pem
  dmsign-fast cert delete --type ca --store acme --all --yes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_store_options(parser)
    add = parser.add_argument
    add("file", metavar="FILE", nargs="?", help="name of the file in the trust store")
    add("-a", "--all", action="store_true", help="delete the whole store")
    add("-y", "--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.trust.store import config_directory, delete_certificates

    if args.all is (args.file is not None):
        raise ParameterError("give the name of one FILE, or --all")
    what = repr(args.file) if args.file is not None else "all certificates"
    question = f"Delete {what} in {args.store!r} of type {args.type!r}?"
    confirm(question, "--yes", yes=args.yes)
    path = delete_certificates(config_directory(), args.type, args.store, args.file)
    if args.output == "json":
        print_json({"type": args.type, "store": args.store, "deleted": str(path)})
    else:
        print_line(f"Successfully deleted {path}")
    return 0
