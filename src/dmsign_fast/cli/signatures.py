"""What is signed and how, on the command line, and what came of it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.keys import (
    add_and_key,
    add_key_options,
    add_manifest_key,
    add_signature_options,
    other_signer_of,
    signer_of,
)
from dmsign_fast.cli.layer.options import add_jobs, add_layer_options, conversion, recipe
from dmsign_fast.cli.options import AGENT, add_user_metadata, by_name, section
from dmsign_fast.cli.output import note, print_line
from dmsign_fast.cli.verdicts import referrer_name
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dmsign_fast.envelope.timestamp import Timestamper
    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.pipeline.plan import Reuse, SignedImage, SignedLayer, SignOptions
    from dmsign_fast.signing.signer import Signer

__all__ = [
    "add_replace",
    "add_sign_options",
    "add_signing_options",
    "add_timestamp_options",
    "duration",
    "layer_json",
    "print_layers",
    "print_signed",
    "print_warnings",
    "sign_options",
    "signed_json",
    "signing",
    "timestamp",
]

_MEDIA_TYPES = {"jws": "application/jose+json", "cose": "application/cose"}
_ALL_FORMS = "all"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 36525 * 86400


def duration(text: str) -> timedelta:
    """The type of options such as ``24h``."""
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _UNITS or not int(number):
        message = f"{text!r} is not a duration: give a number and s, m, h or d, such as 24h"
        raise argparse.ArgumentTypeError(message)
    seconds = int(number) * _UNITS[unit]
    if seconds > _LONGEST:
        message = f"{text!r} is longer than 100 years"
        raise argparse.ArgumentTypeError(message)
    return timedelta(seconds=seconds)


def add_signing_options(parser: argparse.ArgumentParser, *, fleet: bool = False) -> None:
    """All that decides who signs, and what, of an image or a ``fleet``; ``signing`` reads it."""
    add_key_options(parser)
    add_and_key(parser)
    add_manifest_key(parser)
    add_sign_options(parser, fleet=fleet)
    add_timestamp_options(parser)
    section(parser, "signature").add_argument(
        "--force", action="store_true", help="sign also where it is signed already"
    )
    add_replace(parser)


def signing(args: argparse.Namespace, made_by: Recipe | None = None) -> tuple[Signer, SignOptions]:
    """Who signs, and what; ``made_by`` is the recipe that the options name."""
    options = replace(
        sign_options(args, made_by),
        timestamp=timestamp(args),
        force=args.force,
        replace=args.replace,
    )
    signer, other = signer_of(args), other_signer_of(args, "and")
    return signer, replace(
        options,
        and_by=(other,) if other else (),
        manifest_signer=other_signer_of(args, "manifest"),
    )


def add_sign_options(parser: argparse.ArgumentParser, *, fleet: bool = False) -> None:
    """What decides the signatures of an image, or of a ``fleet``, which has a memory of its own."""
    from dmsign_fast.pipeline.forms import FORMS

    names = [form.name for form in FORMS]
    what = section(
        parser,
        "signature",
        "The layers get a dm-verity artifact, with the signatures that nodes give to their "
        "kernels. The manifest gets a Notary signature, as notation makes it. Both refer to the "
        "image: they are its referrers.",
    ).add_argument
    what(
        "--artifact",
        action="append",
        choices=[*names, _ALL_FORMS],
        help="form of the dm-verity artifact: which nodes read it; may be repeated; default: "
        f"{names[0]}",
    )
    what(
        "--signature-format",
        choices=tuple(_MEDIA_TYPES),
        default="jws",
        help="envelope of the Notary signature; default: jws",
    )
    what(
        "--manifest-form",
        choices=("legacy", "artifact-type"),
        default="legacy",
        help="type of the Notary signature; in OCI layouts notation finds only legacy, the default",
    )
    what(
        "--expiry",
        type=duration,
        metavar="24h",
        help="let the Notary signature expire after so long, such as 24h or 30d",
    )
    add_user_metadata(what, "sign this with the manifest")
    what("--no-dm-verity", action="store_true", help="sign the manifest alone")
    what("--no-manifest-signature", action="store_true", help="sign the layers alone")
    if fleet:
        parser.set_defaults(reuse=False, reuse_from=None, reuse_cert=[], jobs=1, recursive=False)
    else:
        _add_reuse_options(what)
    add_signature_options(parser)
    add_layer_options(parser, several=fleet)


def _add_reuse_options(what: Callable[..., object]) -> None:
    what(
        "--reuse",
        action="store_true",
        help="do not read layers again that this key has signed in the same repository or layout",
    )
    what(
        "--reuse-from",
        metavar="TAG|DIGEST",
        help="do as --reuse, but with the layers of this image alone",
    )
    what(
        "--reuse-cert",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="with --reuse: layers count that the key of this certificate has signed (PEM)",
    )
    add_jobs(what)


def add_replace(parser: argparse.ArgumentParser) -> None:
    """What becomes of former artifacts."""
    section(parser, "signature").add_argument(
        "--replace",
        action="store_true",
        help="remove former dm-verity artifacts of the same key and form, once the new are there",
    )


def print_warnings(args: argparse.Namespace, signed: Iterable[SignedImage]) -> None:
    """What nodes will make of what is there now, on standard error."""
    for text in (warning for one in signed for warning in one.warnings):
        note(args, f"warning: {text}")


def add_timestamp_options(parser: argparse.ArgumentParser) -> None:
    """Who says when a signature was made."""
    add = section(parser, "timestamp").add_argument
    add("--timestamp-url", metavar="URL", help="let this RFC 3161 authority vouch for the time")
    add("--timestamp-root-cert", type=Path, metavar="FILE", help="the root of that authority (PEM)")


def timestamp(args: argparse.Namespace) -> Timestamper | None:
    """What fetches timestamps, if they are wanted."""
    if bool(args.timestamp_url) != bool(args.timestamp_root_cert):
        raise ParameterError(
            "--timestamp-url and --timestamp-root-cert, which checks the answer, need each other"
        )
    if not args.timestamp_url:
        return None
    from dmsign_fast.envelope.timestamp import Timestamper, over_http
    from dmsign_fast.envelope.trust import load_trust_anchors

    anchors = load_trust_anchors(args.timestamp_root_cert)
    return Timestamper(over_http(args.timestamp_url), anchors)


def _reuse(args: argparse.Namespace) -> Reuse | None:
    if not args.reuse and not args.reuse_from:
        if args.reuse_cert:
            raise ParameterError("--reuse-cert goes with --reuse or --reuse-from")
        return None
    from dmsign_fast.envelope.trust import load_trust_anchors
    from dmsign_fast.pipeline.plan import Reuse

    certificates = load_trust_anchors(*args.reuse_cert).certificates if args.reuse_cert else ()
    return Reuse(reference=args.reuse_from, certificates=certificates)


def sign_options(args: argparse.Namespace, made_by: Recipe | None = None) -> SignOptions:
    """What the options want signed, and how; ``made_by`` is the recipe that they name."""
    from dmsign_fast.pipeline.plan import SignOptions

    wanted = made_by or recipe(args)
    return SignOptions(
        recipe=wanted,
        forms=_forms(args, wanted),
        media_type=_MEDIA_TYPES[args.signature_format],
        legacy=args.manifest_form == "legacy",
        expiry=args.expiry,
        user_metadata=by_name(args.user_metadata, "--user-metadata"),
        agent=AGENT,
        dm_verity=not args.no_dm_verity,
        manifest_signature=not args.no_manifest_signature,
        platform=args.platform,
        recursive=args.recursive,
        jobs=args.jobs,
        conversion=conversion(args),
        pkcs7_digest=args.digest,
        certificates=not args.no_certs,
        reuse=_reuse(args),
    )


def _forms(args: argparse.Namespace, wanted: Recipe) -> tuple[str, ...]:
    """The forms that the options name, each once, in the order of the table."""
    from dmsign_fast.pipeline.forms import FORMS

    named = args.artifact or [FORMS[0].name]
    if _ALL_FORMS not in named:
        return tuple(form.name for form in FORMS if form.name in named)
    misfits = {form.name: misfit for form in FORMS if (misfit := form.misfit(wanted))}
    for name, misfit in misfits.items():
        if name in named:
            raise ParameterError(f"{misfit}: use another --recipe")
        note(args, f"--artifact {_ALL_FORMS} leaves one out: {misfit}")
    return tuple(form.name for form in FORMS if form.name not in misfits)


def layer_json(layer: SignedLayer) -> dict[str, Any]:
    """All that is known of a layer."""
    return {
        "digest": layer.digest,
        "diff_id": layer.diff_id,
        "root_hash": layer.root_hash.hex(),
        "size": layer.size,
        "uncompressed_size": layer.uncompressed_size,
        "reused": layer.reused,
    }


def signed_json(signed: SignedImage) -> dict[str, Any]:
    """All that is known of a signed manifest."""

    def digest(descriptor: Any) -> str | None:
        return descriptor and str(descriptor.digest)

    return {
        "manifest": digest(signed.manifest),
        "media_type": signed.manifest.media_type,
        "dm_verity_artifact": digest(signed.dm_verity),
        "dm_verity_artifacts": {name: digest(one) for name, one in signed.artifacts.items()},
        "notary_signature": digest(signed.notary),
        "added": [digest(one) for one in signed.added],
        "removed": [digest(one) for one in signed.removed],
        "warnings": list(signed.warnings),
        "layers": [layer_json(layer) for layer in signed.layers],
        "seconds": {name: round(value, 6) for name, value in signed.seconds.items()},
    }


def print_layers(layers: Iterable[SignedLayer]) -> None:
    """The root hash of each different layer."""
    for layer in dict.fromkeys(layers):
        reused = f"  reused from {layer.reused}" if layer.reused else ""
        print(f"{layer.root_hash.hex()}  {layer.digest}{reused}")


def print_signed(
    name: str, signed: SignedImage, signers: Mapping[str, str], *, verbose: bool = False
) -> None:
    """What is signed now, and each artifact that is new.

    Args:
        name: of the repository.
        signed: what became of one manifest.
        signers: the subjects of the signers, by what they have signed: layers, manifest.
        verbose: the root hash of each layer too.
    """
    if verbose:
        print_layers(signed.layers)
    verb = "Successfully signed" if signed.added else "Already signed"
    print_line(f"{verb} {name}@{signed.manifest.digest}: {_what(signed, signers)}")
    form_of_digest = {one.digest: form for form, one in signed.artifacts.items()}
    for artifact in signed.added:
        form = form_of_digest.get(artifact.digest)
        what = referrer_name("dm-verity", form) if form else referrer_name("notary")
        print_line(f"Pushed {name}@{artifact.digest}: {what} of {signed.manifest.digest}")
    for artifact in signed.removed:
        print_line(f"Removed {name}@{artifact.digest}: former {referrer_name('dm-verity')}")


def _what(signed: SignedImage, signers: Mapping[str, str]) -> str:
    """The manifest and so many layers, and by whom."""
    reused = sum(layer.reused is not None for layer in signed.layers)
    count = len(signed.layers)
    layers = f"{count} layer{'s' * (count > 1)}" + (f" ({reused} reused)" if reused else "")
    parts = {"layers": layers if count else "", "manifest": "the manifest" if signed.notary else ""}
    named = {what: text for what, text in parts.items() if text}
    if not named:
        return "it has no layers, and its manifest was not to be signed"
    by = {signers[what] for what in named}
    if len(by) == 1:
        return f"{' and '.join(named.values())} by {by.pop()}"
    return " and ".join(f"{text} by {signers[what]}" for what, text in named.items())
