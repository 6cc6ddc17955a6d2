"""Manual pages of every command, from its parser: docs/man_pages.py DIRECTORY."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from argparse_manpage.manpage import Manpage

from dmsign_fast import __version__
from dmsign_fast.cli.group import Parser
from dmsign_fast.cli.main import parser_of


def commands(parser: Parser, about: str) -> Iterator[tuple[Parser, str]]:
    """Every parser below, and this one, with what it is for in a line."""
    yield parser, about
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield from commands(action.choices[choice.dest], choice.help or "")


def page(parser: Parser, about: str) -> str:
    """A page in the format of man(7); examples keep their lines."""
    examples, parser.epilog = parser.epilog or "", None
    parser.shorten_usage()
    data = {
        "description": about,
        "manual_title": "User commands",
        "project_name": f"dmsign-fast {__version__}",
    }
    made = Manpage(parser, _data=data)
    made.prog = _name(parser)
    text = str(made)
    heading, _, lines = examples.partition(":\n")
    if lines:
        verbatim = lines.replace("\\", "\\e").replace("-", "\\-")
        text += f".SH {heading.upper()}\n.nf\n{verbatim}.fi\n"
    return text


def _name(parser: Parser) -> str:
    return parser.prog.replace(" ", "-")


def main(directory: Path) -> None:
    """Write ``dmsign-fast.1``, ``dmsign-fast-verity-format.1`` and all between."""
    directory.mkdir(parents=True, exist_ok=True)
    about = "container images and dm-verity devices, signed for the Linux kernel"
    for parser, line in list(commands(parser_of(()), about)):
        (directory / f"{_name(parser)}.1").write_text(page(parser, line))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
