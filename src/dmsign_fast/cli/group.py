"""How commands become parsers: ``dmsign-fast COMMAND`` and ``dmsign-fast GROUP COMMAND``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Parser", "add_command", "add_group"]


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


def add_group(
    commands: argparse._SubParsersAction[Any],
    name: str,
    about: str,
    modules: tuple[ModuleType, ...],
) -> None:
    """Add a command of several commands."""
    group = commands.add_parser(name, help=about)
    actions = group.add_subparsers(
        title="commands",
        metavar="COMMAND",
        required=True,
        parser_class=Parser,
        prog=group.prog,
    )
    for command in modules:
        add_command(actions, command)


def add_command(commands: argparse._SubParsersAction[Any], command: ModuleType) -> None:
    """Add a command: a module with HELP, EXAMPLES, add_arguments() and run()."""
    # import_.py is the command import, and generate_test.py generate-test
    name = command.__name__.rpartition(".")[2].rstrip("_").replace("_", "-")
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
