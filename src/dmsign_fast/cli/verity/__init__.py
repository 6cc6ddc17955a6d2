"""``dmsign-fast verity ...``: veritysetup's words, and signatures."""

from __future__ import annotations

import argparse
from typing import Any

from dmsign_fast.cli.verity import dump, format, sign, verify  # noqa: A004

__all__ = ["add_commands"]


class _Parser(argparse.ArgumentParser):
    """Options may stand between the arguments, before an optional one too, as in veritysetup."""

    _inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._inside:
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``verity`` and its commands to the parser."""
    group = commands.add_parser("verity", help="hash trees and signatures of files and devices")
    actions = group.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=_Parser
    )
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
