"""``dmsign-fast key add``: give a key a name."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.keys import secret_of
from dmsign_fast.cli.options import by_name, name_and_value
from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    import argparse

    from dmsign_fast.trust.keys import LocalKey, PluginKey

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "add a key to the list: of a file, or of a plugin"
EXAMPLES = """\
examples:
  dmsign-fast key add release --key key.pem --cert chain.pem --default
  dmsign-fast key add release --key release.p12
  dmsign-fast key add kms --plugin azure-kv --id https://vault.example/keys/k/1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("name", metavar="NAME", help="name the key so")
    add("--default", action="store_true", help="sign with this key when none is named")
    local = parser.add_argument_group("a key in a file").add_argument
    local("--key", type=Path, metavar="FILE", help="the private key, which stays where it is")
    local(
        "--cert",
        type=Path,
        metavar="FILE",
        help="the certificate of --key, and its chain to the root (PEM); default: those in --key",
    )
    local(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="read the passphrase of the key from the first line",
    )
    local(
        "--passphrase-env",
        metavar="NAME",
        help="take the passphrase from this environment variable",
    )
    plugin = parser.add_argument_group("a key of a plugin").add_argument
    plugin("--plugin", metavar="PLUGIN", help="the name of the plugin")
    plugin("--id", help="the key, as the plugin calls it")
    plugin(
        "--plugin-config",
        type=name_and_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="tell this to the plugin; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.trust.keys import change_signing_keys
    from dmsign_fast.trust.store import config_directory

    key = _key(args)
    _, keys = change_signing_keys(
        config_directory(), lambda keys: keys.with_key(key, default=args.default)
    )
    if args.output == "json":
        print_json({"name": key.name, "default": args.default, "file": str(keys.path)})
    else:
        print_line(f"{key.name}: marked as default" if args.default else key.name)
    return 0


def _key(args: argparse.Namespace) -> LocalKey | PluginKey:
    from dmsign_fast.signing.key_files import has_own_certificates
    from dmsign_fast.trust.keys import PluginKey, checked_local_key

    local, plugin = (args.key, args.cert), (args.plugin, args.id)
    whole = args.key and (args.cert or has_own_certificates(args.key))
    if whole and not any(plugin) and not args.plugin_config:
        passphrase = partial(secret_of(args), f"passphrase of {args.key}")
        return checked_local_key(args.name, *local, passphrase)
    if all(plugin) and not any(local):
        return PluginKey(args.name, *plugin, by_name(args.plugin_config, "--plugin-config"))
    raise ParameterError("give --key and --cert, or --plugin and --id")
