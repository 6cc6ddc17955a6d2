"""``dmsign-fast plugin uninstall``: remove a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.config import confirm
from dmsign_fast.cli.output import print_json, print_line

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "remove a plugin and all that was installed with it"
EXAMPLES = """\
examples:
  dmsign-fast plugin uninstall dmsign --yes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("name", metavar="NAME", help="name of the plugin")
    add("-y", "--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.signing.plugin_install import uninstall_plugin

    confirm(f"Uninstall the plugin {args.name!r}?", "--yes", yes=args.yes)
    path = uninstall_plugin(args.name)
    if args.output == "json":
        print_json({"uninstalled": args.name, "path": str(path)})
    else:
        print_line(f"Successfully uninstalled plugin {args.name}")
    return 0
