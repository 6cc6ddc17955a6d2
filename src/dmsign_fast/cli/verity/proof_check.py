"""``dmsign-fast verity proof-check``: a file against a signed root hash, without the image."""

from __future__ import annotations

import argparse
import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.cli.verity.options import hex_bytes, read_root_hash
from dmsign_fast.cli.verity.root_signature import add_signature_options, check_signature
from dmsign_fast.errors import ParameterError, VerificationError

if TYPE_CHECKING:
    from dmsign_fast.pipeline.file_proof import ProvenFile

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "check a proof, and a file by it, against a root hash"
EXAMPLES = """\
examples:
  dmsign-fast verity proof-check env.proof --root-hash ROOT_HASH
  dmsign-fast verity proof-check env.proof --root-hash-file image.roothash \\
      --signature image.roothash.p7s --trust root.pem --file /usr/bin/env
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("proof", metavar="FILE", type=Path, help="the proof")
    add("--root-hash", type=hex_bytes, metavar="HEX", help="the root hash that it must agree with")
    add(
        "--root-hash-file",
        type=Path,
        metavar="FILE",
        help="the file with the root hash, as hex text",
    )
    add(
        "--file",
        type=Path,
        metavar="FILE",
        help="compare this file with the contents that are proven",
    )
    add("--path", metavar="PATH", help="refuse a proof of another path than this")
    add_signature_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.file_proof import proven_file
    from dmsign_fast.pipeline.proof import check_proof
    from dmsign_fast.verity.source import open_source

    root_hash = read_root_hash(args)
    signature = check_signature(args, root_hash)
    with open_source(args.proof) as source:
        source.seekable_size("checking a proof")
        proof = check_proof(source.fd, root_hash)
        path = proof.statement.path
        proven = None if path is None else proven_file(proof)
        source.check_unchanged()
    if proven is None and (args.file or args.path):
        raise ParameterError(
            f"{args.proof} proves blocks, and no file: leave out --file and --path"
        )
    if proven and args.path not in (None, proven.path):
        raise VerificationError(f"the proof is of {proven.path}, not of {args.path}")
    if signature and signature.refused:
        raise signature.refused
    if proven and args.file:
        _compare(args.file, proven)
    value: dict[str, Any] = {"verified": True, "root_hash": root_hash.hex(), "path": None}
    if proven:
        value |= {
            "path": proven.path,
            "size": proven.size,
            "mode": f"{stat.S_IMODE(proven.mode):04o}",
            "sha256": proven.sha256,
        }
    statement = proof.statement
    value["blocks"] = [[first, count] for first, count in statement.runs]
    value["data_blocks"] = statement.data_blocks
    if signature:
        value["signature"] = signature.json
    if args.output == "json":
        print_json(value)
        return 0
    if proven:
        print_line(f"{proven.path}: {proven.size} bytes, mode {value['mode']}")
        print_line(f"SHA-256:        {proven.sha256}")
    else:
        blocks = ", ".join(
            f"{first}" if count == 1 else f"{first}-{first + count - 1}"
            for first, count in statement.runs
        )
        print_line(f"data block {blocks} of {statement.data_blocks}")
    print_line(f"Root hash:      {root_hash.hex()}")
    if args.file:
        print_line(f"The same as:    {args.file}")
    if signature:
        print_line(f"Signed by:      {signature.signer}")
    return 0


def _compare(path: Path, proven: ProvenFile) -> None:
    """VerificationError unless a file has the contents that are proven."""
    from dmsign_fast.outputs import storage_errors

    with storage_errors("read", path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if (size, digest) != (proven.size, proven.sha256):
        raise VerificationError(f"{path} is not the {proven.path} that the root hash stands for")
