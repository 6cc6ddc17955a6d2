"""Bounds on a layer, since strangers write layers; csrc/tar/bounds.h has those of the C core.

docs/security.md lists both, and tests/erofs_layers/test_bounds.py compares the list with them.
"""

__all__ = [
    "MAX_GZIP_HEADER",
    "MAX_LAYER_SIZE",
    "MAX_MEMBERS_FREE",
    "MAX_READ_DEPTH",
    "MAX_READ_TO_EXPLAIN",
    "MAX_TRAILING",
    "MAX_ZSTD_WINDOW_LOG",
    "MIN_BYTES_PER_MEMBER",
    "max_stored_size",
]

# Bytes of the contents of a layer by default; --max-layer-size.
MAX_LAYER_SIZE = 256 << 30
# Bytes of a gzip header: 10, the extra field, name and comment (Go stops at 512 bytes of each), and
# a checksum. isal loses the flags of a header that is cut, so it gets all of it at once.
MAX_GZIP_HEADER = 10 + 2 + 65535 + 512 + 512 + 2
# The zstd program takes windows of 128 MiB without being asked; containerd stops at 512 MiB.
MAX_ZSTD_WINDOW_LOG = 27
# gzip members or zstd frames, since each costs some 10 microseconds: so many for nothing, and one
# more for each 256 bytes, stored or contents. A frame for each file has 512 bytes of tar header.
MAX_MEMBERS_FREE = 4096
MIN_BYTES_PER_MEMBER = 256
# Bytes behind the end of the archive in a tar index. containerd appends what it has piped to
# mkfs.erofs, in pieces of 32 KiB: how many pieces follow the one with the end is a race.
MAX_TRAILING = 32 << 10
# Bytes of a malformed layer that are still read, to tell whether it was damaged on its way.
MAX_READ_TO_EXPLAIN = 1 << 30
# Directories within another, of an image that is read: no path of Linux leads deeper.
MAX_READ_DEPTH = 2048


def max_stored_size(max_layer_size: int) -> int:
    """Bytes of a stored layer: more than its contents only by what packing noise costs."""
    return max_layer_size + (max_layer_size >> 6) + (1 << 20)
