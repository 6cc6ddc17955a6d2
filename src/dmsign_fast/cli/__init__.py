"""The command line, ``dmsign-fast``: one file for each group of commands."""

from __future__ import annotations

from dmsign_fast.cli.main import main

__all__ = ["main"]
