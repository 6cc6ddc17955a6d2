"""The command line, ``dmsign-fast``: one file for each group of commands."""

from __future__ import annotations

import gc

# Before the imports that follow: what they make stays, so that looking for garbage among it every
# 700 objects only costs a start its time.
gc.set_threshold(100_000)

from dmsign_fast.cli.main import main, program  # noqa: E402

__all__ = ["main", "program"]
