"""Where notation keeps its configuration and its plugins, and what it calls a name there."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["config_directory", "is_name", "plugin_directory"]

_NAME = re.compile(r"[a-zA-Z0-9_.-]+", re.ASCII)


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


def is_name(text: str) -> bool:
    """Tell whether notation takes the text as the name of a trust store, plugin or test key."""
    return bool(_NAME.fullmatch(text)) and bool(text.strip("."))
