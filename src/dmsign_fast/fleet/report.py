"""What became of a run: values for JSON, rows for CSV, and a page of HTML that needs no network."""

from __future__ import annotations

import html
import json
import shlex
from typing import TYPE_CHECKING, Any

from dmsign_fast import __version__
from dmsign_fast.erofs.recipe import RECIPES
from dmsign_fast.fleet.report_page import PAGE
from dmsign_fast.fleet.rows import State
from dmsign_fast.pipeline.forms import FORMS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dmsign_fast.fleet.reading import ReadableState
    from dmsign_fast.fleet.rows import Counts

__all__ = ["CSV_COLUMNS", "csv_rows", "failed_images", "html_page", "summary"]

CSV_COLUMNS = (
    *("reference", "place", "manifest", "state", "reason"),
    *("number", "layer", "diff_id", "recipe", "root_hash"),
)


def summary(counts: Counts) -> dict[str, Any]:
    """The totals of a run, as JSON has them."""
    layers, hashed, failed = counts.layers
    distinct, done, listed = counts.bytes
    return {
        "began": counts.began,
        "ended": counts.ended,
        "parameters": dict(counts.parameters),
        "images": {str(state): number for state, number in counts.images.items()},
        "references": {"waiting": counts.unresolved[0], "failed": counts.unresolved[1]},
        "layers": {"distinct": layers, "hashed": hashed, "failed": failed},
        "bytes": {"distinct": distinct, "hashed": done, "listed": listed},
    }


def _repeat(parameters: Mapping[str, Any], reference: str) -> str:
    """The command that tries one image again; options of keys or trust have to be added."""
    words = ["dmsign-fast", parameters["command"]]
    words += ["--oci-layout"] if parameters.get("layout") else []
    forms = parameters.get("artifact") or ()
    if list(forms) != [FORMS[0].name]:
        words += [word for form in forms for word in ("--artifact", form)]
    recipes = [f"{it['name']}@{it['mkfs-version']}" for it in parameters.get("recipes", ())]
    if recipes == [f"{RECIPES[0].name}@{RECIPES[0].mkfs_version}"]:
        recipes = []
    # sign takes one recipe at a time
    options = [["--recipe", recipe] for recipe in recipes] or [[]]
    return " && ".join(shlex.join([*words, *option, reference]) for option in options)


def failed_images(state: ReadableState, counts: Counts) -> list[dict[str, Any]]:
    """Every failure: its reference, reason, and the command that repeats it."""
    references = [
        {
            "reference": reference,
            "manifest": None,
            "reason": reason,
            "command": _repeat(counts.parameters, reference),
        }
        for reference, reason in state.failures()
    ]
    images = [
        {
            "reference": image.reference,
            "manifest": image.digest,
            "reason": image.reason,
            "command": _repeat(counts.parameters, f"{image.place}@{image.digest}"),
        }
        for image in state.images(State.FAILED)
    ]
    return references + images


def csv_rows(state: ReadableState) -> Iterator[tuple[object, ...]]:
    """A row for each root hash of each layer of each image, see CSV_COLUMNS."""
    facts = state.layer_facts()
    for image in state.images():
        head = (image.reference, image.place, image.digest, str(image.state), image.reason or "")
        if not image.layers:
            yield (*head, "", "", "", "", "")
        for number, layer in enumerate(image.layers):
            listed, _, roots = facts[layer]
            for recipe, made in roots.items() or [("", {"root_hash": ""})]:
                yield (*head, number, listed.digest, listed.diff_id, recipe, made["root_hash"])


def html_page(state: ReadableState) -> Iterator[str]:
    """A page with the totals, a table that can be sorted and filtered, and charts; in pieces."""
    counts = state.counts()
    facts = state.layer_facts()
    data = {
        "version": __version__,
        "summary": summary(counts),
        "failures": failed_images(state, counts),
        "layers": {
            number: {
                "digest": listed.digest,
                "size": listed.size,
                "failure": failure,
                "roots": {name: made["root_hash"] for name, made in roots.items()},
                "seconds": max((made["seconds"] for made in roots.values()), default=0),
            }
            for number, (listed, failure, roots) in facts.items()
        },
    }
    before, _, rest = PAGE.partition("@DATA@")
    between, _, after = rest.partition("@IMAGES@")
    yield before.replace("@TITLE@", html.escape(f"dmsign-fast fleet: {state.path.name}"))
    yield _script(data)
    yield between
    for at, image in enumerate(state.images()):
        yield ("," if at else "") + _script(
            [
                image.reference,
                f"{image.place}@{image.digest}",
                str(image.state),
                list(image.layers),
                image.seconds,
                image.reason or "",
            ]
        )
    yield after


def _script(value: object) -> str:
    """JSON that may stand in a script of HTML, whatever strangers called their images."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
