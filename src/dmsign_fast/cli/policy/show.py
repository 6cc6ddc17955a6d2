"""``dmsign-fast policy show``: the trust policy that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.output import note, print_json

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "show the trust policy, in JSON"
EXAMPLES = """\
examples:
  dmsign-fast policy show
  dmsign-fast policy show > policy.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command: none."""


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.trust.policy import read_policy
    from dmsign_fast.trust.store import config_directory

    path, document = read_policy(config_directory())
    if args.output == "json":
        print_json({"file": str(path), "policy": document})
    else:
        print_json(document)
        note(args, f"from {path}")
    return 0
