"""``dmsign-fast fleet check``: whether workers can do what a run would ask of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmsign_fast import __version__
from dmsign_fast.cli.fleet.options import accesses, add_engine_options
from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.cli.stores import add_store_options

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "ask each worker for its version and C core, and whether it reaches registries"
EXAMPLES = """\
examples:
  dmsign-fast fleet check --scheduler tls://dask.example:8786 registry.example/prod/app
exit status:
  0 every worker can; 1 one cannot; 4 the scheduler cannot be reached
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "places",
        metavar="REGISTRY/REPOSITORY",
        nargs="*",
        help="ask workers whether they reach this repository",
    )
    add_store_options(parser)
    add_engine_options(parser)


def _lacks(facts: Any, ours: dict[str, object]) -> list[str]:
    if not isinstance(facts, dict):  # what a function that fails gives
        return [f"it cannot run dmsign-fast: {facts}"]
    lacks = []
    if facts["version"] != __version__:
        lacks.append(f"it has dmsign-fast {facts['version']}, and this is {__version__}")
    if facts["vector"] != ours["vector"]:
        lacks.append(f"its C core ({facts['implementation']}) computes another root hash")
    lacks += [f"{place}: {reason}" for place, reason in facts["unreached"].items()]
    return lacks


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.fleet.engine import open_engine
    from dmsign_fast.fleet.task import worker_facts

    ours = worker_facts()
    _, access = accesses(args)
    with open_engine(scheduler=args.scheduler, workers=args.workers) as engine:
        found = engine.everywhere(worker_facts, tuple(args.places), access)
    lacks = {worker: _lacks(facts, ours) for worker, facts in found.items()}
    if args.output == "json":
        workers = {
            worker: {"facts": facts if isinstance(facts, dict) else None, "lacks": lacks[worker]}
            for worker, facts in found.items()
        }
        print_json({"good": not any(lacks.values()), "workers": workers})
        args.printed = True
    else:
        for worker, problems in lacks.items():
            print_line(f"{worker}: {'; '.join(problems) or 'good'}")
    return 1 if any(lacks.values()) else 0
