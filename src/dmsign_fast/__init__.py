"""Root hashes of container layers and dm-verity trees, signed for the Linux kernel.

>>> from dmsign_fast import VerityHasher, VerityParams
>>> hasher = VerityHasher(VerityParams(salt=bytes(32)))
>>> hasher.update(bytes(1 << 20))
>>> root_hash = hasher.finalize().root_hash
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dmsign_fast.erofs.image_hasher import HashedImage
    from dmsign_fast.erofs.layer import LayerHasher
    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.pipeline.convert import ConvertedLayer, convert_layer
    from dmsign_fast.pipeline.layers import Conversion, Expected, HashedLayer, hash_layer
    from dmsign_fast.verity.fec import FecArea, FecDevice
    from dmsign_fast.verity.fec_repair import repair_file
    from dmsign_fast.verity.format import Formatted, format_file
    from dmsign_fast.verity.params import HashArea, VerityParams
    from dmsign_fast.verity.report import Repaired, Verified
    from dmsign_fast.verity.superblock import Superblock
    from dmsign_fast.verity.tree import HashTree, VerityHasher
    from dmsign_fast.verity.verify import verify_file

__version__ = "0.1.0.dev0"

__all__ = [
    "Conversion",
    "ConvertedLayer",
    "Expected",
    "FecArea",
    "FecDevice",
    "Formatted",
    "HashArea",
    "HashTree",
    "HashedImage",
    "HashedLayer",
    "LayerHasher",
    "Recipe",
    "Repaired",
    "Superblock",
    "Verified",
    "VerityHasher",
    "VerityParams",
    "convert_layer",
    "format_file",
    "hash_layer",
    "repair_file",
    "verify_file",
]

_HOME = {
    "HashedLayer": "pipeline.layers",
    "Conversion": "pipeline.layers",
    "ConvertedLayer": "pipeline.convert",
    "Expected": "pipeline.layers",
    "FecArea": "verity.fec",
    "FecDevice": "verity.fec",
    "Formatted": "verity.format",
    "HashArea": "verity.params",
    "HashTree": "verity.tree",
    "HashedImage": "erofs.image_hasher",
    "LayerHasher": "erofs.layer",
    "Recipe": "erofs.recipe",
    "Repaired": "verity.report",
    "Superblock": "verity.superblock",
    "Verified": "verity.report",
    "VerityHasher": "verity.tree",
    "VerityParams": "verity.params",
    "convert_layer": "pipeline.convert",
    "format_file": "verity.format",
    "hash_layer": "pipeline.layers",
    "repair_file": "verity.fec_repair",
    "verify_file": "verity.verify",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: the command line starts without the others."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
