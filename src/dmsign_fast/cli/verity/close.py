"""``dmsign-fast verity close``: close a device by veritysetup."""

from __future__ import annotations

import argparse

from dmsign_fast.cli.output import print_json

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "close a device by veritysetup"
EXAMPLES = """\
examples:
  sudo dmsign-fast verity close layer0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("name", metavar="NAME", help="of the device below /dev/mapper")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.node.device import close_device

    close_device(args.name)
    if args.output == "json":
        print_json({"closed": args.name})
    return 0
