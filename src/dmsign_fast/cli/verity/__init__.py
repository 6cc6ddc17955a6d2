"""``dmsign-fast verity ...``: veritysetup's words, and signatures."""

from __future__ import annotations

import argparse

from dmsign_fast.cli.verity import dump, format, sign, verify  # noqa: A004

__all__ = ["add_commands"]


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``verity`` and its commands to the parser."""
    group = commands.add_parser("verity", help="hash trees and signatures of files and devices")
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (format, verify, dump, sign):
        parser = actions.add_parser(
            command.__name__.rpartition(".")[2],
            help=command.HELP,
            description=f"{command.HELP.capitalize()}.",
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add = parser.add_argument
        parser.set_defaults(run=command.run)
        command.add_arguments(parser)
        add("--output", choices=("text", "json"), default="text", help="default: text")
        add("--quiet", action="store_true", help="no progress and no summary")
        add("--debug", action="store_true", help="tracebacks of errors")
