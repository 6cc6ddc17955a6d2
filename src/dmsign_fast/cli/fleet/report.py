"""``dmsign-fast fleet report``: what became of a run, for people, scripts and browsers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_json, print_line

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "OUTPUTS", "add_arguments", "run"]

HELP = "say what became of each image of a run"
EXAMPLES = """\
examples:
  dmsign-fast fleet report run.state
  dmsign-fast fleet report run.state --output html > report.html     one page, no network
  dmsign-fast fleet report run.state --output csv > root-hashes.csv
"""
OUTPUTS = ("text", "json", "csv", "html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("state", type=Path, metavar="STATE", help="the state file of the run")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.fleet.reading import ReadableState
    from dmsign_fast.fleet.report import CSV_COLUMNS, csv_rows, failed_images, html_page, summary

    with ReadableState(args.state) as state:
        counts = state.counts()
        if args.output == "html":
            for piece in html_page(state):
                sys.stdout.write(piece)
        elif args.output == "csv":
            import csv

            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(CSV_COLUMNS)
            writer.writerows(csv_rows(state))
        elif args.output == "json":
            facts = state.layer_facts()
            images = [
                {
                    "reference": image.reference,
                    "place": image.place,
                    "manifest": image.digest,
                    "state": image.state,
                    "reason": image.reason,
                    "added": image.added,
                    "seconds": image.seconds,
                    "layers": [
                        {"digest": facts[layer][0].digest, "root_hashes": facts[layer][2]}
                        for layer in image.layers
                    ],
                }
                for image in state.images()
            ]
            failures = failed_images(state, counts)
            print_json(summary(counts) | {"failures": failures, "images": images})
        else:
            for image in state.images():
                print_line(f"{image.state:<14} {image.place}@{image.digest}  {image.reference}")
            for failure in failed_images(state, counts):
                print_line(f"failed: {failure['reference']}: {failure['reason']}")
                print_line(f"  repeat: {failure['command']}")
    return 0
