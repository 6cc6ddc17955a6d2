"""``dmsign-fast fleet sign``: many images, each different layer read once."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from dmsign_fast.cli.fleet.options import (
    Shown,
    accesses,
    add_engine_options,
    add_image_choice,
    add_state_options,
    fraction,
    limits,
    references_of,
    status_of,
)
from dmsign_fast.cli.layer.options import recipes
from dmsign_fast.cli.options import section
from dmsign_fast.cli.output import note, print_json, print_line, size_text
from dmsign_fast.cli.signatures import add_signing_options, duration, signing
from dmsign_fast.cli.verity.options import whole_number

if TYPE_CHECKING:
    import argparse

    from dmsign_fast.fleet.engine import Engine
    from dmsign_fast.fleet.options import FleetOptions
    from dmsign_fast.signing.signer import Signer

__all__ = ["ABOUT", "EXAMPLES", "HELP", "MOST_USED", "add_arguments", "fleet_options", "run"]

HELP = "sign many images, each different layer of which is read once"
ABOUT = """\
References become manifests, and these become different layers. Workers read each layer once,
wherever it occurs. An image is signed as soon as the root hashes of its layers are known.
"""
MOST_USED = (
    *("--from", "--registry", "--match", "--state", "--resume", "--scheduler"),
    *("--key", "--cert", "--recipe", "--artifact"),
)
EXAMPLES = """\
examples:
  dmsign-fast fleet sign --from images.txt --state run.state --key key.pem --cert chain.pem
  dmsign-fast fleet sign --registry registry.example --match 'prod/*' --state a.state --key rel
  dmsign-fast fleet sign --from images.txt --state run.state --resume --key release
  dmsign-fast fleet sign --from images.txt --state run.state --key release --authfile ci.json
  dmsign-fast fleet sign --from images.txt --state run.state --key release --audit 1%
  dmsign-fast fleet sign --from images.txt --state run.state --key ml-dsa.pem --cert ml-dsa.crt \\
      --manifest-key key.pem --manifest-cert chain.pem
  dmsign-fast fleet sign --from images.txt --state run.state --key release --artifact acl \\
      --recipe containerd-tar-index --replace
  dmsign-fast fleet sign --from images.txt --state run.state --scheduler tls://dask.example:8786 \\
      --recipe containerd@1.8.6 --recipe containerd@1.9.4 --key release
exit status:
  0 all images are signed; 8 some are not; 9 none is; others as of sign
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_image_choice(parser)
    add_state_options(parser)
    add_engine_options(parser)
    add = section(parser, "run").add_argument
    add(
        "--renew-before",
        type=duration,
        default="30d",
        metavar="30d",
        help="sign again what expires so soon; default: 30d",
    )
    add(
        "--max-failures",
        type=whole_number,
        metavar="N",
        help="stop once more than N images have failed; default: go on",
    )
    add(
        "--no-index",
        action="store_true",
        help="read all layers, also those of which the file has root hashes of earlier runs",
    )
    add(
        "--audit",
        type=fraction,
        default=0.0,
        metavar="PART",
        help="read such a part of these layers again first, and stop where a root hash differs: "
        "--audit 1%%",
    )
    add_signing_options(parser, fleet=True)


def fleet_options(args: argparse.Namespace) -> tuple[Signer, FleetOptions]:
    """Who signs, and what the options want signed in the run, and how."""
    from dataclasses import replace

    from dmsign_fast.fleet.options import FleetOptions

    named = recipes(args)
    ours, theirs = accesses(args)
    signer, sign = signing(args, named[0])
    if sign.conversion.threads is None:
        sign = replace(sign, conversion=replace(sign.conversion, threads=1))
    return signer, FleetOptions(
        sign=sign,
        recipes=tuple(named),
        layout=args.oci_layout,
        access=ours,
        worker_access=theirs,
        limits=limits(args),
        renew_before=args.renew_before,
        max_failures=args.max_failures,
        index=not args.no_index,
        audit=args.audit,
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.fleet.engine import begin_engine
    from dmsign_fast.fleet.report import failed_images, summary
    from dmsign_fast.fleet.rows import State
    from dmsign_fast.fleet.sign import sign_fleet
    from dmsign_fast.fleet.state import FleetState

    signer, options = fleet_options(args)
    references = references_of(args, options.access)
    shown = Shown(args, "signed")
    with FleetState(args.state) as state:
        with begin_engine(scheduler=args.scheduler, workers=args.workers) as begun:

            @functools.cache
            def engine() -> Engine:
                opened = begun()
                where = f"; its dashboard is at {opened.dashboard}" if opened.dashboard else ""
                note(args, f"hashing by {opened.name}{where}")
                return opened

            try:
                sign_fleet(
                    state, references, signer, options, engine, resume=args.resume, progress=shown
                )
            finally:
                shown.close()
        counts = state.counts()
        failures = failed_images(state, counts)
    signed, before = counts.images[State.SIGNED], counts.images[State.PASSED_OVER]
    if args.output == "json":
        print_json(summary(counts) | {"failures": failures})
        args.printed = True
    else:
        print_line(
            f"images: {signed} signed, {before} signed before, {len(failures)} failed; "
            f"different layers: {counts.layers[0]}, {size_text(counts.bytes[0])}"
        )
        if failures:
            print_line(f"see: dmsign-fast fleet report {args.state}")
    return status_of(counts, signed + before)
