"""``dmsign-fast sign``: an image, for kernels and for verifiers of the Notary Project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.output import note, print_json, work
from dmsign_fast.cli.signatures import (
    add_signing_options,
    print_signed,
    print_warnings,
    signed_json,
    signing,
)
from dmsign_fast.cli.stores import add_image_options, open_image, repository_of

if TYPE_CHECKING:
    import argparse

    from dmsign_fast.signing.signer import Signer

__all__ = ["ABOUT", "EXAMPLES", "HELP", "MOST_USED", "add_arguments", "run"]

HELP = "sign an image: its layers for the kernel, its manifest for the Notary Project"
ABOUT = """\
A node makes a read-only EROFS file system of each layer, and dm-verity hashes it as a tree; the top
of the tree, the root hash, is what the kernel is given and what is signed. The recipe says how the
node makes the file system, and so decides the root hash: choose that of the node.
"""
MOST_USED = (
    *("--key", "--cert", "--passphrase-file", "--oci-layout", "--platform", "--recursive"),
    *("--recipe", "--artifact", "--expiry", "--reuse"),
)
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
    add_signing_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.sign_image import sign_image

    signer, options = signing(args)
    with work(args, "signing", None) as done, open_image(args) as (store, wanted):
        if ":" not in wanted:
            note(
                args, f"{args.reference} names a tag, which may move: its digest is what is signed"
            )
        signed = sign_image(
            store,
            wanted,
            signer,
            options,
            progress=done,
            found=done.expect,
            stage=done.stage,
        )
    signers = {
        "layers": _subjects(signer, *options.and_by),
        "manifest": _subjects(options.manifest_signer or signer),
    }
    if args.output == "json":
        images = [signed_json(one) for one in signed]
        made_by = {"recipe": options.recipe.fields(), "signer": _subjects(signer)}
        print_json({"reference": args.reference, "images": images} | made_by | done.json)
    else:
        name = repository_of(args)
        for one in signed:
            print_signed(name, one, signers, verbose=args.verbose)
    print_warnings(args, signed)
    stages = ", ".join(f"{name} {value:.2f} s" for name, value in done.stages.items())
    size = f"layers of {done}" if done.bytes else f"in {done.seconds:.2f} s"
    note(args, f"signed {size}: {stages}")
    return 0


def _subjects(*signers: Signer) -> str:
    """Who has signed; a plugin says only when it signs who it is."""
    leaves = [leaf for one in signers for leaf in one.certificate_chain[:1]]
    return " and ".join(leaf.subject.rfc4514_string() for leaf in leaves)
