"""``dmsign-fast layer roothash``: what a node's kernel will be told of a layer."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.layer.every_recipe import (
    ALL,
    by_root_hash,
    every_root_hash,
    result_json,
    result_text,
)
from dmsign_fast.cli.layer.options import (
    add_jobs,
    add_layer_options,
    conversion,
    layer_json,
    recipe,
    total_size,
)
from dmsign_fast.cli.layer.places import LayerPlaces
from dmsign_fast.cli.output import Work, note, print_json, print_line, print_summary, work
from dmsign_fast.cli.stores import add_store_options
from dmsign_fast.errors import DmsignError, FormatError, ParameterError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from dmsign_fast.pipeline.digests import SharedDigests
    from dmsign_fast.pipeline.layers import Expected, HashedLayer

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "compute the root hashes of layers, as a node's kernel will be told them"
EXAMPLES = """\
examples:
  dmsign-fast layer roothash layer.tar.gz
  dmsign-fast layer roothash layer.tar.gz --digest sha256:2d35... --recipe containerd@1.8.6
  dmsign-fast layer roothash registry.example/app@sha256:2d35... --recipe osguard
  dmsign-fast layer roothash --oci-layout image@sha256:2d35...
  dmsign-fast layer roothash layer.tar.gz --recipe all      what any node might compute
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add(
        "layers",
        metavar="LAYER",
        nargs="+",
        help="a file, - for standard input, or a layer in a registry, "
        "REGISTRY/REPOSITORY@DIGEST, or with --oci-layout in a layout, PATH@DIGEST",
    )
    add(
        "--digest",
        action="append",
        default=[],
        metavar="DIGEST",
        help="refuse LAYER unless it has this digest, sha256:...; once for each LAYER, in order",
    )
    add(
        "--diff-id",
        action="append",
        default=[],
        metavar="DIGEST",
        help="refuse LAYER unless its tar has this digest; once for each LAYER, in order",
    )
    add("--media-type", help="media type of every LAYER; default: what it looks like")
    add_jobs(add)
    add_layer_options(parser)
    add_store_options(parser)


def _expected(args: argparse.Namespace, places: LayerPlaces) -> list[Expected]:
    from dmsign_fast.pipeline.layers import Expected

    count = len(args.layers)
    if args.layers.count("-") > 1:
        raise ParameterError("standard input can be only one LAYER")
    for option, values in (("--digest", args.digest), ("--diff-id", args.diff_id)):
        if values and len(values) != count:
            raise ParameterError(
                f"{option} was given {len(values)} times for {count} layers: give it once for each"
            )
    none = [None] * count
    expected = []
    for layer, digest, diff_id in zip(
        args.layers, args.digest or none, args.diff_id or none, strict=True
    ):
        named = places.digest(layer)
        if named and digest not in (None, named):
            raise ParameterError(f"--digest {digest} is not that of {layer}")
        expected.append(
            Expected(digest=named or digest, diff_id=diff_id, media_type=args.media_type)
        )
    return expected


def _task(
    args: argparse.Namespace,
    layer: str,
    places: LayerPlaces,
    expected: Expected,
    done: Work,
    digests: SharedDigests | None,
) -> Callable[[threading.Event], HashedLayer]:
    from dmsign_fast.erofs.image_hasher import no_hash_area
    from dmsign_fast.pipeline.layers import hash_layer

    made_by, how = recipe(args), conversion(args, max(1, args.jobs))
    read = places.reader(layer)

    def hash_one(stop: threading.Event) -> HashedLayer:
        try:
            with ExitStack() as opened:
                return hash_layer(
                    read(stop),
                    made_by,
                    expected,
                    how,
                    hash_area=no_hash_area,
                    progress=done,
                    stop=stop,
                    new_digest=opened.enter_context(digests.of_layer()) if digests else None,
                )
        except DmsignError as error:
            error.args = (f"{layer}: {error}", *error.args[1:])
            raise

    return hash_one


def _run_all_recipes(args: argparse.Namespace) -> int:
    """Print every root hash with the recipes that give it."""
    from dmsign_fast.pipeline.jobs import run_all

    with work(args, "hashing", None) as done, ExitStack() as opened:
        places = LayerPlaces(args, opened)
        tasks = [
            every_root_hash(args, layer, places, expected, done)
            for layer, expected in zip(args.layers, _expected(args, places), strict=True)
        ]
        results = run_all(tasks, args.jobs)
    pairs = list(zip(args.layers, results, strict=True))
    if args.output == "json":
        layers = [
            {"layer": name, "recipes": [result_json(one) for one in found]} for name, found in pairs
        ]
        print_json({"layers": layers} | done.json)
    else:
        for name, found in pairs:
            for root_hash, recipes in by_root_hash(found).items():
                print_line(f"{root_hash}  {name}  {result_text(recipes)}")
    for name, found in pairs:
        for problem in dict.fromkeys(one.problem for one in found if one.problem):
            by = [one for one in found if one.problem == problem]
            note(args, f"{name}: {result_text(by)}: {problem}")
        if not by_root_hash(found):
            raise FormatError(f"{name}: no recipe makes an image of this layer")
    print_summary(args, done, "hashed")
    return 0


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.digests import SharedDigests
    from dmsign_fast.pipeline.jobs import run_all

    if args.recipe == ALL:
        return _run_all_recipes(args)
    total = total_size([Path(layer) for layer in args.layers])
    with work(args, "hashing", total) as done, ExitStack() as opened:
        places = LayerPlaces(args, opened)
        jobs = min(args.jobs, len(args.layers))
        digests = opened.enter_context(SharedDigests(jobs)) if jobs > 1 else None
        tasks = [
            _task(args, layer, places, expected, done, digests)
            for layer, expected in zip(args.layers, _expected(args, places), strict=True)
        ]
        layers = run_all(tasks, args.jobs)
    pairs = list(zip(args.layers, layers, strict=True))
    if args.output == "json":
        print_json({"layers": [layer_json(name, layer) for name, layer in pairs]} | done.json)
    else:
        for name, layer in pairs:
            print_line(f"{layer.image.root_hash.hex()}  {name}")
    print_summary(args, done, "hashed")
    return 0
