"""``dmsign-fast cert ...``: the trust stores of notation and dmsign-fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.cert import add, delete, generate_test, list, show  # noqa: A004
from dmsign_fast.cli.group import add_group

if TYPE_CHECKING:
    import argparse

__all__ = ["add_commands"]


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``cert`` and its commands to the parser."""
    about = "certificates in notation's trust stores, and keys for tests"
    add_group(commands, "cert", about, (add, list, show, delete, generate_test))
