"""``dmsign-fast plugin ...``: the plugins of notation, which have keys for us too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.group import add_group
from dmsign_fast.cli.plugin import describe, install, list, uninstall  # noqa: A004

if TYPE_CHECKING:
    import argparse

__all__ = ["add_commands"]


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``plugin`` and its commands to the parser."""
    about = "plugins of notation, which have keys, and this program as one of them"
    add_group(commands, "plugin", about, (list, describe, install, uninstall))
