"""``dmsign-fast plugin ...``: the plugins of notation, which have keys for us too."""

__all__ = ["COMMANDS", "HELP"]

HELP = "plugins of notation, which have keys, and this program as one of them"
COMMANDS = ("list", "describe", "install", "uninstall")
