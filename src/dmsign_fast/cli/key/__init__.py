"""``dmsign-fast key ...``: the signing keys that notation and dmsign-fast know by name."""

__all__ = ["COMMANDS", "HELP"]

HELP = "signing keys by name, in notation's signingkeys.json"
COMMANDS = ("add", "list", "default", "delete")
