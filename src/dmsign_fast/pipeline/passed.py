"""Whether verdicts let an image pass, and if not, in a sentence, what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.arguments import TEXT, instance, several, takes
from dmsign_fast.errors import UnsignedError, VerificationError
from dmsign_fast.pipeline.verify_image import ImageVerdict

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_passed"]


@takes(verdicts=several(instance(ImageVerdict, ""), "what verify_image returns"), name=TEXT)
def check_passed(verdicts: Sequence[ImageVerdict], name: str) -> None:
    """Pass over verdicts that all let their manifests pass; ``name`` is that of the repository.

    Raises:
        UnsignedError: there is no signature of any of them.
        VerificationError: a manifest has none that counts.
    """
    bad = next((verdict for verdict in verdicts if not verdict.passed), None)
    if bad is None:
        return
    image = f"{name}@{bad.manifest}"
    if not any(verdict.referrers for verdict in verdicts) and not bad.unjudged:
        raise UnsignedError(
            f"{image} has {_none_of(bad.missing)}: nothing to verify; sign it first, with "
            "dmsign-fast sign"
        )
    there = {name for one in bad.referrers for name in (one.kind, f"{one.kind} {one.form}")}
    # of those that were not looked at nobody knows
    refused = [kind for kind in bad.missing if kind in there or bad.unjudged]
    absent = [kind for kind in bad.missing if kind not in refused]
    parts = []
    if refused:
        why = next((f": {one.problem}" for one in bad.referrers if one.problem), "")
        parts.append(f"{_none_of(refused)} of {image} is valid and trusted{why}")
    if absent:
        parts.append(f"{image if not refused else 'it'} has {_none_of(absent)}{_advice(absent)}")
    if bad.unjudged:
        parts.append(f"{bad.unjudged} were not looked at: raise --max-signatures")
    raise VerificationError("; ".join(parts))


def _none_of(kinds: Sequence[str]) -> str:
    return " and ".join(f"no {_words(kind)}" for kind in kinds)


def _words(kind: str) -> str:
    name, _, form = kind.partition(" ")
    words = {"notary": "Notary Project signature", "dm-verity": "dm-verity artifact"}[name]
    return f"{words} of the form {form}" if form else words


def _advice(absent: Sequence[str]) -> str:
    """What to do where signatures of these kinds are not there, and others are."""
    if "notary" in absent:
        return ": sign its manifest too, or give --no-manifest-signature"
    if "dm-verity" in absent:
        return ": sign its layers too, or give --no-dm-verity to verify the manifest alone"
    return ": sign it in that form too, with --artifact"
