"""``dmsign-fast sign``: an image, for kernels and for verifiers of the Notary Project."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dmsign_fast.cli.keys import (
    add_and_key,
    add_key_options,
    add_manifest_key,
    other_signer_of,
    signer_of,
)
from dmsign_fast.cli.output import note, print_json, print_summary, work
from dmsign_fast.cli.signatures import (
    add_replace,
    add_sign_options,
    add_timestamp_options,
    print_signed,
    print_warnings,
    sign_options,
    signed_json,
    timestamp,
)
from dmsign_fast.cli.stores import add_image_options, open_image, repository_of

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "sign an image: its layers for the kernel, its manifest for the Notary Project"
EXAMPLES = """\
examples:
  dmsign-fast sign registry.example/app:1.0 --key key.pem --cert chain.pem
  dmsign-fast sign registry.example/app@sha256:2d35... --key release --recipe containerd@1.8.6
  dmsign-fast sign --oci-layout image:1.0 --key key.pem --cert chain.pem --output json
  dmsign-fast sign registry.example/app:1.0 --key ml-dsa.pem --cert ml-dsa-chain.pem \\
      --manifest-key key.pem --manifest-cert chain.pem
  dmsign-fast sign registry.example/app:1.0 --artifact all --recipe containerd-tar-index --replace
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_image_options(parser)
    add_key_options(parser)
    add_and_key(parser)
    add_manifest_key(parser)
    add_sign_options(parser)
    add_timestamp_options(parser)
    parser.add_argument("--force", action="store_true", help="also where it is signed already")
    add_replace(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.sign_image import sign_image

    options = replace(
        sign_options(args), timestamp=timestamp(args), force=args.force, replace=args.replace
    )
    signer, other = signer_of(args), other_signer_of(args, "and")
    options = replace(
        options,
        and_by=(other,) if other else (),
        manifest_signer=other_signer_of(args, "manifest"),
    )
    with work(args, "signing", None) as done, open_image(args) as (store, wanted):
        if ":" not in wanted:
            note(
                args, f"{args.reference} names a tag, which may move: its digest is what is signed"
            )
        signed = sign_image(store, wanted, signer, options, progress=done, found=done.expect)
    if args.output == "json":
        subject = signer.certificate_chain[0].subject.rfc4514_string()
        images = [signed_json(one) for one in signed]
        made_by = {"recipe": options.recipe.fields(), "signer": subject}
        print_json({"reference": args.reference, "images": images} | made_by | done.json)
    else:
        name = repository_of(args)
        for one in signed:
            print_signed(name, one)
    print_warnings(args, signed)
    if not args.quiet:
        for stage in ("hash", "sign", "push"):
            note(args, f"{stage}: {sum(one.seconds[stage] for one in signed):.2f} s")
    print_summary(args, done, "signed layers of")
    return 0
