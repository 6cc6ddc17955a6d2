"""``dmsign-fast key delete``: forget the names of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.config import confirm
from dmsign_fast.cli.output import print_json, print_line

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "delete keys from the list; their files, or the plugin's keys, stay"
EXAMPLES = """\
examples:
  dmsign-fast key delete release
  dmsign-fast key delete release kms --yes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("names", metavar="NAME", nargs="+", help="name of a key")
    add("-y", "--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.trust.keys import change_signing_keys, load_signing_keys
    from dmsign_fast.trust.store import config_directory

    names = list(dict.fromkeys(args.names))
    load_signing_keys(config_directory()).without(names)  # who misspelt a name is not asked
    confirm(f"Delete {', '.join(names)} from the list of signing keys?", "--yes", yes=args.yes)
    before, keys = change_signing_keys(config_directory(), lambda keys: keys.without(names))
    if args.output == "json":
        print_json({"deleted": names, "default": keys.default, "file": str(keys.path)})
        return 0
    for name in names:
        default = "default key " if name == before.default else ""
        print_line(f"Removed {default}{name} from the signing key list. The key still exists.")
    return 0
