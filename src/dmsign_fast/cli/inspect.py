"""``dmsign-fast inspect``: what the signatures of an image say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.cli.stores import add_image_options, open_image, repository_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

__all__ = ["ABOUT", "EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "show what the signatures of an image say, believed or not"
ABOUT = """\
Nothing is verified: it shows who claims to have signed what, with which certificates, recipe and
root hashes. verify says whether that is so.
"""
EXAMPLES = """\
examples:
  dmsign-fast inspect registry.example/app:1.0
  dmsign-fast inspect --oci-layout image:1.0 --output json
"""

_Tree = list[tuple[str, "_Tree"]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_image_options(parser)


def _branches(value: Any) -> _Tree:
    if isinstance(value, dict):
        return [_branch(name, one) for name, one in value.items() if one]
    return [_branch(str(number), one) for number, one in enumerate(value)]


def _branch(name: str, value: Any) -> tuple[str, _Tree]:
    if isinstance(value, dict | list | tuple):
        return name, _branches(value)
    return f"{name}: {value}", []


def _lines(tree: _Tree, indent: str = "") -> Iterator[str]:
    for number, (text, below) in enumerate(tree):
        last = number == len(tree) - 1
        yield f"{indent}{'└──' if last else '├──'} {text}"
        yield from _lines(below, indent + ("    " if last else "│   "))


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.inspect_image import inspect_image

    with open_image(args) as (store, wanted):
        images = inspect_image(store, wanted, platform=args.platform, recursive=args.recursive)
    if args.output == "json":
        print_json({"reference": args.reference, "images": images})
        return 0
    for image in images:
        print_line(f"{repository_of(args)}@{image['manifest']}")
        tree = [_branch(one.pop("digest"), one) for one in image["signatures"]]
        for line in _lines(tree or [("no signatures", [])]):
            print_line(line)
        for problem in image["passed_over"]:
            print_line(f"passed over: {problem}")
    return 0
