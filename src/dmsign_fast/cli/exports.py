"""What ``export`` and ``mount`` share: the signed layers that options name, and their devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.layer.options import add_jobs, add_layer_options, recipe
from dmsign_fast.cli.output import note
from dmsign_fast.cli.stores import add_image_options, repository_of
from dmsign_fast.cli.verify import add_trust_options, add_verification_options, verify_options
from dmsign_fast.errors import ParameterError
from dmsign_fast.pipeline.targets import Kind

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

    from dmsign_fast.node.device import OpenCommand
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.export import SignedLayers
    from dmsign_fast.pipeline.targets import Target

__all__ = ["add_export_options", "open_command", "signed_layers"]


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """The image, whom to believe, and how layers are converted."""
    add_image_options(parser, one=True)
    add_trust_options(parser)
    what = parser.add_argument_group("verification").add_argument
    add_verification_options(what)
    what(
        "--no-verify",
        action="store_true",
        help="take the layers by whatever signatures there are, without a look at them",
    )
    add_jobs(what)
    add_layer_options(parser)
    parser.set_defaults(deep=False)  # layers are converted, so that root hashes are made anyway


def signed_layers(
    args: argparse.Namespace, store: Store, wanted: str, target: Target
) -> SignedLayers:
    """The layers with their signatures; verified, unless the options say otherwise."""
    from dmsign_fast.pipeline.export import find_layers

    if args.no_dm_verity:
        raise ParameterError("the signatures of the layers are needed: leave out --no-dm-verity")
    if args.no_verify:
        note(args, "warning: --no-verify: nobody has looked at the signatures")
    return find_layers(
        store,
        wanted,
        target,
        verify=None if args.no_verify else verify_options(args),
        recipe=recipe(args),
        forms=args.artifact or (),
        platform=args.platform,
        name=repository_of(args),
    )


def open_command(
    name: str, directory: Path, files: Mapping[Kind, str], root_hash: bytes, hash_offset: int = 0
) -> OpenCommand:
    """How veritysetup opens an exported layer as a device of that name."""
    from dmsign_fast.node.device import OpenCommand

    image = directory / files[Kind.IMAGE]
    return OpenCommand(
        data=image,
        name=name,
        hashes=directory / files[Kind.HASH_FILE] if Kind.HASH_FILE in files else image,
        root_hash=root_hash,
        signature=directory / files[Kind.SIGNATURE],
        options=("--hash-offset", str(hash_offset)) if hash_offset else (),
    )
