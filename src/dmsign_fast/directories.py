"""Where notation keeps its configuration and its plugins."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["config_directory", "plugin_directory"]


def config_directory() -> Path:
    """Return ``$NOTATION_CONFIG``, or where notation keeps its configuration without it."""
    if chosen := os.environ.get("NOTATION_CONFIG"):
        return Path(chosen)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "notation"


def plugin_directory() -> Path:
    """Return the directory of plugins, in ``$NOTATION_LIBEXEC`` or else in the configuration."""
    chosen = os.environ.get("NOTATION_LIBEXEC")
    return (Path(chosen) if chosen else config_directory()) / "plugins"
