"""``dmsign-fast verity ...``: veritysetup's words, and signatures."""

__all__ = ["COMMANDS", "HELP", "SHORT"]

HELP = "hash trees and signatures of files and devices"
COMMANDS = (
    *("format", "verify", "repair", "dump", "explain", "proof", "proof_check"),
    *("sign", "prepare", "attach", "open", "status", "close"),
)
# of veritysetup, where -h is not help
SHORT = {"-h": "--hash"}
