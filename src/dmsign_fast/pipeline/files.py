"""Files and block devices: hash and sign in one go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.envelope.pkcs7 import sign_root_hash
from dmsign_fast.outputs import Outputs
from dmsign_fast.signing.scheme import pkcs7_scheme
from dmsign_fast.verity.format import Formatted, format_file

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from dmsign_fast.signing.signer import Signer
    from dmsign_fast.verity.params import VerityParams

__all__ = ["SignedFile", "SignedPaths", "sign_file"]


@dataclass(frozen=True)
class SignedPaths:
    """Where sign_file writes.

    Attributes:
        hash_file: superblock and hash area.
        root_hash: the root hash as hex text without a newline, which is what is signed.
        signature: DER, for ``veritysetup open --root-hash-signature``.
    """

    hash_file: Path
    root_hash: Path
    signature: Path

    @classmethod
    def beside(cls, data: Path) -> SignedPaths:
        """The names that systemd looks for: a suffix ``.raw`` of the data is left out of them."""
        stem = data.with_suffix("") if data.suffix == ".raw" else data
        return cls(Path(f"{stem}.verity"), Path(f"{stem}.roothash"), Path(f"{stem}.roothash.p7s"))


@dataclass(frozen=True)
class SignedFile:
    """What sign_file made; ``signature`` is the DER that ``paths.signature`` holds."""

    formatted: Formatted
    paths: SignedPaths
    signature: bytes


def sign_file(
    data: Path,
    paths: SignedPaths,
    signer: Signer,
    params: VerityParams | None = None,
    *,
    digest: str | None = None,
    certificates: bool = True,
    data_blocks: int | None = None,
    hash_offset: int = 0,
    superblock: bool = True,
    superblock_uuid: uuid.UUID | None = None,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> SignedFile:
    """Hash ``data``, sign the root hash, and write all three files or none.

    For ``digest`` and ``certificates`` see sign_root_hash, for the rest format_file; the errors
    are theirs.
    """
    pkcs7_scheme(signer.key_spec, digest)  # what the key cannot do is said before the work
    with Outputs() as outputs:
        formatted = format_file(
            data,
            paths.hash_file,
            params,
            data_blocks=data_blocks,
            hash_offset=hash_offset,
            superblock=superblock,
            superblock_uuid=superblock_uuid,
            threads=threads,
            progress=progress,
            outputs=outputs,
        )
        signature = sign_root_hash(
            formatted.root_hash, signer, digest=digest, certificates=certificates
        )
        outputs.write(paths.root_hash, formatted.root_hash.hex().encode())
        outputs.write(paths.signature, signature)
    return SignedFile(formatted, paths, signature)
