"""How commands become parsers: ``dmsign-fast COMMAND`` and ``dmsign-fast GROUP COMMAND``."""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import ModuleType

__all__ = ["Parser", "UsageError", "add_commands", "add_short_options"]

_OPTION = re.compile(r"-[a-zA-Z?]$|--[^ ]+$")
_NO_OPTION = "\0"  # begins an argument that is no option; no word of a command line has it
_ALIASES = {"list": "ls", "cert": "certificate"}
# Those of notation, in every command that has the long option and no other use for the short one.
# A password has none: it is never on the command line.
_SHORT = {
    "-d": "--debug",
    "-e": "--expiry",
    "-h": "--help",
    "-k": "--key",
    "-m": "--user-metadata",
    "-o": "--output",
    "-u": "--username",
    "-v": "--verbose",
}
# Names that options have in other commands, or in notation, cosign, oras and skopeo: the parser
# proposes the first of ours that it knows.
_ELSEWHERE = {
    "--anchor": ("--trust",),
    "--ca": ("--trust", "--ca-file"),
    "--ca-cert": ("--trust", "--ca-file"),
    "--cacert": ("--trust", "--ca-file"),
    "--cert": ("--trust",),
    "--certificate": ("--cert", "--trust"),
    "--certificate-chain": ("--cert", "--trust"),
    "--id": ("--key plugin:NAME?id=ID",),
    "--insecure-registry": ("--plain-http",),
    "--password": ("--password-stdin",),
    "--plugin": ("--key plugin:NAME?id=ID",),
    "--registry-config": ("--authfile",),
    "--root": ("--trust",),
    "--trust": ("--cert",),
    "--trusted-certs": ("--trust",),
    "-p": ("--password-stdin",),
}
# The base class makes a formatter for each argument that is added. Without a width each would ask
# shutil for that of the terminal, and shutil imports three compressors.
_FIXED = partial(argparse.HelpFormatter, width=1000)


class UsageError(ParameterError):
    """A command line that cannot be parsed; ``command`` and ``usage`` say of which command."""

    def __init__(self, message: str, command: str, usage: str) -> None:
        """Keep what the user is told; ``usage`` is one line."""
        super().__init__(message)
        self.command = command
        self.usage = usage


