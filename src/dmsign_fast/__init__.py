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
    from dmsign_fast.envelope.trust import load_trust_anchors
    from dmsign_fast.erofs.layer import LayerHasher
    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.errors import (
        AttachError,
        CorruptionError,
        DmsignError,
        FormatError,
        NotFoundError,
        ParameterError,
        ProgramError,
        RegistryError,
        SigningError,
        StorageError,
        UnrepairedError,
        UnsignedError,
        VerificationError,
    )
    from dmsign_fast.oci.credentials import Credentials
    from dmsign_fast.oci.layout import Layout
    from dmsign_fast.oci.registry import Registry
    from dmsign_fast.oci.transport import Connection
    from dmsign_fast.pipeline.convert import convert_layer
    from dmsign_fast.pipeline.layers import Conversion, Expected, hash_layer
    from dmsign_fast.pipeline.passed import check_passed
    from dmsign_fast.pipeline.plan import SignOptions
    from dmsign_fast.pipeline.sign_image import sign_image
    from dmsign_fast.pipeline.verify_image import VerifyOptions, verify_image
    from dmsign_fast.signing.providers import KeyOptions, open_signer
    from dmsign_fast.signing.signer import Signer
    from dmsign_fast.trust.verdict import trust_by_policy, trust_files
    from dmsign_fast.verity.fec import FecDevice
    from dmsign_fast.verity.fec_repair import repair_file
    from dmsign_fast.verity.format import format_file
    from dmsign_fast.verity.params import VerityParams
    from dmsign_fast.verity.tree import VerityHasher
    from dmsign_fast.verity.verify import verify_file

__version__ = "0.1.0.dev0"

__all__ = [
    "AttachError",
    "Connection",
    "Conversion",
    "CorruptionError",
    "Credentials",
    "DmsignError",
    "Expected",
    "FecDevice",
    "FormatError",
    "KeyOptions",
    "LayerHasher",
    "Layout",
    "NotFoundError",
    "ParameterError",
    "ProgramError",
    "Recipe",
    "Registry",
    "RegistryError",
    "SignOptions",
    "Signer",
    "SigningError",
    "StorageError",
    "UnrepairedError",
    "UnsignedError",
    "VerificationError",
    "VerifyOptions",
    "VerityHasher",
    "VerityParams",
    "check_passed",
    "convert_layer",
    "format_file",
    "hash_layer",
    "load_trust_anchors",
    "open_signer",
    "repair_file",
    "sign_image",
    "trust_by_policy",
    "trust_files",
    "verify_file",
    "verify_image",
]

_HOME = {
    "AttachError": "errors",
    "Connection": "oci.transport",
    "Conversion": "pipeline.layers",
    "CorruptionError": "errors",
    "Credentials": "oci.credentials",
    "DmsignError": "errors",
    "Expected": "pipeline.layers",
    "FecDevice": "verity.fec",
    "FormatError": "errors",
    "KeyOptions": "signing.providers",
    "LayerHasher": "erofs.layer",
    "Layout": "oci.layout",
    "NotFoundError": "errors",
    "ParameterError": "errors",
    "ProgramError": "errors",
    "Recipe": "erofs.recipe",
    "Registry": "oci.registry",
    "RegistryError": "errors",
    "SignOptions": "pipeline.plan",
    "Signer": "signing.signer",
    "SigningError": "errors",
    "StorageError": "errors",
    "UnrepairedError": "errors",
    "UnsignedError": "errors",
    "VerificationError": "errors",
    "VerifyOptions": "pipeline.verify_image",
    "VerityHasher": "verity.tree",
    "VerityParams": "verity.params",
    "check_passed": "pipeline.passed",
    "convert_layer": "pipeline.convert",
    "format_file": "verity.format",
    "hash_layer": "pipeline.layers",
    "load_trust_anchors": "envelope.trust",
    "open_signer": "signing.providers",
    "repair_file": "verity.fec_repair",
    "sign_image": "pipeline.sign_image",
    "trust_by_policy": "trust.verdict",
    "trust_files": "trust.verdict",
    "verify_file": "verity.verify",
    "verify_image": "pipeline.verify_image",
}


if not TYPE_CHECKING:  # type checkers would take any name for one of ours

    def __getattr__(name: str) -> object:
        """Import a public name at its first use: the command line starts without the others."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names, which are not there before their first use."""
    return sorted({*globals(), *__all__})
