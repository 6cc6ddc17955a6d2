"""``dmsign-fast verity ...``: veritysetup's words, and signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.group import add_group
from dmsign_fast.cli.verity import close, dump, format, open, sign, verify  # noqa: A004

if TYPE_CHECKING:
    import argparse

__all__ = ["add_commands"]


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``verity`` and its commands to the parser."""
    about = "hash trees and signatures of files and devices"
    add_group(commands, "verity", about, (format, verify, dump, sign, open, close))
