"""``dmsign-fast key ...``: the signing keys that notation and dmsign-fast know by name."""

__all__ = ["ABOUT", "COMMANDS", "EXAMPLES", "HELP"]

HELP = "manage the signing keys that have a name, in notation's signingkeys.json"
ABOUT = """\
A name stands for a key in a file, with its certificates, or for a key that a plugin of notation
keeps. sign --key takes such a name; without --key the default key signs.
"""
EXAMPLES = """\
examples:
  dmsign-fast key add release --key key.pem --cert chain.pem --default
  dmsign-fast key list
  dmsign-fast sign registry.example/app:1.0 --key release
"""
COMMANDS = ("add", "list", "default", "delete")
