"""Every error that dmsign-fast raises on purpose, and its exit status.

::

    DmsignError
    ├── VerificationError   1  read in full, and not what was signed or hashed
    │   ├── CorruptionError    the same, with every bad block named
    │   ├── UnrepairedError    the same, of what error correction does not bring back
    │   └── UnsignedError   7  there is no signature to verify
    ├── ParameterError      2  an option or argument outside its limits
    ├── FormatError         3  input that is not in the format it should be in
    ├── StorageError        4  a file or device that cannot be read or written
    │   └── NotFoundError      the same, of content that a layout or registry does not have
    ├── ProgramError        4  another program that is missing, hangs, floods or dies
    ├── SigningError        5  a key, certificate or passphrase that cannot sign
    └── RegistryError       6  a registry that cannot be reached or refuses
        └── AttachError        the same, for some of several images

A message says what was wrong, where, and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dmsign_fast.verity.report import Repaired, Verified

__all__ = [
    "AttachError",
    "CorruptionError",
    "DmsignError",
    "FormatError",
    "NotFoundError",
    "ParameterError",
    "ProgramError",
    "RegistryError",
    "SigningError",
    "StorageError",
    "UnrepairedError",
    "UnsignedError",
    "VerificationError",
]


class DmsignError(Exception):
    """The root of the tree; ``exit_code`` is the status of the CLI."""

    exit_code = 70


class VerificationError(DmsignError):
    """The input is well-formed, and it is not what was signed or hashed."""

    exit_code = 1


class CorruptionError(VerificationError):
    """Blocks differ from what the root hash stands for; ``report`` names them all."""

    def __init__(self, message: str, report: Verified) -> None:
        super().__init__(message)
        self.report = report


class UnrepairedError(VerificationError):
    """Error correction does not bring every block back; ``report`` names the others."""

    def __init__(self, message: str, report: Repaired) -> None:
        super().__init__(message)
        self.report = report


class UnsignedError(VerificationError):
    """There is no signature to verify."""

    exit_code = 7


class ParameterError(DmsignError, ValueError):
    """An option or argument is outside its limits."""

    exit_code = 2


class FormatError(DmsignError, ValueError):
    """The input is malformed: a superblock, a key, a certificate, a PKCS#7."""

    exit_code = 3


class StorageError(DmsignError):
    """A file or device cannot be read or written as needed."""

    exit_code = 4


class ProgramError(DmsignError):
    """Another program is missing, hangs, floods, dies, or does not do what it says."""

    exit_code = 4


class NotFoundError(StorageError):
    """What a tag or digest names is not in the layout or repository."""


class SigningError(DmsignError):
    """A key, certificate or passphrase cannot make the signature asked for."""

    exit_code = 5


class RegistryError(DmsignError):
    """A registry cannot be reached, or refuses what was asked."""

    exit_code = 6


class AttachError(RegistryError):
    """Of several manifests some did not get their referrers; ``failed`` says why, by digest."""

    def __init__(self, failed: Mapping[str, DmsignError], tried: int) -> None:
        digest, error = next(iter(failed.items()))
        super().__init__(
            f"{len(failed)} of {tried} manifests did not get their signatures; the first is "
            f"{digest}: {error}"
        )
        self.failed = failed
