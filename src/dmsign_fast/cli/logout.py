"""``dmsign-fast logout``: forget a login to a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_json, print_line

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "remove the login to a registry from docker's and podman's files and helpers"
EXAMPLES = """\
examples:
  dmsign-fast logout registry.example
  dmsign-fast logout registry.example --authfile auth.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("registry", metavar="REGISTRY", help="the registry: HOST or HOST:PORT")
    parser.add_argument(
        "--authfile",
        type=Path,
        metavar="FILE",
        help="remove it from this file alone; default: $REGISTRY_AUTH_FILE, or all files that "
        "are read",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.oci.credentials import remove_logins
    from dmsign_fast.oci.login import registry_name

    registry = registry_name(args.registry)
    removed = [str(one) for one in remove_logins(registry, args.authfile)]
    if args.output == "json":
        print_json({"registry": registry, "removed_from": removed})
    else:
        for one in removed:
            print_line(f"removed the login to {registry} from {one}")
        if not removed:
            print_line(f"there was no login to {registry}")
    return 0
