"""The signature of a root hash: options that verify and proof-check share, and the judgement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dmsign_fast.cli.options import add_trust, section
from dmsign_fast.errors import DmsignError, ParameterError, VerificationError

if TYPE_CHECKING:
    import argparse

__all__ = ["RootSignature", "add_signature_options", "check_signature"]


def add_signature_options(parser: argparse.ArgumentParser) -> None:
    """What to verify, and by whom."""
    add = section(parser, "signature of the root hash").add_argument
    add("--signature", type=Path, metavar="FILE", help="verify this signature, a PKCS#7")
    add_trust(add, "trust these certificates for --signature (PEM)")
    add(
        "--kernel-view",
        action="store_true",
        help="judge the signature as Linux does and no more: any digest counts, and "
        "certificates that have expired or are for something else",
    )


class RootSignature(NamedTuple):
    """What came of the signature; the data is verified all the same."""

    json: dict[str, Any]
    signer: str = ""
    refused: DmsignError | None = None


def check_signature(args: argparse.Namespace, root_hash: bytes) -> RootSignature | None:
    """What the options say of the signature; None if they name none.

    Raises:
        ParameterError: the options do not fit together.
        StorageError, FormatError: a certificate cannot be read.
    """
    if bool(args.signature) != bool(args.trust):
        raise ParameterError("--signature and --trust, certificates to trust, go together")
    if not args.signature:
        if args.kernel_view:
            raise ParameterError("--kernel-view is of a signature: give --signature and --trust")
        return None
    from dataclasses import asdict

    from dmsign_fast.envelope.linux import LinuxOutcome, linux_verdict
    from dmsign_fast.envelope.pkcs7 import verify_root_hash
    from dmsign_fast.envelope.trust import load_trust_anchors
    from dmsign_fast.signing.certificates import read_file

    anchors = load_trust_anchors(*args.trust)
    signature = read_file(args.signature)
    try:
        if args.kernel_view:
            linux = linux_verdict(signature, root_hash, anchors.certificates)
            if linux.outcome is not LinuxOutcome.ACCEPTED:
                raise VerificationError(f"Linux: {linux.outcome} {linux.errno}: {linux.reason}")
            return RootSignature(linux.json, linux.signer)
        verified = verify_root_hash(signature, root_hash, anchors)
    except DmsignError as error:
        return RootSignature({"error": type(error).__name__, "message": str(error)}, refused=error)
    return RootSignature(asdict(verified), verified.signer.subject)
