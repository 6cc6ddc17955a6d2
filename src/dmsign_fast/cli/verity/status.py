"""``dmsign-fast verity status``: what veritysetup knows of an open device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.errors import VerificationError

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "say what an open device is made of, and whether a corrupt block was read"
EXAMPLES = """\
examples:
  sudo dmsign-fast verity status layer0
exit status:
  0 open; 1 open, and a corrupt block was read; 4 not open, or not to be asked
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("name", metavar="NAME", help="name of the device in /dev/mapper")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.node.device import device_status

    status = device_status(args.name)
    if args.output == "json":
        print_json({"name": args.name, **{key.replace(" ", "_"): status[key] for key in status}})
        args.printed = True
    else:
        for key, value in status.items():
            print_line(f"{f'{key}:':16} {value}")
    if (found := status.get("status")) != "verified":
        raise VerificationError(
            f"{args.name} is {found or 'without a status'}: a block was read that is not what the "
            "root hash stands for; verity verify names all such blocks"
        )
    return 0
