"""``dmsign-fast verity format | verify | dump | sign``: veritysetup's words, and signatures."""

from __future__ import annotations

import argparse
import binascii
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.output import Work, print_json, work
from dmsign_fast.errors import CorruptionError, DmsignError, ParameterError, VerificationError

if TYPE_CHECKING:
    from dmsign_fast.envelope.pkcs7 import Verdict
    from dmsign_fast.verity.format import Formatted
    from dmsign_fast.verity.params import VerityParams
    from dmsign_fast.verity.superblock import Superblock
    from dmsign_fast.verity.verify import Verified

__all__ = ["add_commands"]

_FORMAT_EXAMPLES = """\
examples:
  dmsign-fast verity format image.erofs image.verity
  dmsign-fast verity format image.erofs                 only the root hash
  dmsign-fast verity format image.erofs image.erofs --hash-offset 1073741824
  zstd -dc image.zst | dmsign-fast verity format - image.verity --output json
"""
_VERIFY_EXAMPLES = """\
examples:
  dmsign-fast verity verify image.erofs image.verity ROOT_HASH
  dmsign-fast verity verify image.erofs image.verity --root-hash-file image.roothash \\
      --signature image.roothash.p7s --cert root-ca.pem
"""
_DUMP_EXAMPLES = """\
examples:
  dmsign-fast verity dump image.verity
  dmsign-fast verity dump image.erofs --hash-offset 1073741824 --output json
"""
_SIGN_EXAMPLES = """\
examples:
  dmsign-fast verity sign image.erofs --key key.pem --cert chain.pem
  dmsign-fast verity sign image.erofs --key key.pem --cert chain.pem --passphrase-file secret
then:
  veritysetup open image.erofs NAME image.verity --root-hash-file image.erofs.roothash \\
      --root-hash-signature image.erofs.roothash.p7s
"""


