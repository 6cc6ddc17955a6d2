"""Files and block devices: hash and sign, in one go or in two steps."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.hashes import SHA256

from dmsign_fast.envelope.linux import root_hash_message
from dmsign_fast.envelope.pkcs7 import check_signers, sign_root_hash
from dmsign_fast.errors import SigningError
from dmsign_fast.outputs import Outputs, storage_errors
from dmsign_fast.pipeline.signing_request import (
    By,
    SigningRequest,
    check_new,
    root_hash_messages,
)
from dmsign_fast.signing.offline import Recorder
from dmsign_fast.strict_json import Members
from dmsign_fast.verity.format import Formatted, format_file

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Sequence

    from cryptography import x509

    from dmsign_fast.signing.signer import Signer
    from dmsign_fast.verity.fec import FecDevice
    from dmsign_fast.verity.params import VerityParams

__all__ = [
    "PARTITIONS",
    "SignedFile",
    "SignedPaths",
    "attach_file",
    "prepare_file",
    "sign_file",
    "verity_sig_json",
]

PARTITIONS = ("root", "usr")

_ROOT_HASH_LIMIT = 1 << 12  # bytes; one of SHA-512 has 128


@dataclass(frozen=True)
class SignedPaths:
    """Where sign_file writes.

    Attributes:
        hash_file: superblock and hash area.
        root_hash: the root hash as hex text without a newline, which is what is signed.
        signature: DER, for ``veritysetup open --root-hash-signature``.
        verity_sig: systemd's JSON, see verity_sig_json; None if it is not wanted.
    """

    hash_file: Path
    root_hash: Path
    signature: Path
    verity_sig: Path | None = None

    @classmethod
    def beside(
        cls, data: Path, partition: str = PARTITIONS[0], *, verity_sig: bool = False
    ) -> SignedPaths:
        """The names that systemd looks for: a suffix ``.raw`` of the data is left out of them.

        ``partition`` is one of PARTITIONS: what the data is to be mounted as.
        """
        stem = data.with_suffix("") if data.suffix == ".raw" else data
        root_hash = f"{stem}.{partition}hash"
        return cls(
            Path(f"{stem}.verity"),
            Path(root_hash),
            Path(f"{root_hash}.p7s"),
            Path(f"{stem}.verity-sig.json") if verity_sig else None,
        )


@dataclass(frozen=True)
class SignedFile:
    """What sign_file made; ``signature`` is the DER that ``paths.signature`` holds."""

    formatted: Formatted
    paths: SignedPaths
    signature: bytes


def verity_sig_json(root_hash: bytes, fingerprint: str | None, signature: bytes) -> bytes:
    """What systemd reads in a verity signature partition (Discoverable Partitions Specification).

    ``fingerprint`` is the SHA-256 of the signer's certificate; ``signature`` is a DER PKCS#7.
    """
    known = {"rootHash": root_hash.hex()}
    if fingerprint is not None:
        known["certificateFingerprint"] = fingerprint
    known["signature"] = base64.b64encode(signature).decode()
    return json.dumps(known, separators=(",", ":")).encode()


def _write_signature(
    outputs: Outputs, paths: SignedPaths, root_hash: bytes, signature: bytes, leaf: x509.Certificate
) -> None:
    outputs.write(paths.signature, signature)
    if paths.verity_sig:
        fingerprint = leaf.fingerprint(SHA256()).hex()
        outputs.write(paths.verity_sig, verity_sig_json(root_hash, fingerprint, signature))


def sign_file(
    data: Path,
    paths: SignedPaths,
    signer: Signer,
    params: VerityParams | None = None,
    *,
    and_by: Sequence[Signer] = (),
    digest: str | None = None,
    certificates: bool = True,
    data_blocks: int | None = None,
    hash_offset: int = 0,
    superblock: bool = True,
    superblock_uuid: uuid.UUID | None = None,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
    fec: FecDevice | None = None,
) -> SignedFile:
    """Hash ``data``, sign the root hash, and write all three files or none.

    For ``and_by``, ``digest`` and ``certificates`` see sign_root_hash, for the rest format_file;
    the errors are theirs.
    """
    check_signers(signer, and_by, digest, certificates=certificates)  # before the work
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
            fec=fec,
        )
        signature = sign_root_hash(
            formatted.root_hash, signer, and_by=and_by, digest=digest, certificates=certificates
        )
        outputs.write(paths.root_hash, formatted.root_hash.hex().encode())
        leaf = signer.certificate_chain[0]
        _write_signature(outputs, paths, formatted.root_hash, signature, leaf)
    return SignedFile(formatted, paths, signature)


def prepare_file(
    data: Path,
    paths: SignedPaths,
    chain: Sequence[x509.Certificate],
    params: VerityParams | None = None,
    *,
    directory: Path,
    and_chain: Sequence[x509.Certificate] = (),
    agent: str | None = None,
    digest: str | None = None,
    certificates: bool = True,
    **options: Any,
) -> tuple[Formatted, SigningRequest]:
    """Hash ``data`` and write the hash file, the root hash, and a directory to sign it with.

    ``and_chain`` are the certificates of a key that signs too. For ``directory`` see
    SigningRequest.write, for the rest sign_file.
    """
    check_new(directory)  # before data is read
    chains = {By.KEY: tuple(chain)} | ({By.AND: tuple(and_chain)} if and_chain else {})
    signer, *and_by = map(Recorder, chains.values())
    signers = check_signers(signer, and_by, digest, certificates=certificates)
    schemes = {by: scheme for by, (_, scheme) in zip(chains, signers, strict=True)}
    with Outputs() as outputs:
        formatted = format_file(data, paths.hash_file, params, outputs=outputs, **options)
        messages = tuple(root_hash_messages(formatted.root_hash, 1, f"{str(data)!a}", schemes))
        made = {
            "root_hash": formatted.root_hash.hex(),
            "pkcs7_digest": digest,
            "certificates": certificates,
        }
        outputs.write(paths.root_hash, root_hash_message(formatted.root_hash))
        signing_request = SigningRequest(directory, "file", chains, messages, made)
        signing_request.write(outputs, agent)
    return formatted, signing_request


def attach_file(signing_request: SigningRequest, paths: SignedPaths) -> None:
    """Verify the signature that was made, and write it to ``paths.signature``.

    Raises:
        StorageError: a file is missing or cannot be written.
        SigningError: the signature is wrong, or a file was changed since it was prepared.
        FormatError: the record is malformed.
    """
    known = ("root_hash", "pkcs7_digest", "certificates")
    made = Members(signing_request.made, known, f"{signing_request.directory}/manifest.json, made")
    try:
        root_hash = bytes.fromhex(made.text("root_hash"))
    except ValueError:
        raise made.wrong("root_hash", "is not hexadecimal") from None
    with storage_errors("read", paths.root_hash), paths.root_hash.open("rb") as file:
        same = file.read(_ROOT_HASH_LIMIT) == root_hash_message(root_hash)
    if not same:
        raise SigningError(f"{paths.root_hash} is not the root hash that was prepared")
    answers = signing_request.answers()
    signed = sign_root_hash(
        root_hash,
        answers[By.KEY],
        and_by=[one for by, one in answers.items() if by is By.AND],
        digest=made.optional_text("pkcs7_digest"),
        certificates=made.flag("certificates"),
    )
    for each in answers.values():
        each.check_used()
    with Outputs() as outputs:
        _write_signature(outputs, paths, root_hash, signed, signing_request.chains[By.KEY][0])
