"""Which trust store, on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ["add_store_options"]


def add_store_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The type and the name of a trust store."""
    add = parser.add_argument
    add(
        *("-t", "--type"),
        metavar="TYPE",
        required=required,
        help="type of the trust store: ca for signers, tsa for timestamps, or signingAuthority",
    )
    add("-s", "--store", metavar="NAME", required=required, help="name of the trust store")
