"""``dmsign-fast cert list``: what is trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.cert.options import add_store_options
from dmsign_fast.cli.config import print_table
from dmsign_fast.cli.output import print_json

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "list the files of the trust stores"
EXAMPLES = """\
examples:
  dmsign-fast cert list
  dmsign-fast cert list --type ca --store acme --output json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_store_options(parser, required=False)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.trust.store import config_directory, list_stores

    rows = [
        (one.kind, one.store, one.name)
        for one in list_stores(config_directory(), args.type, args.store)
    ]
    if args.output == "json":
        names = ("type", "store", "file")
        print_json({"certificates": [dict(zip(names, row, strict=True)) for row in rows]})
    elif rows:
        print_table([("STORE TYPE", "STORE NAME", "CERTIFICATE"), *rows])
    return 0
