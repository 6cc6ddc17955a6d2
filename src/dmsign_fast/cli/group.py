"""How commands become parsers: ``dmsign-fast COMMAND`` and ``dmsign-fast GROUP COMMAND``."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["Parser", "add_commands"]


class Parser(argparse.ArgumentParser):
    """Options may stand between the arguments, before an optional one too, as in veritysetup."""

    _inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the base class, which cannot do that for a parser of commands."""
        if self._inside or self._subparsers:
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


def add_commands(
    commands: argparse._SubParsersAction[Any],
    package: str,
    names: Sequence[str],
    words: Sequence[str],
) -> None:
    """Add the command that the words begin with, or all: a command is imported when it is used.

    Args:
        commands: where to add them.
        package: that has the modules. A package among them is a command of several commands, with
            HELP and COMMANDS.
        names: of the modules. ``import_`` is the command import, ``generate_test`` generate-test.
        words: of the command line, without options.
    """
    by_command = {name.rstrip("_").replace("_", "-"): name for name in names}
    for command in words[:1] if words and words[0] in by_command else by_command:
        module = import_module(f"{package}.{by_command[command]}")
        if not hasattr(module, "COMMANDS"):
            _add_command(commands, command, module)
            continue
        group = commands.add_parser(command, help=module.HELP)
        actions = group.add_subparsers(
            title="commands",
            metavar="COMMAND",
            required=True,
            parser_class=Parser,
            prog=group.prog,
        )
        add_commands(actions, module.__name__, module.COMMANDS, words[1:])


def _add_command(commands: argparse._SubParsersAction[Any], name: str, command: ModuleType) -> None:
    """Add a module with HELP, EXAMPLES, add_arguments() and run()."""
    parser = commands.add_parser(
        name,
        help=command.HELP,
        description=f"{command.HELP[0].upper()}{command.HELP[1:]}.",
        epilog=command.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    parser.set_defaults(run=command.run)
    command.add_arguments(parser)
    add("--output", choices=("text", "json"), default="text", help="default: text")
    add("--quiet", action="store_true", help="no progress and no summary")
    add("--debug", action="store_true", help="tracebacks of errors")
