"""``dmsign-fast plugin describe``: what a plugin says of itself, and of a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.keys import add_plugin_options
from dmsign_fast.cli.options import by_name
from dmsign_fast.cli.output import print_json, print_line

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "show what a plugin can do, and with --id what it says of a key"
EXAMPLES = """\
examples:
  dmsign-fast plugin describe azure-kv
  dmsign-fast plugin describe azure-kv --id https://name.vault.azure.net/keys/release/1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("name", metavar="NAME", help="name of the plugin")
    add("--id", help="show this key too, as the plugin calls it")
    add_plugin_options(add, "the plugin")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.signing.plugin import KeyOfPlugin
    from dmsign_fast.signing.plugin_host import find_plugin

    config = by_name(args.plugin_config, "--plugin-config")
    plugin = find_plugin(args.name, args.plugin_timeout)
    found = {**plugin.metadata(config).to_json(), "path": str(plugin.path)}
    if args.id is not None:
        key = KeyOfPlugin(plugin, args.id, config)
        found |= {"keyId": args.id, "keySpec": str(key.describe())}
    if args.output == "json":
        print_json(found)
        return 0
    for name, value in found.items():
        print_line(f"{name}: {' '.join(value) if isinstance(value, list) else value}")
    return 0
