"""``dmsign-fast layer ...``: layers of images, as a node makes dm-verity devices of them."""

__all__ = ["ABOUT", "COMMANDS", "EXAMPLES", "HELP"]

HELP = "make root hashes and EROFS images of container layers, as a node makes them"
ABOUT = """\
A node converts each layer, a tar, into an image of the read-only file system EROFS, and dm-verity
hashes the image as a tree. The top of the tree, the root hash, is what is signed and what the
kernel is given. It depends on the recipe: how the node converts, and with which mkfs.erofs.
"""
EXAMPLES = """\
examples:
  dmsign-fast layer roothash layer.tar.gz
  dmsign-fast layer identify layer.tar.gz ROOT_HASH     by which recipe it was made
  dmsign-fast layer convert layer.tar.gz -o image.erofs
"""
COMMANDS = ("roothash", "identify", "convert")
