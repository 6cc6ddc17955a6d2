"""``dmsign-fast mount``: a signed image on a node, each layer checked by the kernel."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.exports import add_export_options, open_command, signed_layers
from dmsign_fast.cli.layer.options import conversion
from dmsign_fast.cli.output import Work, note, print_json, print_line, work
from dmsign_fast.cli.stores import open_image
from dmsign_fast.errors import ProgramError
from dmsign_fast.pipeline.targets import TARGETS

if TYPE_CHECKING:
    import argparse

    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.export import SignedLayers

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "verify an image, open its layers with their signatures, and mount it read-only"
EXAMPLES = """\
examples:
  sudo dmsign-fast mount registry.example/app:1.0 /mnt --trust root.pem
  dmsign-fast mount registry.example/app:1.0 /mnt --trust root.pem --dry-run
then:
  sudo dmsign-fast umount /mnt
"""
_CACHE = Path("/var/cache/dmsign-fast")
_TARGET = TARGETS[0]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_export_options(parser)
    add = parser.add_argument
    add("directory", metavar="DIR", type=Path, help="the mount point")
    add(
        "--cache",
        type=Path,
        default=_CACHE,
        metavar="PATH",
        help=f"keep the exported files below this directory; default: {_CACHE}",
    )
    add("--dry-run", action="store_true", help="print the command lines, and run nothing")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.node.mount import MountPoint, check_free, command_words, mount, mount_plan

    where = MountPoint.of(args.directory)
    if not args.dry_run:
        if os.geteuid() != 0:
            raise ProgramError("mount needs root: run it by sudo, or see --dry-run")
        check_free(where)
    with work(args, "exporting", None) as done, open_image(args) as (store, wanted):
        image = signed_layers(args, store, wanted, _TARGET)
        kept = _kept(args, image)
        if not args.dry_run:
            _export(args, store, image, kept, done)
    commands = [
        open_command(
            where.device(number),
            kept,
            _TARGET.names(number, layer.diff_id),
            signature.root_hash,
        )
        for number, (layer, signature) in enumerate(image.layers)
    ]
    lines = command_words(mount_plan(where, commands))
    if not args.dry_run:
        mount(where, commands)
    elif not kept.exists():
        note(args, f"{kept} is not there yet: dmsign-fast export writes it, and mount")
    if args.output == "json":
        known = {"directory": str(where.path), "cache": str(kept), "commands": lines}
        print_json(known | {"manifest": image.manifest.descriptor.digest} | done.json)
    elif args.dry_run:
        for words in lines:
            print_line(shlex.join(words))
    else:
        print_line(str(where.path))
    return 0


def _kept(args: argparse.Namespace, image: SignedLayers) -> Path:
    """The directory of the image in the cache, whether it is there or not."""
    manifest, artifact = (one.descriptor.digest.encoded for one in (image.manifest, image.artifact))
    cache: Path = args.cache.absolute()
    return cache / f"{manifest}-{artifact[:16]}"


def _export(
    args: argparse.Namespace, store: Store, image: SignedLayers, kept: Path, done: Work
) -> None:
    """Fill the directory, unless it is there: whatever is in it, the kernel looks at all of it."""
    from dmsign_fast.outputs import locked, storage_errors
    from dmsign_fast.pipeline.export import export_layers

    jobs = max(1, args.jobs)
    with storage_errors("create", kept.parent):
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(kept.parent):
        if not kept.exists():
            done.expect(sum(layer.descriptor.size for layer, _ in image.layers))
            how = conversion(args, jobs)
            export_layers(store, image, _TARGET, kept, how, jobs=jobs, progress=done)
