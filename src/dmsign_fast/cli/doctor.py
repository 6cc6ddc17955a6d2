"""``dmsign-fast doctor``: does this node enforce signatures, and why does Linux refuse one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.images import add_images_options, verified_images
from dmsign_fast.cli.output import note, print_json, print_line
from dmsign_fast.cli.verity.options import hex_bytes, read_root_hash
from dmsign_fast.errors import ParameterError, UnsignedError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptography import x509

    from dmsign_fast.envelope.linux import LinuxVerdict
    from dmsign_fast.node.findings import Finding
    from dmsign_fast.node.system import System
    from dmsign_fast.pipeline.nodes import Node
    from dmsign_fast.pipeline.verify_image import ImageVerdict

__all__ = ["ABOUT", "EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "say whether this node enforces signatures, or why Linux refuses a signature"
ABOUT = """\
Linux opens a signed device only if a certificate in one of its keyrings (.dm-verity, or those that
it is built with) stands for the signature. Whether it refuses unsigned devices is up to its
configuration. doctor looks at all of that and says what to do.
"""
EXAMPLES = """\
examples:
  sudo dmsign-fast doctor --cert signer.pem --probe-seal
  dmsign-fast doctor --root /mnt/image --output json
an image, by what this node's containerd reads and this node's kernel trusts:
  sudo dmsign-fast doctor --for-image registry.example/app:1.0 --trust root.pem
off line, on any machine, what Linux says to a signature that it has these certificates for:
  dmsign-fast doctor --signature image.roothash.p7s --trust signer.pem --root-hash ROOT_HASH
exit status:
  0    the node enforces; Linux accepts the signature
  1    it does not; Linux refuses it
  4    something that decides could not be seen
