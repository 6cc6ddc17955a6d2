"""``dmsign-fast policy ...``: the trust policy of notation and dmsign-fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.group import add_group
from dmsign_fast.cli.policy import import_, init, show

if TYPE_CHECKING:
    import argparse

__all__ = ["add_commands"]


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``policy`` and its commands to the parser."""
    add_group(commands, "policy", "notation's trust policy", (init, show, import_))
