"""``dmsign-fast export``: the files of a signed image that a node takes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.exports import add_export_options, open_command, signed_layers
from dmsign_fast.cli.layer.options import conversion
from dmsign_fast.cli.output import print_json, print_line, print_summary, work
from dmsign_fast.cli.stores import open_image
from dmsign_fast.pipeline.targets import TARGETS, Kind, target_of

if TYPE_CHECKING:
    import argparse

    from dmsign_fast.pipeline.export import Exported

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "verify an image, and write what a node takes of it into a new directory"
EXAMPLES = """\
examples:
  dmsign-fast export registry.example/app:1.0 app --trust root.pem
  dmsign-fast export registry.example/app:1.0 app --trust root.pem --for systemd
  dmsign-fast export --oci-layout image:1.0 cache --trust root.pem --for containerd-cache
"""
_MOUNT_POINT = Path("/mnt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_export_options(parser)
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="the directory to make, which must not exist"
    )
    parser.add_argument(
        "--for",
        dest="target",
        choices=[target.name for target in TARGETS],
        default=TARGETS[0].name,
        help=f"export for this program; default: {TARGETS[0].name}",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.outputs import check_absent
    from dmsign_fast.pipeline.export import export_layers

    target, jobs = target_of(args.target), max(1, args.jobs)
    check_absent(args.directory)  # before anything is fetched
    with work(args, "exporting", None) as done, open_image(args) as (store, wanted):
        image = signed_layers(args, store, wanted, target)
        done.expect(sum(layer.descriptor.size for layer, _ in image.layers))
        exported = export_layers(
            store, image, target, args.directory, conversion(args, jobs), jobs=jobs, progress=done
        )
    lines = _lines(exported)
    if args.output == "json":
        print_json(
            {"directory": str(args.directory)} | exported.json | {"commands": lines} | done.json
        )
    else:
        for layer in exported.layers:
            print_line(f"{layer.signature.root_hash.hex()}  {layer.files[Kind.IMAGE]}")
        if lines:
            print_line(f"to mount them at {_MOUNT_POINT}, as root:")
        for words in lines:
            print_line(f"  {shlex.join(words)}")
    print_summary(args, done, "exported")
    return 0


def _lines(exported: Exported) -> list[tuple[str, ...]]:
    """What mounts the layers; nothing for what is not to be opened by hand."""
    from dmsign_fast.node.mount import MountPoint, command_words, mount_plan

    if Kind.SIGNATURE not in exported.target.files:
        return []
    where = MountPoint.of(_MOUNT_POINT)
    directory = exported.directory.absolute()
    commands = [
        open_command(
            where.device(layer.number),
            directory,
            layer.files,
            layer.signature.root_hash,
            layer.hash_offset,
        )
        for layer in exported.layers
    ]
    return command_words(mount_plan(where, commands))
