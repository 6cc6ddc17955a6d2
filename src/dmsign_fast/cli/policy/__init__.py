"""``dmsign-fast policy ...``: the trust policy of notation and dmsign-fast."""

__all__ = ["ABOUT", "COMMANDS", "EXAMPLES", "HELP"]

HELP = "make, import and show notation's trust policy"
ABOUT = """\
The trust policy says whose signatures count for which repositories: by the trust stores that hold
their roots (see dmsign-fast cert), and by the names in their certificates. verify goes by it,
unless it is given certificates with --trust.
"""
EXAMPLES = """\
examples:
  dmsign-fast policy init --name acme --trust-store ca:acme --trusted-identity "*"
  dmsign-fast policy show
  dmsign-fast verify registry.example/app:1.0
"""
COMMANDS = ("init", "show", "import_")
