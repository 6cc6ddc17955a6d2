"""``dmsign-fast policy ...``: the trust policy of notation and dmsign-fast."""

__all__ = ["COMMANDS", "HELP"]

HELP = "notation's trust policy"
COMMANDS = ("init", "show", "import_")
