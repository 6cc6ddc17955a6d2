"""dm-verity hash trees at the speed of memory, signed for the Linux kernel.

>>> from dmsign_fast import VerityHasher, VerityParams
>>> hasher = VerityHasher(VerityParams(salt=bytes(32)))
>>> hasher.update(bytes(1 << 20))
>>> root_hash = hasher.finalize().root_hash
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dmsign_fast.verity.format import Formatted, format_file
    from dmsign_fast.verity.params import HashArea, VerityParams
    from dmsign_fast.verity.superblock import Superblock
    from dmsign_fast.verity.tree import HashTree, VerityHasher
    from dmsign_fast.verity.verify import Verified, verify_file

__version__ = "0.1.0.dev0"

__all__ = [
    "Formatted",
    "HashArea",
    "HashTree",
    "Superblock",
    "Verified",
    "VerityHasher",
    "VerityParams",
    "format_file",
    "verify_file",
]

_HOME = {
    "Formatted": "verity.format",
    "HashArea": "verity.params",
    "HashTree": "verity.tree",
    "Superblock": "verity.superblock",
    "Verified": "verity.verify",
    "VerityHasher": "verity.tree",
    "VerityParams": "verity.params",
    "format_file": "verity.format",
    "verify_file": "verity.verify",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: the command line starts without the others."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
