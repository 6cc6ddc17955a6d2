"""``dmsign-fast list``: what refers to an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.cli.stores import add_image_options, open_image, repository_of
from dmsign_fast.errors import FormatError

if TYPE_CHECKING:
    import argparse

    from dmsign_fast.oci.descriptor import Descriptor

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "list the artifacts that refer to an image, such as signatures"
EXAMPLES = """\
examples:
  dmsign-fast list registry.example/app:1.0
  dmsign-fast list --oci-layout image:1.0 --output json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_image_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.image import manifests_of

    repository = repository_of(args)
    with open_image(args) as (store, wanted):
        manifests = manifests_of(
            store, wanted, platform=args.platform, recursive=args.recursive, whole=True
        )
        found = [(one.descriptor, store.referrers(one.descriptor)) for one in manifests]
    if args.output == "json":
        images = [
            {
                "manifest": manifest.digest,
                "referrers": [one.to_json() for one in referrers],
                "passed_over": referrers.problems,
            }
            for manifest, referrers in found
        ]
        print_json({"reference": args.reference, "images": images})
        return 0
    for manifest, referrers in found:
        print_line(f"{repository}@{manifest.digest}")
        for number, one in enumerate(referrers):
            branch = "└──" if number == len(referrers) - 1 else "├──"
            print_line(f"{branch} {one.digest} {one.artifact_type or one.media_type}{_made(one)}")
        if not referrers:
            print_line("└── nothing refers to it")
        for problem in referrers.problems:
            print_line(f"passed over: {problem}")
    return 0


def _made(referrer: Descriptor) -> str:
    """The form of a dm-verity artifact, and its recipe as far as the list has it."""
    from dmsign_fast.pipeline.artifact import recipe_of
    from dmsign_fast.pipeline.forms import form_of_type

    form = form_of_type(referrer.artifact_type)
    if form is None:
        return ""
    try:
        recipe = recipe_of(referrer)
    except FormatError:
        return f" ({form.name}, a malformed recipe)"
    return f" ({form.name}, {recipe.name}@{recipe.mkfs_version})" if recipe else f" ({form.name})"
