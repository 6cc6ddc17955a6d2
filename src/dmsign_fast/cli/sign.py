"""``dmsign-fast sign``: an image, for kernels and for verifiers of the Notary Project."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast import __version__
from dmsign_fast.cli.keys import add_key_options, add_signature_options, signer_of
from dmsign_fast.cli.layer.options import add_layer_options, conversion, recipe
from dmsign_fast.cli.options import by_name, name_and_value
from dmsign_fast.cli.output import note, print_json, print_summary, work
from dmsign_fast.cli.stores import add_image_options, open_image, repository_of
from dmsign_fast.cli.verity.options import whole_number
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dmsign_fast.pipeline.sign_image import Reuse, SignedImage, SignOptions

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "sign an image: its layers for the kernel, its manifest for the Notary Project"
EXAMPLES = """\
examples:
  dmsign-fast sign registry.example/app:1.0 --key key.pem --cert chain.pem
  dmsign-fast sign registry.example/app@sha256:2d35... --key release --recipe containerd@1.8.6
  dmsign-fast sign --oci-layout image:1.0 --key key.pem --cert chain.pem --output json
"""
_MEDIA_TYPES = {"jws": "application/jose+json", "cose": "application/cose"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 36525 * 86400


def _duration(text: str) -> timedelta:
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _UNITS or not int(number):
        message = f"{text!r} is not a duration: give a number and s, m, h or d, such as 24h"
        raise argparse.ArgumentTypeError(message)
    seconds = int(number) * _UNITS[unit]
    if seconds > _LONGEST:
        message = f"{text!r} is longer than 100 years"
        raise argparse.ArgumentTypeError(message)
    return timedelta(seconds=seconds)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_image_options(parser)
    add_key_options(parser)
    what = parser.add_argument_group("signature").add_argument
    what("--artifact", choices=("notation", "osguard"), default="notation", help="of the layers")
    what("--signature-format", choices=tuple(_MEDIA_TYPES), default="jws", help="default: jws")
    what(
        "--manifest-form",
        choices=("legacy", "artifact-type"),
        default="legacy",
        help="of the manifest's signature; notation finds only the legacy one in OCI layouts",
    )
    what("--expiry", type=_duration, metavar="24h", help="of the manifest's signature")
    what(
        "--user-metadata",
        type=name_and_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="signed with the manifest",
    )
    what("--timestamp-url", metavar="URL", help="of an RFC 3161 authority")
    what("--timestamp-root-cert", type=Path, metavar="FILE", help="of that authority")
    what("--no-dm-verity", action="store_true", help="sign the manifest only")
    what("--no-manifest-signature", action="store_true", help="sign the layers only")
    what("--force", action="store_true", help="also where this key has signed already")
    what(
        "--reuse",
        action="store_true",
        help="take root hashes that this key has signed before, in the same repository or layout",
    )
    what("--reuse-from", metavar="TAG|DIGEST", help="the same, of this image alone")
    what(
        "--reuse-cert",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="with --reuse: also those that this certificate's key has signed, PEM",
    )
    what("--jobs", type=whole_number, default=1, metavar="N", help="layers at a time; default: 1")
    add_signature_options(parser)
    add_layer_options(parser)


def _timestamp(args: argparse.Namespace) -> Callable[[bytes], bytes] | None:
    if bool(args.timestamp_url) != bool(args.timestamp_root_cert):
        raise ParameterError(
            "--timestamp-url and --timestamp-root-cert, which checks the answer, need each other"
        )
    if not args.timestamp_url:
        return None
    from dmsign_fast.envelope.timestamp import over_http, request_timestamp
    from dmsign_fast.envelope.trust import load_trust_anchors

    anchors = load_trust_anchors(args.timestamp_root_cert)
    ask = over_http(args.timestamp_url)
    return lambda signature: request_timestamp(signature, ask, anchors)


def _reuse(args: argparse.Namespace) -> Reuse | None:
    if not args.reuse and not args.reuse_from:
        if args.reuse_cert:
            raise ParameterError("--reuse-cert goes with --reuse or --reuse-from")
        return None
    from dmsign_fast.envelope.trust import load_trust_anchors
    from dmsign_fast.pipeline.sign_image import Reuse

    certificates = load_trust_anchors(*args.reuse_cert).certificates if args.reuse_cert else ()
    return Reuse(reference=args.reuse_from, certificates=certificates)


def _options(args: argparse.Namespace) -> SignOptions:
    from dmsign_fast.pipeline.sign_image import SignOptions

    return SignOptions(
        recipe=recipe(args),
        form=args.artifact,
        media_type=_MEDIA_TYPES[args.signature_format],
        legacy=args.manifest_form == "legacy",
        expiry=datetime.now(UTC) + args.expiry if args.expiry else None,
        user_metadata=by_name(args.user_metadata, "--user-metadata"),
        timestamp=_timestamp(args),
        agent=f"dmsign-fast/{__version__}",
        dm_verity=not args.no_dm_verity,
        manifest_signature=not args.no_manifest_signature,
        force=args.force,
        platform=args.platform,
        recursive=args.recursive,
        jobs=args.jobs,
        conversion=conversion(args),
        pkcs7_digest=args.digest,
        certificates=not args.no_certs,
        reuse=_reuse(args),
    )


def _json(signed: SignedImage) -> dict[str, Any]:
    def digest(descriptor: Any) -> str | None:
        return descriptor and str(descriptor.digest)

    return {
        "manifest": digest(signed.manifest),
        "media_type": signed.manifest.media_type,
        "dm_verity_artifact": digest(signed.dm_verity),
        "notary_signature": digest(signed.notary),
        "added": [digest(one) for one in signed.added],
        "layers": [
            {
                "digest": layer.digest,
                "diff_id": layer.diff_id,
                "root_hash": layer.root_hash.hex(),
                "size": layer.size,
                "uncompressed_size": layer.uncompressed_size,
                "reused": layer.reused,
            }
            for layer in signed.layers
        ],
        "seconds": {name: round(value, 6) for name, value in signed.seconds.items()},
    }


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.sign_image import sign_image

    options, signer = _options(args), signer_of(args)
    with work(args, "signing", None) as done, open_image(args) as (store, wanted):
        if ":" not in wanted:
            note(
                args, f"{args.reference} names a tag, which may move: its digest is what is signed"
            )
        signed = sign_image(store, wanted, signer, options, progress=done, found=done.expect)
    if args.output == "json":
        subject = signer.certificate_chain[0].subject.rfc4514_string()
        images = [_json(one) for one in signed]
        made_by = {"recipe": options.recipe.fields(), "signer": subject}
        print_json({"reference": args.reference, "images": images} | made_by | done.json)
    else:
        name = repository_of(args)
        for one in signed:
            for layer in one.layers:
                reused = f"  reused from {layer.reused}" if layer.reused else ""
                print(f"{layer.root_hash.hex()}  {layer.digest}{reused}")
            verb = "Successfully signed" if one.added else "Already signed"
            print(f"{verb} {name}@{one.manifest.digest}")
            for artifact in one.added:
                print(f"Pushed the signature to {name}@{artifact.digest}")
    if not args.quiet:
        for stage in ("hash", "sign", "push"):
            note(args, f"{stage}: {sum(one.seconds[stage] for one in signed):.2f} s")
    print_summary(args, done, "signed layers of")
    return 0
