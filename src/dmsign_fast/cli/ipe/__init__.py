"""``dmsign-fast ipe ...``: policies by which Linux runs only what is signed."""

__all__ = ["COMMANDS", "HELP"]

HELP = "policies by which Linux runs only what is signed"
COMMANDS = ("policy", "sign", "check", "show")
