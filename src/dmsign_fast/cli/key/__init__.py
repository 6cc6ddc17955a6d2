"""``dmsign-fast key ...``: the signing keys that notation and dmsign-fast know by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.group import add_group
from dmsign_fast.cli.key import add, default, delete, list  # noqa: A004

if TYPE_CHECKING:
    import argparse

__all__ = ["add_commands"]


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``key`` and its commands to the parser."""
    about = "signing keys by name, in notation's signingkeys.json"
    add_group(commands, "key", about, (add, list, default, delete))
