"""``dmsign-fast prepare``: what must be signed, for keys that are elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.keys import add_and_key, add_manifest_key
from dmsign_fast.cli.output import note, print_json, print_summary, work
from dmsign_fast.cli.signatures import add_sign_options, layer_json, print_layers, sign_options
from dmsign_fast.cli.signing_requests import (
    add_signing_request_options,
    chain_of,
    others_of,
    print_messages,
)
from dmsign_fast.cli.stores import add_image_options, open_image

if TYPE_CHECKING:
    import argparse

__all__ = ["ABOUT", "EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "write what must be signed, for a key that is elsewhere; then see attach"
ABOUT = """\
For keys that never come to this machine: prepare writes the messages that must be signed into a
directory, whoever has the key signs each of them there, and attach verifies the signatures and
pushes them as sign would.
"""
EXAMPLES = """\
examples:
  dmsign-fast prepare registry.example/app:1.0 --cert chain.pem -o to-sign
  openssl dgst -sha256 -sign key.pem -out to-sign/root-hash-1.txt.sig to-sign/root-hash-1.txt
  dmsign-fast attach to-sign
  dmsign-fast prepare registry.example/app:1.0 --cert ml-dsa-chain.pem \\
      --manifest-cert chain.pem -o to-sign                  two keys, each with its files
docs/two-steps.md has the lines for every kind of key.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_image_options(parser)
    add_signing_request_options(parser)
    add_and_key(parser, here=False)
    add_manifest_key(parser, here=False)
    add_sign_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.offline import prepare_image

    options, chain, others = sign_options(args), chain_of(args.cert), others_of(args)
    with work(args, "preparing", None) as done, open_image(args) as (store, wanted):
        if ":" not in wanted:
            note(args, f"{args.reference} names a tag: attach refuses if it moves meanwhile")
        plans, signing_request = prepare_image(
            store,
            wanted,
            chain,
            options,
            args.directory,
            reference=args.reference,
            oci_layout=args.oci_layout,
            others=others,
            progress=done,
            found=done.expect,
        )
    if args.output == "json":
        images = [
            {
                "manifest": plan.manifest.digest,
                "layers": [layer_json(layer) for layer in dict.fromkeys(plan.layers)],
            }
            for plan in plans
        ]
        known = {"reference": args.reference, "directory": str(args.directory), "images": images}
        messages = {"to_sign": [message.json for message in signing_request.messages]}
        print_json(known | messages | {"recipe": options.recipe.fields()} | done.json)
    else:
        for plan in plans:
            print_layers(plan.layers)
        print_messages(signing_request)
    print_summary(args, done, "hashed layers of")
    return 0
