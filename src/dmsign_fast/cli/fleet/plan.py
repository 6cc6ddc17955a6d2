"""``dmsign-fast fleet plan``: what a run would do."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.fleet.options import Shown, references_of
from dmsign_fast.cli.fleet.sign import add_arguments as add_sign_arguments
from dmsign_fast.cli.fleet.sign import fleet_options
from dmsign_fast.cli.output import print_json, print_line, size_text

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "say what fleet sign would do with the same options; nothing is written"
EXAMPLES = """\
examples:
  dmsign-fast fleet plan --from images.txt --state run.state --key release
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_sign_arguments(parser)
    parser.set_defaults(interrupted=None)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.fleet.reading import ReadableState
    from dmsign_fast.fleet.rows import State
    from dmsign_fast.fleet.sign import plan_run
    from dmsign_fast.fleet.state import FleetState

    signer, options = fleet_options(args)
    references = references_of(args, options.access)
    shown = Shown(args, "planned")
    with tempfile.TemporaryDirectory(prefix="dmsign-plan-") as scratch:
        copy = Path(scratch) / "plan.state"
        if args.state.exists():
            with ReadableState(args.state) as there:
                there.copy_index(copy)
        with FleetState(copy) as state:
            plan = plan_run(state, references, signer, options, progress=shown)
            counts = state.counts()
            failures = state.failures()
    value = {
        "images": counts.images[State.PLANNED],
        "signed_before": counts.images[State.PASSED_OVER],
        "layers": {"distinct": plan.distinct, "to_read": plan.layers},
        "bytes": {"listed": counts.bytes[2], "to_read": plan.size},
        "seconds_of_one_worker": round(plan.seconds, 1),
        "failures": [{"reference": name, "reason": reason} for name, reason in failures],
    }
    if args.output == "json":
        print_json(value)
        return 0
    print_line(f"images:  {value['images']} to sign, {value['signed_before']} signed before")
    print_line(f"layers:  {plan.layers} of {plan.distinct} different ones to read")
    print_line(
        f"bytes:   {size_text(plan.size)} to read once; all images list "
        f"{size_text(counts.bytes[2])}"
    )
    print_line(f"time:    about {plan.seconds:.0f} s of one worker{plan.basis}")
    for name, reason in failures:
        print_line(f"failed: {name}: {reason}")
    return 0