class _Help(argparse.HelpFormatter):
    """Help that keeps the lines of examples, and fills those of prose.

    The value of an option stands once, behind its names, as in Python 3.13.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n  " in text:  # examples, or a table
            return "".join(indent + line for line in text.splitlines(keepends=True))
        paragraphs = (self._split_lines(one, width - len(indent)) for one in text.split("\n\n"))
        return "\n\n".join("\n".join(indent + line for line in lines) for lines in paragraphs)

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap

        # names of options and files stay whole
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


class Parser(argparse.ArgumentParser):
    """Options may stand between the arguments, before an optional one too, as in veritysetup.

    Names of options are never abbreviated, and values of options that are not known are not
    repeated in messages: they may be secret.
    """

    def __init__(self, **options: Any) -> None:
        """As the base class, with ``--help``."""
        super().__init__(
            allow_abbrev=False,
            add_help=False,
            formatter_class=_FIXED,
            **options,
        )
        self.add_argument("--help", action="help", help="show this help and exit")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the base class, which cannot parse intermixed arguments of a parser of commands."""
        if self.usage:  # from below
            return super().parse_known_args(args, namespace)
        self.shorten_usage()
        self._refuse_unknown(args)
        if self._subparsers:
            namespace, rest = super().parse_known_args(args, namespace)
            if not hasattr(namespace, "run"):
                (commands,) = self._get_positional_actions()
                names = [name for name in commands.choices or () if name not in _ALIASES.values()]
                self.error(f"which command? {', '.join(names)}")
            return namespace, rest
        namespace, rest = self.parse_known_intermixed_args(_behind_dashes(args), namespace)
        if rest:
            self.error(f"one argument too many: {rest[0].removeprefix(_NO_OPTION)!r}")
        return namespace, rest

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        return super()._get_value(action, arg_string.removeprefix(_NO_OPTION))

    def shorten_usage(self) -> None:
        """Have the usage on one line, without the options."""
        usage = _FIXED(f"{self.prog} [OPTION...]")
        usage.add_usage(None, self._get_positional_actions(), [], prefix="")
        self.usage = usage.format_help().strip()

    def format_help(self) -> str:
        """As the base class, as wide as the terminal."""
        self.formatter_class = _Help
        return super().format_help()

    def put_section(self, title: str, names: Iterable[str], *, last: bool = False) -> None:
        """Show options in a section of their own, before all other options or after them."""
        section = self.add_argument_group(title)
        chosen = [self._option_string_actions[name] for name in names]
        for group in self._action_groups:
            kept = [one for one in group._group_actions if one not in chosen]
            group._group_actions[:] = kept
        section._group_actions += chosen
        if not last:
            self._action_groups.remove(section)
            self._action_groups.insert(1, section)  # behind the arguments

    def _refuse_unknown(self, words: Iterable[str]) -> None:
        known = self._option_string_actions
        for word in words:
            if word == "--" or (self._subparsers and not word.startswith("-")):
                return
            name = word.partition("=")[0] if word.startswith("--") else word[:2]
            if _OPTION.match(name) and name not in known:
                self._unknown("option", name, known)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            self._unknown("command", value, action.choices)
        super()._check_value(action, value)

    def _unknown(self, kind: str, name: str, known: Iterable[str]) -> NoReturn:
        import difflib

        ours = [one for one in _ELSEWHERE.get(name, ()) if one.partition(" ")[0] in known]
        near = difflib.get_close_matches(name, known, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else "--help lists them all"
        if ours:
            hint = f"use {ours[0]}"
        elif kind == "option" and self._subparsers and not near:
            hint = "options of a command stand behind its name"
        self.error(f"unknown {kind} {name}; {hint}")

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # the base class would say nothing of a full disk

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError."""
        raise UsageError(message, self.prog, f"usage: {self.usage or self.prog}")


def _behind_dashes(words: Sequence[str]) -> list[str]:
    """Mark what stands behind ``--``, which the base class forgets where arguments intermix."""
    end = words.index("--") if "--" in words else len(words)
    return [*words[:end], *(_NO_OPTION + word for word in words[end + 1 :])]


def add_short_options(parser: argparse.ArgumentParser, short: Mapping[str, str] = _SHORT) -> None:
    """Give options their short names, as far as the parser has the one and not the other."""
    known = parser._option_string_actions
    for name, option in short.items():
        if name not in known and (action := known.get(option)):
            action.option_strings = [name, *action.option_strings]
            known[name] = action


def add_commands(
    commands: argparse._SubParsersAction[Any],
    package: str,
    names: Sequence[str],
    words: Sequence[str],
    short: Mapping[str, str] = _SHORT,
) -> None:
    """Add the command that the words begin with, or all: a command is imported when it is used.

    Args:
        commands: where to add them.
        package: that has the modules. A package among them is a command of several commands, with
            HELP, ABOUT, EXAMPLES and COMMANDS, and SHORT if its commands have short options of
            their own.
        names: of the modules. ``import_`` is the command import, ``generate_test`` generate-test.
        words: of the command line, without options.
        short: names of options by their short names.
    """
    by_command = {name.rstrip("_").replace("_", "-"): name for name in names}
    chosen = [
        command for command in by_command if words and words[0] in (command, _ALIASES.get(command))
    ]
    for command in chosen or by_command:
        module = import_module(f"{package}.{by_command[command]}")
        aliases = [_ALIASES[command]] if command in _ALIASES else []
        if not hasattr(module, "COMMANDS"):
            _add_command(commands, command, aliases, module, short)
            continue
        group = commands.add_parser(
            command,
            aliases=aliases,
            help=module.HELP,
            description=_described(module),
            epilog=module.EXAMPLES,
        )
        actions = group.add_subparsers(
            title="commands",
            metavar="COMMAND",
            parser_class=Parser,
            prog=group.prog,
        )
        own = {**short, **getattr(module, "SHORT", {})}
        add_short_options(group, own)
        add_commands(actions, module.__name__, module.COMMANDS, words[1:], own)


def _add_command(
    commands: argparse._SubParsersAction[Any],
    name: str,
    aliases: Sequence[str],
    command: ModuleType,
    short: Mapping[str, str],
) -> None:
    """Add a module with HELP, EXAMPLES, add_arguments() and run().

    It may have ABOUT, paragraphs that explain its words; MOST_USED, the names of options to show
    first; and OUTPUTS, the kinds of output.
    """
    parser = commands.add_parser(
        name,
        aliases=aliases,
        help=command.HELP,
        description=_described(command),
        epilog=command.EXAMPLES,
    )
    add = parser.add_argument
    parser.set_defaults(run=command.run)
    command.add_arguments(parser)
    outputs = getattr(command, "OUTPUTS", ("text", "json"))
    general = ["--help"]
    if "--output" not in parser._option_string_actions:  # otherwise it is of the command itself
        general.append("--output")
        add("--output", choices=outputs, default="text", help="kind of output; default: text")
    add("--quiet", action="store_true", help="print nothing but errors, and JSON if asked for it")
    add("--verbose", action="store_true", help="print details, and each step: requests, programs")
    add("--debug", action="store_true", help="print the tracebacks of errors")
    add_short_options(parser, short)
    if most_used := getattr(command, "MOST_USED", ()):
        parser.put_section("most used options", most_used)
    general += ["--quiet", "--verbose", "--debug"]
    parser.put_section("options of every command", general, last=True)


def _described(module: ModuleType) -> str:
    """What a command is for, as a sentence, and its words explained."""
    sentence = f"{module.HELP[0].upper()}{module.HELP[1:]}."
    about = getattr(module, "ABOUT", "").strip()
    return f"{sentence}\n\n{about}" if about else sentence
