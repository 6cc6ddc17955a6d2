"""``dmsign-fast key list``: the signing keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.config import print_table
from dmsign_fast.cli.output import print_json

if TYPE_CHECKING:
    import argparse

    from dmsign_fast.trust.keys import LocalKey, PluginKey

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "list the keys; * marks the default"
EXAMPLES = """\
examples:
  dmsign-fast key list
  dmsign-fast key list --output json
"""
_COLUMNS = ("NAME", "KEY PATH", "CERTIFICATE PATH", "ID", "PLUGIN NAME")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command: none."""


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.trust.keys import load_signing_keys
    from dmsign_fast.trust.store import config_directory

    known = load_signing_keys(config_directory())
    keys = [_facts(key) for key in known.keys.values()]
    if args.output == "json":
        print_json({"file": str(known.path), "default": known.default, "keys": keys})
        return 0
    rows = []
    for key in keys:
        fields = ("name", "key_path", "certificate_path", "id", "plugin")
        name, *rest = (str(key.get(field, "")) for field in fields)
        rows.append((f"* {name}" if name == known.default else name, *rest))
    print_table([_COLUMNS, *rows])
    return 0


def _facts(key: LocalKey | PluginKey) -> dict[str, object]:
    from dmsign_fast.trust.keys import LocalKey

    if isinstance(key, LocalKey):
        paths = {"key_path": str(key.key), "certificate_path": str(key.certificates)}
        return {"name": key.name, **paths}
    config = dict(key.config)
    return {"name": key.name, "plugin": key.plugin, "id": key.id, "plugin_config": config}
