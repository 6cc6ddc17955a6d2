"""``dmsign-fast layer ...``: layers of images, as a node makes dm-verity devices of them."""

__all__ = ["COMMANDS", "HELP"]

HELP = "root hashes and EROFS images of container layers"
COMMANDS = ("roothash", "identify", "convert")