"""
_STATUS = {"ok": 0, "accepted": 0, "problem": 1, "refused": 1, "unknown": 4}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="look at the node whose files are here; default: /",
    )
    add(
        "--cert",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="the signer's certificates, which should be in the kernel's keyrings (PEM or DER); "
        "may be repeated",
    )
    add(
        "--probe-seal",
        action="store_true",
        help="ask Linux whether its keyring .dm-verity is sealed, by a change that always fails",
    )
    add(
        "--for-image",
        dest="references",
        action="append",
        default=[],
        metavar="REF",
        help="say whether this node would take the image; may be repeated",
    )
    add(
        "--signature",
        type=Path,
        metavar="FILE",
        help="say what Linux with the certificates of --trust or --cert says to this signature",
    )
    add("--root-hash", type=hex_bytes, metavar="HEX", help="the root hash that is signed, as hex")
    add(
        "--root-hash-file",
        type=Path,
        metavar="FILE",
        help="the file with the root hash; default: --signature without .p7s",
    )
    add_images_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.signing.certificates import load_certificates

    # whom to trust for images is not what the keyrings need to hold
    paths = [*args.cert, *(args.trust if args.signature else ())]
    certificates = [one for path in paths for one in load_certificates(path)]
    if args.signature:
        if args.references:
            raise ParameterError("--for-image is about this node, and --signature about a file")
        if args.probe_seal or args.root != Path("/"):
            raise ParameterError("--signature is judged off line: without --root and --probe-seal")
        return _judge(args, certificates)
    if args.root_hash or args.root_hash_file:
        raise ParameterError("a root hash goes with --signature")
    return _examine(args, certificates)


def _examine(args: argparse.Namespace, certificates: Sequence[x509.Certificate]) -> int:
    from dataclasses import asdict

    from dmsign_fast.node.doctor import examine
    from dmsign_fast.node.findings import overall
    from dmsign_fast.node.system import System

    running = args.root.resolve() == Path("/")
    if args.probe_seal and not running:
        raise ParameterError("--probe-seal asks the running kernel: it does not go with --root")
    system = System.running() if running else System(args.root)
    if not args.root.is_dir():
        raise ParameterError(f"{args.root} is no directory")
    findings = examine(system, certificates, probe_seal=args.probe_seal)
    findings += tuple(_images(args, system))
    state = overall(findings)
    if args.output == "json":
        print_json({"state": state, "findings": [asdict(one) for one in findings]})
    else:
        for one in findings:
            print_line(f"{one.state:<8} {one.name}: {one.evidence}")
            if one.advice:
                print_line(f"         -> {one.advice}")
    summary = {
        "ok": "the node can enforce signatures",
        "problem": "the node does not enforce signatures: see each problem",
        "unknown": "not all that decides could be seen: see each unknown",
    }
    note(args, summary[state])
    return _STATUS[state]


def _images(args: argparse.Namespace, system: System) -> Iterator[Finding]:
    """Whether containerd, as it is set up here, would take each image."""
    from dmsign_fast.node.containerd import node_of_containerd
    from dmsign_fast.node.findings import Finding, State
    from dmsign_fast.node.system import UnseenError
    from dmsign_fast.pipeline.node_check import node_problems

    if not args.references:
        return
    try:
        node = node_of_containerd(system)
    except UnseenError as error:
        yield Finding("image", State.UNKNOWN, str(error), "run as root")
        return
    if node is None:
        yield Finding(
            "image",
            State.UNKNOWN,
            "containerd has no EROFS snapshotter set up here, and what others read is not known",
            "ask for a kind of node: dmsign-fast verify --for",
        )
        return
    for reference in args.references:
        try:
            for one in verified_images(args, [reference]):
                name = f"image {one.name}"
                if problems := node_problems(one.store, one.verdict, node):
                    advice = f"sign as dmsign-fast verify --for {node.name} wants"
                    yield Finding(name, State.PROBLEM, "; ".join(problems), advice)
                else:
                    yield _made_here(name, one.verdict, node, system)
        except (UnsignedError, VerificationError) as error:
            yield Finding(f"image {reference}", State.PROBLEM, str(error), "dmsign-fast sign")


def _made_here(name: str, verdict: ImageVerdict, node: Node, system: System) -> Finding:
    """Whether this node makes the images of layers whose root hashes are signed."""
    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.node.containerd import recipe_of_containerd
    from dmsign_fast.node.findings import Finding, State
    from dmsign_fast.node.system import UnseenError

    takes = f"a node {node.name} would take it"
    if node.recipe:  # it takes the images from the artifact
        return Finding(name, State.OK, takes)
    signed = [
        Recipe.from_fields(one.recipe)
        for one in verdict.referrers
        if one.accepted and one.form == node.form and one.recipe
    ]
    try:
        here = recipe_of_containerd(system)
    except UnseenError as error:
        evidence = f"{takes}, if it makes the same images: {error}"
        return Finding(name, State.UNKNOWN, evidence, "run on the node itself")
    made = f"{here.name}@{here.mkfs_version}"
    if not signed:
        evidence = (
            f"{takes}, if it was signed by the recipe {made}, of which its artifact tells none"
        )
        return Finding(name, State.UNKNOWN, evidence, "dmsign-fast verify --deep")
    if any(here.makes_the_images_of(one) for one in signed):
        return Finding(name, State.OK, f"{takes}, and makes its images, by {made}")
    names = ", ".join(f"{one.name}@{one.mkfs_version}" for one in signed)
    evidence = f"signed by the recipe {names}, and this node makes images by {made}"
    return Finding(name, State.PROBLEM, evidence, f"sign with --recipe {made}")


def _judge(args: argparse.Namespace, certificates: Sequence[x509.Certificate]) -> int:
    from dmsign_fast.envelope.linux import LinuxOutcome, linux_verdict
    from dmsign_fast.envelope.pkcs7 import why_stricter
    from dmsign_fast.signing.certificates import read_file

    if args.root_hash is None and args.root_hash_file is None:
        if args.signature.suffix != ".p7s":
            raise ParameterError("which root hash? give --root-hash or --root-hash-file")
        args.root_hash_file = args.signature.with_suffix("")
    signature, root_hash = read_file(args.signature), read_root_hash(args)
    verdict = linux_verdict(signature, root_hash, certificates or None)
    accepted = verdict.outcome is LinuxOutcome.ACCEPTED
    stricter = why_stricter(signature, root_hash, certificates) if accepted else ""
    if args.output == "json":
        print_json({**verdict.json, "stricter": stricter})
    else:
        _print(verdict, stricter)
    return _STATUS[verdict.outcome]


def _print(verdict: LinuxVerdict, stricter: str) -> None:
    lines = {
        "Linux:": f"{verdict.outcome} {verdict.errno}".strip(),
        "Signer:": verdict.signer,
        "Reason:": verdict.reason,
        "Needs:": verdict.needs,
        "dmsign-fast:": stricter and f"refuses it: {stricter}",
        "What to do:": verdict.advice,
    }
    for name, text in lines.items():
        if text:
            print_line(f"{name:<15} {text}")