def _hex(text: str) -> bytes:
    try:
        return binascii.unhexlify(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not hexadecimal") from None


def _salt(text: str) -> bytes:
    return b"" if text == "-" else _hex(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        message = f"{text!r} is not a whole number"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``verity`` and its commands to the parser."""
    group = commands.add_parser("verity", help="hash trees and signatures of files and devices")
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Any, help_: str, examples: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(
            name,
            help=help_,
            description=help_[0].upper() + help_[1:] + ".",
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(run=run)
        parser.add_argument(
            "--output", choices=("text", "json"), default="text", help="default: text"
        )
        parser.add_argument("--quiet", action="store_true", help="no progress and no summary")
        parser.add_argument("--debug", action="store_true", help="tracebacks of errors")
        return parser

    parser = add("format", _format, "hash data and write the hash area", _FORMAT_EXAMPLES)
    _add_data(parser)
    parser.add_argument("hash", metavar="HASH", type=Path, nargs="?", help="DATA for behind it")
    _add_format_options(parser)

    parser = add("sign", _sign, "hash data and sign the root hash", _SIGN_EXAMPLES)
    _add_data(parser)
    parser.add_argument(
        "hash", metavar="HASH", type=Path, nargs="?", help="default: DATA.verity (without .raw)"
    )
    parser.add_argument("--key", type=Path, required=True, help="private key, PEM or DER")
    parser.add_argument(
        "--cert", type=Path, required=True, help="its certificate and the chain above it, PEM"
    )
    parser.add_argument(
        "--digest", choices=("sha256", "sha384", "sha512"), help="default: sha256 for RSA"
    )
    parser.add_argument("--no-certs", action="store_true", help="leave the certificates out")
    parser.add_argument("--passphrase-file", type=Path, help="of an encrypted key: first line")
    parser.add_argument(
        "--passphrase-env", metavar="NAME", help="the environment variable that holds it"
    )
    parser.add_argument("--signature", type=Path, help="default: DATA.roothash.p7s")
    _add_format_options(parser)

    parser = add("verify", _verify, "verify data and hash area in full", _VERIFY_EXAMPLES)
    _add_data(parser)
    parser.add_argument("hash", metavar="HASH", type=Path)
    parser.add_argument("root_hash", metavar="ROOT_HASH", type=_hex, nargs="?")
    parser.add_argument("--signature", type=Path, help="verify this signature of the root hash")
    parser.add_argument(
        "--cert",
        type=Path,
        action="append",
        default=[],
        help="trust anchors for --signature, PEM; may be repeated",
    )
    _add_tree_options(parser)

    parser = add("dump", _dump, "print the superblock", _DUMP_EXAMPLES)
    parser.add_argument("hash", metavar="HASH", type=Path)
    parser.add_argument("--hash-offset", type=_count, default=0, metavar="BYTES")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", type=Path, help="file or device; - for stdin")


def _add_tree_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--hash", dest="algorithm", default="sha256", metavar="NAME", help="default: sha256")
    add("--format", type=_count, default=1, metavar="TYPE", help="1 normal, 0 Chrome OS")
    add("--data-block-size", type=_count, default=4096, metavar="BYTES", help="default: 4096")
    add("--hash-block-size", type=_count, default=4096, metavar="BYTES", help="default: 4096")
    add("--data-blocks", type=_count, default=0, metavar="N", help="default: all of DATA")
    add("--hash-offset", type=_count, default=0, metavar="BYTES", help="default: 0")
    add("-s", "--salt", type=_salt, metavar="HEX", help="- for none; default: 32 random bytes")
    add("--no-superblock", action="store_true", help="neither write nor expect one")
    add("--root-hash-file", type=Path, metavar="FILE", help="the root hash as hex text")
    add("--threads", type=_count, metavar="N", help="default: every core")


def _add_format_options(parser: argparse.ArgumentParser) -> None:
    _add_tree_options(parser)
    parser.add_argument("--uuid", help="of the superblock; default: random")


def _params(args: argparse.Namespace) -> VerityParams:
    from dmsign_fast.verity.params import VerityParams

    salt = {} if args.salt is None else {"salt": args.salt}
    return VerityParams(
        hash_algorithm=args.algorithm,
        hash_type=args.format,
        data_block_size=args.data_block_size,
        hash_block_size=args.hash_block_size,
        **salt,
    )


def _format_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The options that format and sign share, as keyword arguments of format_file."""
    import uuid

    try:
        superblock_uuid = None if args.uuid is None else uuid.UUID(args.uuid)
    except ValueError:
        raise ParameterError(
            f"{args.uuid!r} is not a UUID: give 32 hex digits as 8-4-4-4-12"
        ) from None
    return {
        "params": _params(args),
        "data_blocks": args.data_blocks or None,
        "hash_offset": args.hash_offset,
        "superblock": not args.no_superblock,
        "superblock_uuid": superblock_uuid,
        "threads": args.threads,
    }


def _size(args: argparse.Namespace) -> int | None:
    """How much there is to do, for the progress bar; the work itself will say what is wrong."""
    if args.data_blocks:
        return int(args.data_blocks * args.data_block_size)
    with suppress(OSError):
        return args.data.stat().st_size or None
    return None


def _summary(args: argparse.Namespace, done: Work, doing: str) -> None:
    if not args.quiet:
        print(f"{doing} {done}", file=sys.stderr)


def _header(
    params: VerityParams, data_blocks: int, superblock: Superblock | None, hash_offset: int
) -> dict[str, Any]:
    area = params.hash_area(data_blocks, hash_offset=hash_offset, superblock=superblock is not None)
    return {
        "uuid": str(superblock.uuid) if superblock else None,
        "hash_type": params.hash_type,
        "data_blocks": data_blocks,
        "data_block_size": params.data_block_size,
        "hash_blocks": area.blocks,
        "hash_block_size": params.hash_block_size,
        "hash_algorithm": params.hash_algorithm,
        "salt": params.salt.hex(),
        "hash_offset": hash_offset,
        "hash_area_end": area.end,
    }


def _print_header(path: Path, header: dict[str, Any]) -> None:
    """The text of ``veritysetup dump`` and ``format``."""
    print(f"VERITY header information for {path}")
    print(f"UUID:            \t{header['uuid'] or ''}")
    print(f"Hash type:       \t{header['hash_type']}")
    print(f"Data blocks:     \t{header['data_blocks']}")
    print(f"Data block size: \t{header['data_block_size']}")
    print(f"Hash blocks:     \t{header['hash_blocks']}")
    print(f"Hash block size: \t{header['hash_block_size']}")
    print(f"Hash algorithm:  \t{header['hash_algorithm']}")
    print(f"Salt:            \t{header['salt'] or '-'}")
    if "root_hash" in header:
        print(f"Root hash:      \t{header['root_hash']}")
    if not header["hash_offset"]:
        print(f"Hash device size: \t{header['hash_area_end']} [bytes]")


def _formatted_header(args: argparse.Namespace, formatted: Formatted) -> dict[str, Any]:
    header = _header(
        formatted.params, formatted.data_blocks, formatted.superblock, args.hash_offset
    )
    return header | {"root_hash": formatted.root_hash.hex()}


def _format(args: argparse.Namespace) -> int:
    from dmsign_fast.outputs import Outputs
    from dmsign_fast.verity.format import format_file

    with work(args, "hashing", _size(args)) as done, Outputs() as outputs:
        formatted = format_file(
            args.data, args.hash, progress=done, outputs=outputs, **_format_arguments(args)
        )
        if args.root_hash_file:
            outputs.write(args.root_hash_file, formatted.root_hash.hex().encode())
    header = _formatted_header(args, formatted)
    if args.output == "json":
        print_json(header | done.json)
    else:
        _print_header(args.hash or args.data, header)
    _summary(args, done, "hashed")
    return 0


def _passphrase(args: argparse.Namespace) -> bytes:
    from dmsign_fast.errors import SigningError
    from dmsign_fast.outputs import storage_errors

    if args.passphrase_file:
        with storage_errors("read", args.passphrase_file):
            return bytes(args.passphrase_file.read_bytes().partition(b"\n")[0])
    if args.passphrase_env:
        value = os.environb.get(os.fsencode(args.passphrase_env))
        if value is None:
            raise SigningError(f"the environment variable {args.passphrase_env} is not set")
        return value
    if not sys.stdin.isatty():
        raise SigningError(
            f"{args.key} is encrypted and there is no terminal to ask on: give --passphrase-file "
            "or --passphrase-env"
        )
    import getpass

    return getpass.getpass(f"Passphrase of {args.key}: ").encode()


def _sign(args: argparse.Namespace) -> int:
    from dmsign_fast.pipeline.files import SignedPaths, sign_file
    from dmsign_fast.signing.local import load_local_signer

    beside = SignedPaths.beside(args.data)
    paths = SignedPaths(
        args.hash or beside.hash_file,
        args.root_hash_file or beside.root_hash,
        args.signature or beside.signature,
    )
    if str(args.data) == "-" and not (args.hash and args.root_hash_file and args.signature):
        raise ParameterError("with DATA - give the names of HASH, --root-hash-file and --signature")
    arguments = _format_arguments(args)
    signer = load_local_signer(args.key, args.cert, lambda: _passphrase(args))
    with work(args, "hashing", _size(args)) as done:
        signed = sign_file(
            args.data,
            paths,
            signer,
            digest=args.digest,
            certificates=not args.no_certs,
            progress=done,
            **arguments,
        )
    header = _formatted_header(args, signed.formatted)
    subject = signer.certificate_chain[0].subject.rfc4514_string()
    if args.output == "json":
        files = {
            "hash_file": str(paths.hash_file),
            "root_hash_file": str(paths.root_hash),
            "signature_file": str(paths.signature),
            "signer": subject,
        }
        print_json(header | files | done.json)
    else:
        _print_header(paths.hash_file, header)
        print(f"Root hash file: \t{paths.root_hash}")
        print(f"Signature file: \t{paths.signature}")
        print(f"Signer:         \t{subject}")
    _summary(args, done, "hashed and signed")
    return 0


def _root_hash(args: argparse.Namespace) -> bytes:
    from dmsign_fast.outputs import storage_errors

    if args.root_hash is not None:
        return bytes(args.root_hash)
    if args.root_hash_file is None:
        raise ParameterError("verify needs ROOT_HASH or --root-hash-file")
    with storage_errors("read", args.root_hash_file):
        text = args.root_hash_file.read_bytes()[:4096]
    try:
        return bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        raise ParameterError(
            f"{args.root_hash_file} does not hold a root hash: hex text is expected"
        ) from None


def _verify_signature(
    args: argparse.Namespace, root_hash: bytes
) -> tuple[Verdict | None, DmsignError | None]:
    """The verdict, or why there is none: the data is verified all the same."""
    if bool(args.signature) != bool(args.cert):
        raise ParameterError("--signature and --cert (trust anchors) go together")
    if not args.signature:
        return None, None
    from dmsign_fast.envelope.pkcs7 import verify_root_hash
    from dmsign_fast.envelope.trust import load_trust_anchors
    from dmsign_fast.signing.certificates import read_file

    anchors = load_trust_anchors(*args.cert)
    try:
        return verify_root_hash(read_file(args.signature), root_hash, anchors), None
    except DmsignError as error:
        return None, error


def _bad_json(report: Verified) -> list[dict[str, Any]]:
    return [
        {
            "kind": "data" if bad.level is None else "hash",
            "level": bad.level,
            "reason": bad.reason,
            "first_block": part.first,
            "blocks": part.blocks,
            "offset": part.offset,
            "size": part.size,
        }
        for bad in report.bad
        for part in bad
    ]


_REASONS = {
    "digest": "not what was hashed",
    "spare": "spare area not zero",
    "missing": "beyond the end of the data",
}


def _print_bad(args: argparse.Namespace, report: Verified) -> None:
    for bad in report.bad:
        kind, path = "data block", args.data
        if bad.level is not None:
            kind, path = f"hash block (level {bad.level})", args.hash
        for part in bad:
            last = part.first + part.blocks - 1
            numbers = f"{part.first}" if last == part.first else f"{part.first}-{last}"
            end = part.offset + part.size - 1
            print(f"{kind} {numbers}, bytes {part.offset}-{end} of {path}: {_REASONS[bad.reason]}")


def _verify(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from dmsign_fast.verity.verify import verify_file

    root_hash = _root_hash(args)
    if args.no_superblock and args.salt is None:
        raise ParameterError("--no-superblock needs the --salt of the tree (- for none)")
    verdict, refused = _verify_signature(args, root_hash)
    corruption = None
    with work(args, "verifying", _size(args)) as done:
        try:
            report = verify_file(
                args.data,
                args.hash,
                root_hash,
                params=_params(args) if args.no_superblock else None,
                data_blocks=args.data_blocks or None,
                hash_offset=args.hash_offset,
                threads=args.threads,
                progress=done,
            )
        except CorruptionError as error:
            corruption, report = error, error.report
    if args.output == "json":
        args.printed = True
        value: dict[str, Any] = {
            "verified": not corruption and not refused,
            "root_hash": root_hash.hex(),
            "computed_root_hash": report.computed.hex(),
            "data_blocks": report.data_blocks,
            "bad": _bad_json(report),
        }
        if refused:
            value["signature"] = {"error": type(refused).__name__, "message": str(refused)}
        elif verdict:
            value["signature"] = asdict(verdict)
        print_json(value | done.json)
    elif corruption:
        _print_bad(args, report)
    elif not refused:
        print(f"Root hash:      \t{root_hash.hex()}")
        print(f"Verified:       \t{report.data_blocks} data blocks, every one as it was hashed")
        if verdict:
            print(f"Signed by:      \t{verdict.signer.subject}")
    _summary(args, done, "checked")
    if corruption and refused:
        raise VerificationError(f"{corruption}; the signature is refused too: {refused}")
    if wrong := corruption or refused:
        raise wrong
    return 0


def _dump(args: argparse.Namespace) -> int:
    from dmsign_fast.verity.source import open_source
    from dmsign_fast.verity.verify import read_superblock

    with open_source(args.hash) as source:
        superblock = read_superblock(source, args.hash_offset)
    header = _header(superblock.params, superblock.data_blocks, superblock, args.hash_offset)
    if args.output == "json":
        print_json(header)
    else:
        _print_header(args.hash, header)
    return 0
