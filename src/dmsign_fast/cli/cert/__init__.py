"""``dmsign-fast cert ...``: the trust stores of notation and dmsign-fast."""

__all__ = ["ABOUT", "COMMANDS", "EXAMPLES", "HELP"]

HELP = "manage the certificates in notation's trust stores, and make keys for tests"
ABOUT = """\
A trust store is a named directory of certificates whose signatures count, if the trust policy
names it (see dmsign-fast policy). Its type says for what: ca for signers, tsa for timestamp
authorities, signingAuthority for signers who vouch for the time themselves.
"""
EXAMPLES = """\
examples:
  dmsign-fast cert add --type ca --store acme acme-root.pem
  dmsign-fast cert list
  dmsign-fast cert generate-test --default example.com
"""
COMMANDS = ("add", "list", "show", "delete", "generate_test")
