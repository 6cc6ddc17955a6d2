"""``dmsign-fast verity ...``: veritysetup's words, and signatures."""

__all__ = ["ABOUT", "COMMANDS", "EXAMPLES", "HELP", "SHORT"]

HELP = "make, verify, sign and open hash trees of files and devices, as veritysetup does"
ABOUT = """\
dm-verity is the part of Linux that reads a device and checks each block against a tree of hashes.
The blocks of the tree are the hash area, in a file of its own or behind the data; the superblock in
front of it describes it. The root hash, the top of the tree, stands for all data.
"""
EXAMPLES = """\
examples:
  dmsign-fast verity format image.erofs image.verity          as veritysetup format
  dmsign-fast verity verify image.erofs image.verity ROOT_HASH
  dmsign-fast verity sign image.erofs --key key.pem --cert chain.pem
  sudo dmsign-fast verity open image.erofs NAME
"""
COMMANDS = (
    *("format", "verify", "repair", "dump", "explain", "proof", "proof_check"),
    *("sign", "prepare", "attach", "open", "status", "close"),
)
# of veritysetup, where -h is not help
SHORT = {"-h": "--hash"}
