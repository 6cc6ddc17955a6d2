"""``dmsign-fast completion``: what shells need to complete command lines."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "print a script by which a shell completes commands, options and files"
EXAMPLES = """\
examples:
  dmsign-fast completion bash > ~/.local/share/bash-completion/completions/dmsign-fast
  dmsign-fast completion zsh > ~/.zfunc/_dmsign-fast          a directory of $fpath
  dmsign-fast completion fish > ~/.config/fish/completions/dmsign-fast.fish
"""
_SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "shell", choices=_SHELLS, metavar="SHELL", help=f"the shell: {', '.join(_SHELLS)}"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    import shtab

    from dmsign_fast.cli.main import parser_of

    parser = parser_of(())
    _name_files(parser)
    print(shtab.complete(parser, args.shell))
    return 0


def _name_files(parser: argparse.ArgumentParser) -> None:
    """Say which arguments are names of files."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _name_files(command)
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
