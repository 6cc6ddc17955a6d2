"""Every root hash that a node may compute of a layer: what identify and ``--recipe all`` share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.layer.options import conversion, recipe
from dmsign_fast.errors import DmsignError, ParameterError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

    from dmsign_fast.cli.layer.places import LayerPlaces
    from dmsign_fast.cli.output import Work
    from dmsign_fast.erofs.layer_versions import VersionResult
    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.pipeline.layers import Expected

__all__ = ["ALL", "by_root_hash", "every_recipe", "every_root_hash", "result_json", "result_text"]

ALL = "all"


def every_recipe(args: argparse.Namespace) -> list[Recipe]:
    """Each recipe with each version of mkfs.erofs, with the fields that the options replace."""
    from dmsign_fast import _core
    from dmsign_fast.erofs.recipe import RECIPES

    newest = [versions[-1] for versions in _core.mkfs_groups().values()]
    found: dict[str, Recipe] = {}
    for row in RECIPES:
        for version in reversed(newest):
            named = argparse.Namespace(**vars(args) | {"recipe": f"{row.name}@{version}"})
            one = recipe(named)
            found.setdefault(repr(one.fields() | {"name": ""}), one)
    return list(found.values())


def every_root_hash(
    args: argparse.Namespace, layer: str, places: LayerPlaces, expected: Expected, done: Work
) -> Callable[[threading.Event], list[VersionResult]]:
    """What computes them, for run_all."""
    from dmsign_fast.pipeline.identify import all_root_hashes

    if args.converter != "native":
        raise ParameterError("only our own converter makes every root hash: leave out --converter")
    how, recipes = conversion(args, max(1, args.jobs)), every_recipe(args)
    read = places.reader(layer)

    def hash_one(stop: threading.Event) -> list[VersionResult]:
        begun = 0

        def open_layer() -> Iterable[Buffer]:
            nonlocal begun
            begun += 1
            if layer == "-" and begun > 1:
                raise ParameterError(
                    "the newest mkfs.erofs refuses this layer, so that it has to be read again for "
                    "others: give a file instead of standard input"
                )
            return read(stop)

        try:
            return all_root_hashes(open_layer, recipes, expected, how, progress=done, stop=stop)
        except DmsignError as error:
            error.args = (f"{layer}: {error}", *error.args[1:])
            raise

    return hash_one


def by_root_hash(results: Iterable[VersionResult]) -> dict[str, list[VersionResult]]:
    """Those that give the same root hash together, hex, in the order of the recipes."""
    found: dict[str, list[VersionResult]] = {}
    for one in results:
        if one.root_hash:
            found.setdefault(one.root_hash.hex(), []).append(one)
    return found


def _versions(made_by: Recipe) -> str:
    first, last = made_by.mkfs_versions[0], made_by.mkfs_versions[-1]
    return first if first == last else f"{first}-{last}"


def _rule(one: VersionResult) -> str:
    """What the UUID is made of; a layer that is an EROFS image has its own."""
    return one.recipe.fields()["uuid"] if one.uuid else "the layer's own"


def result_text(results: Iterable[VersionResult]) -> str:
    """Recipes with their versions of mkfs.erofs and rule of the UUID."""
    return ", ".join(_texts(results))


def _texts(results: Iterable[VersionResult]) -> Iterator[str]:
    versions: dict[tuple[str, str], list[str]] = {}
    for one in results:
        versions.setdefault((one.recipe.name, _rule(one)), []).append(_versions(one.recipe))
    for (name, rule), of in versions.items():
        yield f"{name}@{'|'.join(of)} (UUID: {rule})"


def result_json(one: VersionResult) -> dict[str, Any]:
    """All that is known of a recipe's result."""
    return {
        "root_hash": one.root_hash.hex() if one.root_hash else None,
        "recipe": one.recipe.name,
        "layout": one.recipe.layout.value,
        "mkfs_versions": list(one.recipe.mkfs_versions),
        "uuid_rule": _rule(one),
        "uuid": str(one.uuid) if one.uuid else None,
        "data_block_size": one.recipe.params.data_block_size,
        "salt": one.recipe.params.salt.hex(),
        "problem": one.problem,
    }
