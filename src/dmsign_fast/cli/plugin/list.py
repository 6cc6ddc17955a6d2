"""``dmsign-fast plugin list``: what is installed, and whether it works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.config import print_table
from dmsign_fast.cli.output import print_json
from dmsign_fast.errors import DmsignError

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "list the plugins that are installed"
EXAMPLES = """\
examples:
  dmsign-fast plugin list
  NOTATION_LIBEXEC=/usr/libexec/notation dmsign-fast plugin list --output json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command: there are none."""


def _known(name: str) -> dict[str, Any]:
    from dmsign_fast.signing.plugin_host import find_plugin

    try:
        return {**find_plugin(name).metadata().to_json(), "error": None}
    except DmsignError as error:
        return {"name": name, "error": str(error)}


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.signing.plugin_host import list_plugins

    found = [_known(name) for name in list_plugins()]
    if args.output == "json":
        print_json({"plugins": found})
        return 0
    print_table(
        [("NAME", "DESCRIPTION", "VERSION", "CAPABILITIES", "ERROR")]
        + [
            (
                *(one.get(name, "") for name in ("name", "description", "version")),
                " ".join(one.get("capabilities", ())),
                one["error"] or "",
            )
            for one in found
        ]
    )
    return 0
