"""``dmsign-fast fleet verify``: many images, each as ``verify`` would."""

from __future__ import annotations

import argparse
import functools
from contextlib import ExitStack
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
)
from dmsign_fast.cli.layer.options import add_layer_options, conversion, recipe
from dmsign_fast.cli.options import section
from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.cli.verify import (
    add_node_option,
    add_trust_options,
    add_verification_options,
    node_of_args,
    verify_options,
)

if TYPE_CHECKING:
    from dmsign_fast.fleet.engine import Engine
    from dmsign_fast.pipeline.verify_image import VerifyOptions

__all__ = ["ABOUT", "EXAMPLES", "HELP", "MOST_USED", "add_arguments", "run"]

# What must be the same when a run is resumed, besides.
_LASTING = (
    *("no-dm-verity", "no-manifest-signature", "artifact", "require-bound", "user-metadata"),
    *("max-signatures", "revocation", "scope", "platform", "node"),
)

HELP = "verify many images: their signatures, and root hashes of all or of some"
ABOUT = """\
Each image is verified as the command verify would. Layers are read by --deep and --deep-sample
alone, each different layer once, by workers.
"""
MOST_USED = (
    *("--from", "--registry", "--match", "--state", "--resume", "--trust", "--deep"),
    *("--deep-sample", "--for", "--require-bound"),
)
EXAMPLES = """\
examples:
  dmsign-fast fleet verify --from images.txt --state verify.state --trust root.pem
  dmsign-fast fleet verify --from images.txt --state verify.state --trust root.pem --deep \\
      --scheduler tls://dask.example:8786
  dmsign-fast fleet verify --from images.txt --state verify.state --trust root.pem --for acl
  dmsign-fast fleet verify --registry registry.example --match 'prod/*' --state v.state \\
      --deep-sample 1%
exit status:
  0 all images are verified; 1 some are not; 4, 6 could not tell; 2 usage
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_image_choice(parser)
    add_state_options(parser)
    add_trust_options(parser)
    what = section(parser, "verification")
    add_verification_options(what.add_argument)
    add_node_option(what.add_argument)
    deep = what.add_mutually_exclusive_group().add_argument
    deep("--deep", action="store_true", help="read the layers, and make their root hashes again")
    deep(
        "--deep-sample",
        type=fraction,
        default=0.0,
        metavar="PART",
        help="the same for images chosen by chance, such a part of all: --deep-sample 1%%",
    )
    add_engine_options(parser)
    add_layer_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.fleet.engine import open_engine
    from dmsign_fast.fleet.report import failed_images, summary
    from dmsign_fast.fleet.rows import State
    from dmsign_fast.fleet.state import FleetState
    from dmsign_fast.fleet.verify import FleetVerifyOptions, verify_fleet
    from dmsign_fast.pipeline.verify_image import checked_options

    ours, theirs = accesses(args)
    references = references_of(args, ours)
    args.recursive, args.jobs = False, 1

    @functools.cache
    def by_place(place: str) -> VerifyOptions:
        values = {**vars(args), "deep": False, "reference": f"{place}:x"}
        return checked_options(verify_options(argparse.Namespace(**values)))

    def needed(place: str) -> VerifyOptions:
        return by_place("any" if args.trust else place)  # a policy has its own for each repository

    if args.trust:
        needed("any")  # so that options that contradict each other are told at once
    options = FleetVerifyOptions(
        verify=needed,
        deep=1.0 if args.deep else args.deep_sample,
        recipe=recipe(args),
        platform=args.platform,
        dm_verity=not args.no_dm_verity,
        layout=args.oci_layout,
        access=ours,
        worker_access=theirs,
        limits=limits(args),
        conversion=conversion(args),
        node=node_of_args(args),
        parameters={
            "layout": args.oci_layout,
            "trust": [str(path) for path in args.trust],
            **{name: getattr(args, name.replace("-", "_")) for name in _LASTING},
        },
    )
    shown = Shown(args, "verified")
    with FleetState(args.state) as state:
        with ExitStack() as stack:

            def engine() -> Engine:
                return stack.enter_context(
                    open_engine(scheduler=args.scheduler, workers=args.workers)
                )

            try:
                verify_fleet(state, references, options, engine, resume=args.resume, progress=shown)
            finally:
                shown.close()
        counts = state.counts()
        failures = failed_images(state, counts)
    if args.output == "json":
        print_json(summary(counts) | {"verified": not failures, "failures": failures})
        args.printed = True
    else:
        print_line(f"images: {counts.images[State.VERIFIED]} verified, {len(failures)} not")
        if failures:
            print_line(f"see: dmsign-fast fleet report {args.state}")
    return 1 if failures else 0
