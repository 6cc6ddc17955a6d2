"""``dmsign-fast key default``: choose the key to sign with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_json, print_line

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "make a key the default, which signs when no key is named"
EXAMPLES = """\
examples:
  dmsign-fast key default release
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("name", metavar="NAME", help="name of the key")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.trust.keys import change_signing_keys
    from dmsign_fast.trust.store import config_directory

    _, keys = change_signing_keys(config_directory(), lambda keys: keys.with_default(args.name))
    if args.output == "json":
        print_json({"default": keys.default, "file": str(keys.path)})
    else:
        print_line(f"{keys.default}: marked as default")
    return 0
