"""``dmsign-fast attach``: signatures that were made elsewhere, verified and pushed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_json
from dmsign_fast.cli.signatures import (
    add_replace,
    add_timestamp_options,
    print_signed,
    print_warnings,
    signed_json,
    timestamp,
)
from dmsign_fast.cli.signing_requests import add_directory
from dmsign_fast.cli.stores import add_store_options, open_image, repository_of

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "verify the signatures of what prepare wrote, wrap and push them"
EXAMPLES = """\
examples:
  dmsign-fast attach to-sign
  dmsign-fast attach to-sign mirror.example/app:1.0          the same image, elsewhere
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_directory(parser)
    parser.add_argument(
        "reference",
        metavar="REF",
        nargs="?",
        help="the image, where it is elsewhere now; default: where it was",
    )
    parser.add_argument(
        "--no-manifest-signature",
        action="store_true",
        help="accept that the directory has no signature of the manifest, as prepare was told",
    )
    add_store_options(parser)
    add_timestamp_options(parser)
    add_replace(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.offline import attach_image, image_of
    from dmsign_fast.pipeline.signing_request import SigningRequest

    signing_request = SigningRequest.read(args.directory, "image")
    if args.reference is None:
        args.reference, args.oci_layout = image_of(signing_request)
    with open_image(args) as (store, wanted):
        signed = attach_image(
            store,
            wanted,
            signing_request,
            timestamp=timestamp(args),
            manifest_signature=not args.no_manifest_signature,
            replace_former=args.replace,
        )
    if args.output == "json":
        images = [signed_json(one) for one in signed]
        print_json({"reference": args.reference, "images": images} | signing_request.signers)
    else:
        name = repository_of(args)
        said = signing_request.signers  # it is the directory that says who
        layers = [said[role] for role in ("signer", "and_signer") if role in said]
        manifest = said.get("manifest_signer") or said.get("signer", "")
        signers = {"layers": " and ".join(layers), "manifest": manifest}
        for one in signed:
            print_signed(name, one, signers, verbose=args.verbose)
    print_warnings(args, signed)
    return 0
