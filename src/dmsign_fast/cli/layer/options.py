"""Options that the commands of layers share."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.options import section
from dmsign_fast.cli.verity.options import salt, whole_number
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.pipeline.layers import Conversion, HashedLayer

__all__ = [
    "add_jobs",
    "add_layer_options",
    "conversion",
    "layer_json",
    "recipe",
    "recipes",
    "total_size",
]

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def _size(text: str) -> int:
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if not number.isdecimal() or unit not in _UNITS:
        message = f"{text!r} is not a size: give bytes, or a number and K, M, G or T"
        raise argparse.ArgumentTypeError(message)
    return int(number) << _UNITS[unit]


def add_jobs(what: Callable[..., object]) -> None:
    """How many layers are read at a time."""
    what(
        "--jobs",
        type=whole_number,
        default=2,
        metavar="N",
        help="read N layers at a time; default: 2",
    )


def add_layer_options(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """What decides the image of a layer, and how it is made; by ``several`` recipes or one."""
    from dmsign_fast.erofs.bounds import MAX_LAYER_SIZE
    from dmsign_fast.erofs.recipe import RECIPES, ImageLayout, UuidRule
    from dmsign_fast.pipeline.layers import CONVERTERS

    default = RECIPES[0]
    names = ", ".join(row.name for row in RECIPES)
    rules = [rule.value for rule in UuidRule]
    what = section(
        parser,
        "recipe",
        "How the node makes an EROFS image of a layer and its hash tree: it decides the root hash.",
    ).add_argument
    repeated: dict[str, Any] = (
        {"action": "append", "default": []} if several else {"default": default.name}
    )
    what(
        "--recipe",
        **repeated,
        metavar="NAME[@MKFS_VERSION]",
        help=f"what the node runs: {names}; with the version of its mkfs.erofs; default: "
        f"{default.name}@{default.mkfs_version}" + ("; may be repeated" if several else ""),
    )
    what(
        "--layout",
        choices=[layout.value for layout in ImageLayout],
        help="full: all files are converted; tar-index: the tar stays, behind its metadata; "
        "default: that of the recipe",
    )
    what(
        "--uuid",
        metavar="|".join(["UUID", *rules]),
        help="UUID of the image, or what it is made of; default: that of the recipe",
    )
    tree = "of the hash tree; default: that of the recipe"
    what("--data-block-size", type=whole_number, metavar="BYTES", help=f"data block size {tree}")
    what("--hash-block-size", type=whole_number, metavar="BYTES", help=f"hash block size {tree}")
    what("-s", "--salt", type=salt, metavar="HEX", help=f"salt {tree}; - for none")
    how = section(parser, "conversion").add_argument
    how(
        "--converter",
        choices=CONVERTERS,
        default=CONVERTERS[0],
        help="convert by our own code (native, the default), by the program mkfs.erofs, or by "
        "both, which must agree",
    )
    how(
        "--mkfs-erofs",
        type=Path,
        metavar="PATH",
        help="the program mkfs.erofs; default: that of $PATH",
    )
    how(
        "--mkfs-options",
        type=shlex.split,
        default=[],
        metavar="OPTIONS",
        help="give mkfs.erofs these options too",
    )
    how(
        "--allow-lossy",
        action="store_true",
        help="lose what mkfs.erofs silently loses of such a layer, instead of failing",
    )
    how(
        "--max-layer-size",
        type=_size,
        default=MAX_LAYER_SIZE,
        metavar="SIZE",
        help="refuse layers that are larger, stored or uncompressed; default: "
        f"{MAX_LAYER_SIZE >> 30}G",
    )
    how(
        "--memory",
        type=_size,
        default=1 << 30,
        metavar="SIZE",
        help="keep so many digests in memory, and more in temporary files; default: 1G",
    )
    how(
        "--threads",
        type=whole_number,
        metavar="N",
        help="hash each layer by N threads; default: one for each core",
    )


def recipe(args: argparse.Namespace) -> Recipe:
    """The recipe that the options name, with the fields that they replace."""
    from uuid import UUID

    from dmsign_fast.erofs.recipe import ImageLayout, Recipe, UuidRule

    named = Recipe.parse(args.recipe)
    fields: dict[str, Any] = {}
    if args.layout:
        fields["layout"] = ImageLayout(args.layout)
    rules = {rule.value: rule for rule in UuidRule}
    if args.uuid in rules:
        fields["uuid"] = rules[args.uuid]
    elif args.uuid:
        try:
            fields["uuid"] = UUID(args.uuid)
        except ValueError:
            raise ParameterError(
                f"{args.uuid!r} is not a UUID: give 32 hex digits as 8-4-4-4-12, or the name of "
                f"what it is made of, {' or '.join(rules)}"
            ) from None
    layout = fields.get("layout", named.layout)
    params = named.params
    if params.data_block_size > layout.block_size:  # such a device could not be mounted
        sizes = dict.fromkeys(("data_block_size", "hash_block_size"), layout.block_size)
        params = params._replace(**sizes)
    given = {
        "data_block_size": args.data_block_size,
        "hash_block_size": args.hash_block_size,
        "salt": args.salt,
    }
    given = {name: value for name, value in given.items() if value is not None}
    fields["params"] = params._replace(**given)
    return dataclasses.replace(named, **fields)


def recipes(args: argparse.Namespace) -> list[Recipe]:
    """The recipes that repeated options name, each once."""
    from dmsign_fast.erofs.recipe import RECIPES

    names = args.recipe or [RECIPES[0].name]
    named = [recipe(argparse.Namespace(**{**vars(args), "recipe": name})) for name in names]
    return [one for at, one in enumerate(named) if one not in named[:at]]


def conversion(args: argparse.Namespace, jobs: int = 1) -> Conversion:
    """How the options want layers converted, ``jobs`` of them at a time."""
    from dmsign_fast.pipeline.layers import Conversion

    native = args.converter == "native"
    if native and (args.mkfs_erofs or args.mkfs_options):
        raise ParameterError("--mkfs-erofs and --mkfs-options need --converter mkfs or both")
    if args.converter == "both" and args.mkfs_options:
        raise ParameterError(
            "--mkfs-options make another image, so that --converter both cannot agree: use mkfs"
        )
    program = None
    if not native:
        from dmsign_fast.erofs.mkfs import MkfsErofs, check_options

        check_options(args.mkfs_options)
        program = MkfsErofs.find(args.mkfs_erofs)
    return Conversion(
        converter=args.converter,
        mkfs=program,
        mkfs_options=tuple(args.mkfs_options),
        lossy=args.allow_lossy,
        threads=args.threads,
        memory=args.memory // jobs,
        max_layer_size=args.max_layer_size,
    )


def total_size(paths: list[Path]) -> int | None:
    """Bytes of all files, for the progress bar; the work itself will say what is wrong."""
    try:
        sizes = [path.stat().st_size for path in paths]
    except OSError:
        return None
    return sum(sizes) if all(sizes) else None


def layer_json(path: Path | str, layer: HashedLayer) -> dict[str, object]:
    """All that is known of a layer."""
    image, made_by = layer.image, layer.image.recipe
    params = made_by.params
    return {
        "layer": str(path),
        "root_hash": image.root_hash.hex(),
        "digest": layer.digest,
        "diff_id": layer.diff_id,
        "size": layer.size,
        "uncompressed_size": layer.uncompressed_size,
        "compression": layer.compression.name.lower(),
        "recipe": made_by.name,
        "layout": made_by.layout.value if image.uuid else None,
        "mkfs_version": made_by.mkfs_version if image.uuid else None,
        "uuid": str(image.uuid) if image.uuid else None,
        "image_size": image.image_size,
        "inodes": image.inodes,
        "data_blocks": image.tree.data_blocks,
        "data_block_size": params.data_block_size,
        "hash_block_size": params.hash_block_size,
        "salt": params.salt.hex(),
    }
