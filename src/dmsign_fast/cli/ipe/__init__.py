"""``dmsign-fast ipe ...``: policies by which Linux runs only what is signed."""

__all__ = ["ABOUT", "COMMANDS", "EXAMPLES", "HELP"]

HELP = "make, sign and check policies of IPE, by which Linux runs only what is signed"
ABOUT = """\
IPE, Integrity Policy Enforcement, is a security module of Linux. Its policy says of which devices
programs may be run: of all dm-verity devices whose root hash a trusted key signed, or of those with
certain root hashes.
"""
EXAMPLES = """\
examples:
  dmsign-fast ipe policy --name only-signed --version 1.0.0 --initramfs --out only-signed.ipe
  dmsign-fast ipe sign only-signed.ipe --key key.pem --cert chain.pem
  dmsign-fast ipe check only-signed.ipe.p7b --trust root.pem
  sudo dmsign-fast ipe show
"""
COMMANDS = ("policy", "sign", "check", "show")
