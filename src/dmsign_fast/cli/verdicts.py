"""What ``verify`` says of an image: one line, the reasons of a refusal, or with --verbose all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dmsign_fast.pipeline.verify_image import ImageVerdict, ReferrerVerdict

__all__ = ["print_verdict", "referrer_name"]

_MOST_REFUSED = 20
_MOST_SIGNERS = 3


def referrer_name(kind: str, form: str | None = None) -> str:
    """What people call an artifact of a kind and, of a dm-verity artifact, of a form."""
    name = {"notary": "Notary signature", "dm-verity": "dm-verity artifact"}[kind]
    return f"{name} (form {form})" if form else name


def print_verdict(name: str, verdict: ImageVerdict, *, verbose: bool = False) -> None:
    """One line for an image that passes; of a refused image the reasons too.

    Args:
        name: of the repository.
        verdict: on one manifest.
        verbose: every signature and every finding, those of strangers too.
    """
    image = f"{name}@{verdict.manifest}"
    if verdict.skipped and not verdict.missing:
        print_line(f"Not verified, since the trust policy skips it: {image}")
    elif verdict.verified:
        print_line(f"Successfully verified signature for {image}: {_good(verdict)}")
    else:
        print_line(f"Not verified: {image}")
    if verbose:
        _print_all(verdict)
    elif not verdict.passed:
        _print_reasons(verdict)


def _good(verdict: ImageVerdict) -> str:
    """What is signed, and by whom."""
    accepted = [one for one in verdict.referrers if one.accepted]
    layers = [layer for one in accepted for layer in one.layers]
    signed = {}
    notary = [one.signature.signer for one in accepted if one.signature]
    kernel = [layer.signature.signer for layer in layers if layer.signature]
    if notary:
        signed["Notary signature"] = _signers(one.subject for one in notary if one)
    if kernel:
        count = len({layer.layer for layer in layers})
        of = f"{count} layers" if count > 1 else "1 layer"
        signed[f"kernel signatures of {of}"] = _signers(one.subject for one in kernel)
    if len(set(signed.values())) == 1:
        text = f"{' and '.join(signed)} by {next(iter(signed.values()))}"
    else:
        text = ", ".join(f"{what} by {by}" for what, by in signed.items())
    if any(layer.recomputed for layer in layers):
        text += "; the layers give these root hashes"
    return text


def _signers(subjects: Iterable[str]) -> str:
    names = list(dict.fromkeys(subjects))
    more = [f"{len(names) - _MOST_SIGNERS} more"] if len(names) > _MOST_SIGNERS else []
    return " and ".join(names[:_MOST_SIGNERS] + more)


def _print_reasons(verdict: ImageVerdict) -> None:
    """Why there is no good signature of the kinds that are missing; others do not matter."""
    missing = set(verdict.missing)
    refused = [
        one
        for one in verdict.referrers
        if not one.accepted and missing & {one.kind, f"{one.kind} {one.form}"}
    ]
    for one in refused[:_MOST_REFUSED]:  # strangers may push any number
        print_line(f"  {referrer_name(one.kind, one.form)} {one.digest} is refused: {one.problem}")
    if len(refused) > _MOST_REFUSED:
        print_line(f"  and {len(refused) - _MOST_REFUSED} more that are refused")
    _print_unread(verdict)


def _print_unread(verdict: ImageVerdict) -> None:
    for problem in verdict.passed_over:
        print_line(f"  passed over: {problem}")
    if verdict.unjudged:
        print_line(f"  and {verdict.unjudged} more, not looked at: see --max-signatures")


def _print_all(verdict: ImageVerdict) -> None:
    refused = 0
    for one in verdict.referrers:
        refused += not one.accepted
        if one.accepted or refused <= _MOST_REFUSED:
            _print_referrer(one)
    if refused > _MOST_REFUSED:
        print_line(f"  and {refused - _MOST_REFUSED} more that are refused")
    _print_unread(verdict)


def _print_referrer(one: ReferrerVerdict) -> None:
    found = "accepted" if one.accepted else f"refused: {one.problem}"
    print_line(f"  {referrer_name(one.kind, one.form)} {one.digest}: {found}")
    if one.signature:
        for finding in one.signature.findings:
            print_line(f"    {finding.validation}: {finding.outcome}: {finding.evidence}")
    for layer in one.layers:
        deep = {True: ", made again", False: ", not that of the layer", None: ""}
        by = f" signed by {layer.signature.signer.subject}" if layer.signature else ""
        print_line(f"    {layer.root_hash} of {layer.layer}{by}{deep[layer.recomputed]}")
