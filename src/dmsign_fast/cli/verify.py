"""``dmsign-fast verify``: an image's signatures, all of them."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.keys import add_plugin_options
from dmsign_fast.cli.layer.options import add_jobs, add_layer_options, conversion, recipe
from dmsign_fast.cli.options import add_user_metadata, by_name, section
from dmsign_fast.cli.output import print_json, print_line, work
from dmsign_fast.cli.stores import add_image_options, open_image, repository_of
from dmsign_fast.cli.verdicts import print_verdict
from dmsign_fast.cli.verity.options import whole_number
from dmsign_fast.errors import ParameterError, VerificationError
from dmsign_fast.pipeline.forms import FORMS
from dmsign_fast.pipeline.nodes import NODES, node_of
from dmsign_fast.pipeline.strangers import MAX_SIGNATURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from dmsign_fast.pipeline.nodes import Node
    from dmsign_fast.pipeline.verify_image import ImageVerdict, VerifyOptions
    from dmsign_fast.trust.verdict import Trust

__all__ = [
    "ABOUT",
    "EXAMPLES",
    "HELP",
    "MOST_USED",
    "add_arguments",
    "add_node_option",
    "add_trust_options",
    "add_verification_options",
    "node_of_args",
    "run",
    "trust_of",
    "verify_options",
]

HELP = "verify the signatures of an image's layers and manifest"
ABOUT = """\
The layers must have signatures of their root hashes, which the kernel checks too (a dm-verity
artifact), and the manifest a signature as notation makes it (a Notary signature), all by signers
who are trusted. What else refers to the image does no harm; --verbose shows it.
"""
MOST_USED = (
    *("--trust", "--oci-layout", "--scope", "--platform", "--recursive", "--deep", "--for"),
    *("--require-bound", "--no-dm-verity", "--user-metadata"),
)
EXAMPLES = """\
examples:
  dmsign-fast verify registry.example/app:1.0                    by notation's trust policy
  dmsign-fast verify registry.example/app:1.0 --trust root.pem
  dmsign-fast verify --oci-layout image:1.0 --trust root.pem --deep --output json
exit status:
  0 verified; 1 not verified; 7 there is nothing to verify; 4, 6 could not tell; 2 usage
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_image_options(parser)
    add_trust_options(parser)
    what = section(parser, "verification").add_argument
    add_verification_options(what)
    add_node_option(what)
    what("--deep", action="store_true", help="read the layers, and make their root hashes again")
    add_jobs(what)
    add_layer_options(parser)


def add_trust_options(parser: argparse.ArgumentParser) -> None:
    """Whom to believe."""
    trust = section(parser, "trust").add_argument
    trust(
        "--trust",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="trust these certificates (PEM); may be repeated; default: notation's trust policy",
    )
    trust(
        "--timestamp-root-cert",
        type=Path,
        metavar="FILE",
        help="trust this root for timestamps (PEM)",
    )
    trust(
        "--scope",
        help="with --oci-layout: the repository by whose trust policy to verify, such as local/app",
    )
    trust(
        "--revocation", action="store_true", help="ask whether certificates are revoked (CRL, OCSP)"
    )
    add_plugin_options(trust, "verification plugins that a signature names", 60.0)


def add_verification_options(what: Callable[..., object]) -> None:
    """What an image needs."""
    add_user_metadata(what, "this must have been signed with the manifest")
    what(
        "--no-dm-verity",
        action="store_true",
        help="verify the Notary signature of the manifest alone",
    )
    what(
        "--artifact",
        action="append",
        choices=[form.name for form in FORMS],
        help="form in which the layers must be signed; may be repeated; default: any",
    )
    what(
        "--no-manifest-signature",
        action="store_true",
        help="verify the signatures of the layers alone",
    )
    what(
        "--require-bound",
        action="store_true",
        help="the Notary signature must say which root hash each layer has, as that of sign does",
    )
    what(
        "--max-signatures",
        type=whole_number,
        default=MAX_SIGNATURES,
        metavar="N",
        help=f"judge so many referrers of a manifest; default: {MAX_SIGNATURES}",
    )


