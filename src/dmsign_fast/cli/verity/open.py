"""``dmsign-fast verity open``: open a signed device by veritysetup."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.cli.verity.options import (
    add_fec_options,
    add_layout_options,
    fec_device,
    hex_bytes,
    read_root_hash,
)
from dmsign_fast.errors import ParameterError, VerificationError

if TYPE_CHECKING:
    from dmsign_fast.node.device import OpenCommand

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "open a signed device, by veritysetup: the kernel checks the signature"
EXAMPLES = """\
examples:
  sudo dmsign-fast verity open image.erofs layer0       with what verity sign wrote beside it
  sudo dmsign-fast verity open image.erofs layer0 image.verity --root-hash-file image.roothash \\
      --root-hash-signature image.p7s
  dmsign-fast verity open image.erofs layer0 --dry-run
then:
  sudo mount -t erofs -o ro /dev/mapper/layer0 /mnt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("data", metavar="DATA", type=Path, help="the data: a file or device")
    add("name", metavar="NAME", help="name the device so, below /dev/mapper")
    add("hash", metavar="HASH", type=Path, nargs="?", help="the hash area; default: DATA.verity")
    add(
        "root_hash",
        metavar="ROOT_HASH",
        type=hex_bytes,
        nargs="?",
        help="the root hash, as hex; default: that in DATA.roothash",
    )
    add(
        "--root-hash-signature",
        type=Path,
        metavar="FILE",
        help="the signature; default: DATA.roothash.p7s",
    )
    add(
        "--unsigned",
        action="store_true",
        help="open without a signature, if the kernel allows that",
    )
    add("--dry-run", action="store_true", help="print the command line, and run nothing")
    _add_flags(parser)
    add_layout_options(parser)
    add_fec_options(parser)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    from dmsign_fast.node.device import OPEN_FLAGS

    group = parser.add_argument_group("how the kernel reads")
    corrupt = group.add_mutually_exclusive_group()
    for name, meaning in OPEN_FLAGS.items():
        kind = corrupt if name.endswith("-corruption") else group
        kind.add_argument(
            name, dest="flags", action="append_const", const=name, default=[], help=meaning
        )


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.node.device import open_device

    command = _command(args)
    if args.dry_run:
        if args.output == "json":
            print_json({"command": command.words})
        else:
            print(shlex.join(command.words))
        return 0
    if command.signature:
        _check(args, command.signature)
    device = open_device(command)
    if args.output == "json":
        print_json({"device": str(device), "command": command.words})
    else:
        print_line(str(device))
    return 0


def _command(args: argparse.Namespace) -> OpenCommand:
    from dmsign_fast.node.device import OpenCommand
    from dmsign_fast.pipeline.files import SignedPaths

    if args.unsigned and args.root_hash_signature:
        raise ParameterError("--unsigned and --root-hash-signature exclude each other")
    beside = SignedPaths.beside(args.data)
    if args.root_hash is None and args.root_hash_file is None:
        args.root_hash_file = beside.root_hash
    return OpenCommand(
        data=args.data,
        name=args.name,
        hashes=args.hash or beside.hash_file,
        root_hash=args.root_hash or args.root_hash_file,
        signature=None if args.unsigned else args.root_hash_signature or beside.signature,
        options=(*_options(args), *_fec_options(args, args.hash or beside.hash_file)),
        flags=tuple(dict.fromkeys(args.flags)),
    )


def _options(args: argparse.Namespace) -> tuple[str, ...]:
    place = ("--hash-offset", str(args.hash_offset)) if args.hash_offset else ()
    if not args.no_superblock:
        return place  # the superblock has the rest
    if args.salt is None:
        raise ParameterError("--no-superblock needs the --salt of the tree (- for none)")
    return (
        "--no-superblock",
        *("--hash", args.algorithm, "--format", str(args.format)),
        *("--data-block-size", str(args.data_block_size)),
        *("--hash-block-size", str(args.hash_block_size)),
        *(("--data-blocks", str(args.data_blocks)) if args.data_blocks else ()),
        *("--salt", args.salt.hex() or "-"),
        *place,
    )


def _fec_options(args: argparse.Namespace, hashes: Path) -> tuple[str, ...]:
    fec = fec_device(args)
    if fec is None:
        return ()
    size = args.data_block_size
    if fec.offset and not args.no_superblock:
        from dmsign_fast.verity.source import open_source
        from dmsign_fast.verity.verify import read_superblock

        with open_source(hashes) as source:
            size = read_superblock(source, args.hash_offset).params.data_block_size
    if fec.offset % size:
        raise ParameterError(
            f"Linux would find no parity at --fec-offset {fec.offset}: it must be a multiple of "
            f"the block size, {size}"
        )
    place = ("--fec-offset", str(fec.offset)) if fec.offset else ()
    return ("--fec-device", str(fec.path), "--fec-roots", str(fec.roots), *place)


def _check(args: argparse.Namespace, signature: Path) -> None:
    """Refuse what Linux would, whatever it trusts: it says less about it."""
    from dmsign_fast.envelope.linux import LinuxOutcome, linux_verdict
    from dmsign_fast.signing.certificates import read_file

    verdict = linux_verdict(read_file(signature), read_root_hash(args), None)
    if verdict.outcome is LinuxOutcome.REFUSED:
        raise VerificationError(
            f"Linux would refuse {signature}, {verdict.errno}: {verdict.reason}; {verdict.advice}"
        )
