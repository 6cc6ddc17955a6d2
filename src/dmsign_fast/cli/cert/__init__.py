"""``dmsign-fast cert ...``: the trust stores of notation and dmsign-fast."""

__all__ = ["COMMANDS", "HELP"]

HELP = "certificates in notation's trust stores, and keys for tests"
COMMANDS = ("add", "list", "show", "delete", "generate_test")