def add_node_option(what: Callable[..., object]) -> None:
    """Which node an image is for."""
    what(
        "--for",
        dest="node",
        choices=[node.name for node in NODES],
        help="say whether such a node would take the image, and fail if not",
    )


def trust_of(args: argparse.Namespace) -> Trust:
    """Whom the options say to believe: certificates, or notation's trust policy."""
    from dmsign_fast.envelope.trust import load_trust_anchors
    from dmsign_fast.trust.verdict import trust_by_policy, trust_files

    stamps = args.timestamp_root_cert
    if not args.trust:
        if stamps:
            raise ParameterError("--timestamp-root-cert goes with --trust; a policy has its own")
        # a path must not be taken for the name of a repository
        if args.oci_layout != bool(args.scope):
            raise ParameterError(
                "a layout has no repository that the trust policy could name: give --scope, such "
                "as local/app, or certificates by --trust"
                if args.oci_layout
                else "--scope goes with --oci-layout: a registry's repository has a name"
            )
        return trust_by_policy(args.scope or repository_of(args))
    if args.scope:
        raise ParameterError("--scope is of the trust policy, for which --trust stands in")
    return trust_files(
        load_trust_anchors(*args.trust),
        load_trust_anchors(stamps) if stamps else None,
        revocation=args.revocation,
    )


def verify_options(args: argparse.Namespace) -> VerifyOptions:
    """What the options want of an image."""
    from dmsign_fast.pipeline.verify_image import VerifyOptions
    from dmsign_fast.trust.revocation import fetch_revocation
    from dmsign_fast.trust.verification_plugin import PluginOptions

    return VerifyOptions(
        trust=trust_of(args),
        recipe=recipe(args),
        dm_verity=not args.no_dm_verity,
        manifest_signature=not args.no_manifest_signature,
        forms=tuple(dict.fromkeys(args.artifact or ())),
        require_bound=args.require_bound,
        max_signatures=args.max_signatures,
        user_metadata=dict(args.user_metadata),
        revocation=fetch_revocation if args.revocation else None,
        plugin=PluginOptions(by_name(args.plugin_config, "--plugin-config"), args.plugin_timeout),
        deep=args.deep,
        platform=args.platform,
        recursive=args.recursive,
        jobs=max(1, args.jobs),
        conversion=conversion(args, max(1, args.jobs)),
    )


def _json(verdict: ImageVerdict) -> dict[str, object]:
    known = {"verified": verdict.verified, "missing": verdict.missing, "bound": verdict.bound}
    return known | dataclasses.asdict(verdict)


def node_of_args(args: argparse.Namespace) -> Node | None:
    """The node that the options name, None without."""
    if args.node is None:
        return None
    if args.no_dm_verity:
        raise ParameterError("--for is about the signatures of layers: leave out --no-dm-verity")
    return node_of(args.node)


def _print_node(name: str, problems: tuple[str, ...]) -> None:
    print_line(f"A node {name} {'would not take it:' if problems else 'would take it'}")
    for problem in problems:
        print_line(f"  {problem}")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.pipeline.node_check import node_problems
    from dmsign_fast.pipeline.passed import check_passed
    from dmsign_fast.pipeline.verify_image import verify_image

    options = verify_options(args)
    node = node_of_args(args)
    problems: list[tuple[str, ...]] = []
    with work(args, "verifying", None) as done, open_image(args) as (store, wanted):
        verdicts = verify_image(store, wanted, options, progress=done)
        if node:
            problems = [node_problems(store, verdict, node) for verdict in verdicts]
    verified = all(verdict.verified for verdict in verdicts)
    name = repository_of(args)
    if args.output == "json":
        images = [_json(verdict) for verdict in verdicts]
        for image, found in zip(images, problems, strict=False):
            image["node"] = {"name": args.node, "takes": not found, "problems": found}
        print_json(
            {"reference": args.reference, "verified": verified, "images": images} | done.json
        )
        args.printed = True
    else:
        for verdict in verdicts:
            print_verdict(name, verdict, verbose=args.verbose)
        for found in problems:
            _print_node(args.node, found)
    check_passed(verdicts, name)
    if any(problems):
        raise VerificationError(f"a node {args.node} would not take {args.reference}")
    return 0
