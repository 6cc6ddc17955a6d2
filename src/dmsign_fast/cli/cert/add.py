"""``dmsign-fast cert add``: trust certificates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.cert.options import add_store_options
from dmsign_fast.cli.output import print_json, print_line

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "add certificates to a trust store, all or none"
EXAMPLES = """\
examples:
  dmsign-fast cert add --type ca --store acme acme-root.pem
  dmsign-fast cert add --type tsa --store timestamps tsa-root.crt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_store_options(parser)
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        type=Path,
        help="certificates of CAs or self-signed ones (PEM or DER); of type tsa, roots alone",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.trust.store import add_certificates, config_directory

    added = add_certificates(config_directory(), args.type, args.store, args.files)
    if args.output == "json":
        names = [one.name for one in added]
        print_json({"type": args.type, "store": args.store, "added": names})
        return 0
    print_line(
        f"Successfully added following certificates to named store {args.store} "
        f"of type {args.type}:"
    )
    for path in args.files:
        print_line(str(path))
    return 0
