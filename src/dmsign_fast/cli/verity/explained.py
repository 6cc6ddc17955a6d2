"""Explained blocks as text, JSON and a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.output import print_line
from dmsign_fast.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from dmsign_fast.cli.verity.hash_tree_file import HashTreeFile
    from dmsign_fast.erofs.places import Place
    from dmsign_fast.erofs.reader import Kind
    from dmsign_fast.pipeline.explain import Explained
    from dmsign_fast.pipeline.whose import Whose
    from dmsign_fast.verity.source import Source

__all__ = [
    "bad_ranges",
    "explained_json",
    "merged",
    "places_json",
    "print_layer",
    "print_places",
    "write_page",
]

_MOST = 1000  # lines of text, and rows of a page; JSON has all
_PATHS = 100
_CELLS = 2048


def places_json(places: Iterable[Place]) -> list[dict[str, Any]]:
    """One object for each place."""
    return [
        {
            "offset": one.offset,
            "size": one.size,
            "kind": str(one.kind),
            "path": one.path,
            "file_offset": one.at if one.kind == "data" else None,
            "problem": one.problem,
        }
        for one in places
    ]


def explained_json(explained: Explained, layer: Whose | None) -> dict[str, Any]:
    """What is known of the image as a whole, and whose layer it is."""
    layout = None
    if explained.block_size:
        layout = "tar-index" if explained.tar else "full"
    return {
        "size": explained.size,
        "layout": layout,
        "problem": explained.problem,
        "layer": layer.json if layer else None,
    }


def print_layer(layer: Whose | None) -> None:
    """A line that says whose layer it is, if that is known."""
    if layer:
        print_line(str(layer))


def print_places(explained: Explained, places: Sequence[Place]) -> None:
    """A line for each place."""
    if explained.problem:
        print_line(f"  {explained.problem}")
    for one in places[:_MOST]:
        print_line(f"  bytes {one.offset}-{one.offset + one.size - 1}: {_what(one)}")
    if len(places) > _MOST:
        print_line(f"  ... and {len(places) - _MOST} more: --output json has all")


def _what(place: Place) -> str:
    of = f" of {place.path}" if place.path else ""
    if place.kind == "data":
        return f"{place.path}, bytes {place.at}-{place.at + place.size - 1} of the file"
    return f"{place.kind}{of}" + (f": {place.problem}" if place.problem else "")


def merged(ranges: Iterable[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Ranges (offset, size) in rising order, without what overlaps or is beyond ``size``."""
    found: list[tuple[int, int]] = []
    end = 0
    for offset, length in sorted(ranges):
        start, stop = max(offset, end), min(offset + length, size)
        if start < stop:
            found.append((start, stop - start))
            end = stop
    return found


def bad_ranges(report: Iterable[Any], size: int) -> list[tuple[int, int]]:
    """The bad data of a report as ranges within an image of ``size`` bytes."""
    parts = (part for bad in report if bad.level is None for part in bad)
    return merged(((part.offset, part.size) for part in parts), size)


def write_page(
    path: Path,
    image: Path,
    source: Source,
    explained: Explained,
    ranges: Sequence[tuple[int, int]],
    *,
    tree: HashTreeFile | None = None,
    root_hash: bytes | None = None,
    verdict: str | None = None,
    layer: Whose | None = None,
) -> None:
    """Write the page of an explanation; with ``verdict`` the ranges are what is bad.

    With a tree, the way from the first block of each range to the root hash is shown.
    """
    from dmsign_fast.cli.verity.explain_page import explain_page
    from dmsign_fast.outputs import Outputs

    block = explained.block_size or 4096
    step = max(1, -(-explained.size // (_CELLS * block))) * block
    marked = {
        cell
        for offset, size in ranges
        for cell in range(offset // step, (offset + size - 1) // step + 1)
        if verdict or size < explained.size
    }
    data = explained_json(explained, layer) | {
        "whose": str(layer) if layer else None,
        "step": step,
        "cells": _cells(source, explained, step, marked),
        "marked": "bad" if verdict else "asked for",
        "verdict": verdict or f"{len(ranges)} range(s) asked for",
        "places": places_json(explained.places[:_MOST]),
        "left_out": max(0, len(explained.places) - _MOST),
        "paths": _paths(source, ranges, tree, root_hash) if tree else [],
    }
    page = explain_page(f"dmsign-fast verity: {image.name}", data)
    with Outputs() as outputs:
        outputs.protect(image)
        outputs.write(path, page)


def _cells(
    source: Source, explained: Explained, step: int, marked: set[int]
) -> list[tuple[str, str]]:
    """Style and title of each cell of the map."""
    from dmsign_fast.pipeline.explain import explain_map

    cells = explain_map(source, explained.size, step)
    shown = []
    for number in range(-(-explained.size // step)):
        kinds = cells[number] if number < len(cells) else {}
        style = "bad" if number in marked else _style(kinds)
        title = ", ".join(f"{kind} {size}" for kind, size in kinds.items()) or "hole or padding"
        shown.append((style, title))
    return shown


def _style(kinds: dict[Kind, int]) -> str:
    data = sum(size for kind, size in kinds.items() if kind == "data")
    if not kinds:
        return ""
    return "data" if 2 * data >= sum(kinds.values()) else "metadata"


def _paths(
    source: Source,
    ranges: Sequence[tuple[int, int]],
    tree: HashTreeFile,
    root_hash: bytes | None,
) -> list[dict[str, Any]]:
    from dmsign_fast.verity.digest_path import digest_path
    from dmsign_fast.verity.source import open_source

    params = tree.params
    found = []
    with open_source(tree.path) as hashes:
        for offset, _ in ranges[:_PATHS]:
            block = offset // params.data_block_size
            try:
                steps = digest_path(source.fd, hashes.fd, params, tree.area, root_hash, block)
            except StorageError:  # the block is missing: there is nothing to follow
                continue
            listed = [
                {
                    "level": step.level,
                    "block": step.block,
                    "offset": step.offset,
                    "computed": step.computed.hex(),
                    "wanted": step.wanted.hex(),
                }
                for step in steps
            ]
            found.append({"block": block, "steps": listed})
    return found
