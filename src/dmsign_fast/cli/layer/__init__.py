"""``dmsign-fast layer ...``: layers of images, as a node makes dm-verity devices of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.group import add_group
from dmsign_fast.cli.layer import convert, roothash

if TYPE_CHECKING:
    import argparse

__all__ = ["add_commands"]


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``layer`` and its commands to the parser."""
    about = "root hashes and EROFS images of container layers"
    add_group(commands, "layer", about, (roothash, convert))
