"""Options that commands share, with veritysetup's names, defaults and meanings."""

from __future__ import annotations

import argparse
import binascii
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.options import section
from dmsign_fast.errors import ParameterError
from dmsign_fast.outputs import storage_errors

if TYPE_CHECKING:
    from dmsign_fast.verity.fec import FecDevice
    from dmsign_fast.verity.params import VerityParams

__all__ = [
    "add_data",
    "add_fec_options",
    "add_format_options",
    "add_layout_options",
    "add_tree_options",
    "data_size",
    "fec_device",
    "format_arguments",
    "hex_bytes",
    "params",
    "read_root_hash",
    "salt",
    "tree_arguments",
    "whole_number",
]


def hex_bytes(text: str) -> bytes:
    """Bytes from hexadecimal text; an error of argparse otherwise."""
    try:
        return binascii.unhexlify(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not hexadecimal") from None


def salt(text: str) -> bytes:
    """A salt as veritysetup takes it: hexadecimal, or - for none."""
    return b"" if text == "-" else hex_bytes(text)


def whole_number(text: str) -> int:
    """A number from decimal digits; an error of argparse otherwise."""
    if not text.isdecimal():
        message = f"{text!r} is not a whole number"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def add_data(parser: argparse.ArgumentParser) -> None:
    """The positional DATA."""
    parser.add_argument(
        "data", metavar="DATA", type=Path, help="the data: a file or device; - for standard input"
    )


def add_layout_options(parser: argparse.ArgumentParser) -> None:
    """What describes a hash tree and where it stands."""
    add = section(parser, "hash tree").add_argument
    add(
        "--hash",
        dest="algorithm",
        default="sha256",
        metavar="NAME",
        help="hash algorithm; default: sha256",
    )
    add(
        "--format",
        type=whole_number,
        default=1,
        metavar="TYPE",
        help="format of the hash tree: 1 (default), or 0 for the old one of Chrome OS",
    )
    add(
        "--data-block-size",
        type=whole_number,
        default=4096,
        metavar="BYTES",
        help="size of a block of DATA; default: 4096",
    )
    add(
        "--hash-block-size",
        type=whole_number,
        default=4096,
        metavar="BYTES",
        help="size of a block of the hash area, which is the tree of digests; default: 4096",
    )
    add(
        "--data-blocks",
        type=whole_number,
        default=0,
        metavar="N",
        help="take so many blocks of DATA; default: all",
    )
    add(
        "--hash-offset",
        type=whole_number,
        default=0,
        metavar="BYTES",
        help="where in HASH the superblock and the hash area begin; default: 0",
    )
    add(
        "-s",
        "--salt",
        type=salt,
        metavar="HEX",
        help="salt of the digests; - for none; default: 32 random bytes",
    )
    add(
        "--no-superblock",
        action="store_true",
        help="the hash area has no superblock, which describes it",
    )
    add(
        "--root-hash-file",
        type=Path,
        metavar="FILE",
        help="the file with the root hash, as hex text",
    )


def add_tree_options(parser: argparse.ArgumentParser) -> None:
    """The same of a tree that is to be computed."""
    add_layout_options(parser)
    section(parser, "hash tree").add_argument(
        "--threads",
        type=whole_number,
        metavar="N",
        help="hash by N threads; default: one for each core",
    )


def add_format_options(parser: argparse.ArgumentParser) -> None:
    """What describes a hash tree that is to be written."""
    add_tree_options(parser)
    section(parser, "hash tree").add_argument(
        "--uuid", help="UUID of the superblock; default: random"
    )
    add_fec_options(parser)


def add_fec_options(parser: argparse.ArgumentParser) -> None:
    """Where parity for error correction is, or goes."""
    add = section(parser, "error correction").add_argument
    add(
        "--fec-device",
        type=Path,
        metavar="FILE",
        help="the file or device of the parity, for error correction (FEC)",
    )
    add(
        "--fec-offset",
        type=whole_number,
        default=0,
        metavar="BYTES",
        help="where in --fec-device the parity begins; default: 0",
    )
    add(
        "--fec-roots",
        type=whole_number,
        default=2,
        metavar="N",
        help="how many of 255 bytes are parity, 2 to 24; default: 2",
    )


def fec_device(args: argparse.Namespace) -> FecDevice | None:
    """The device that the options name, if they do."""
    if args.fec_device is None:
        return None
    from dmsign_fast.verity.fec import FecDevice

    return FecDevice(args.fec_device, args.fec_offset, args.fec_roots)


def params(args: argparse.Namespace) -> VerityParams:
    """The parameters that the options name."""
    from dmsign_fast.verity.params import VerityParams

    given = {} if args.salt is None else {"salt": args.salt}
    return VerityParams(
        hash_algorithm=args.algorithm,
        hash_type=args.format,
        data_block_size=args.data_block_size,
        hash_block_size=args.hash_block_size,
        **given,
    )


def format_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The options that format and sign share, as keyword arguments of format_file."""
    import uuid

    try:
        superblock_uuid = None if args.uuid is None else uuid.UUID(args.uuid)
    except ValueError:
        raise ParameterError(
            f"{args.uuid!r} is not a UUID: give 32 hex digits as 8-4-4-4-12"
        ) from None
    return {
        "params": params(args),
        "data_blocks": args.data_blocks or None,
        "hash_offset": args.hash_offset,
        "superblock": not args.no_superblock,
        "superblock_uuid": superblock_uuid,
        "threads": args.threads,
        "fec": fec_device(args),
    }


def tree_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The options that verify and repair share, as keyword arguments."""
    if args.no_superblock and args.salt is None:
        raise ParameterError("--no-superblock needs the --salt of the tree (- for none)")
    return {
        "params": params(args) if args.no_superblock else None,
        "data_blocks": args.data_blocks or None,
        "hash_offset": args.hash_offset,
        "threads": args.threads,
    }


def data_size(args: argparse.Namespace) -> int | None:
    """How much there is to do, for the progress bar; the work itself will say what is wrong."""
    if args.data_blocks:
        return int(args.data_blocks * args.data_block_size)
    with suppress(OSError):
        return args.data.stat().st_size or None
    return None


def read_root_hash(args: argparse.Namespace) -> bytes:
    """The root hash of the command line, or of --root-hash-file."""
    if args.root_hash is not None:
        return bytes(args.root_hash)
    if args.root_hash_file is None:
        raise ParameterError("give ROOT_HASH or --root-hash-file")
    with storage_errors("read", args.root_hash_file), args.root_hash_file.open("rb") as file:
        text = file.read(4096)
    try:
        return bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        raise ParameterError(
            f"{args.root_hash_file} does not hold a root hash: hex text is expected"
        ) from None
