"""``dmsign-fast verity close``: close a device by veritysetup."""

from __future__ import annotations

import argparse

from dmsign_fast.cli.output import print_json

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "close a device, by veritysetup"
EXAMPLES = """\
examples:
  sudo dmsign-fast verity close layer0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("name", metavar="NAME", help="name of the device in /dev/mapper")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--deferred", action="store_true", help="close the device when its last user is gone")
    add("--cancel-deferred", action="store_true", help="undo --deferred: do not close the device")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.node.device import close_device

    given = {"--deferred": args.deferred, "--cancel-deferred": args.cancel_deferred}
    close_device(args.name, *(option for option, wanted in given.items() if wanted))
    if args.output == "json":
        print_json({"closed": args.name})
    return 0
