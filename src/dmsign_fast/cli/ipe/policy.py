"""``dmsign-fast ipe policy``: write a policy of IPE."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from dmsign_fast.cli.images import add_images_options, signed_roots
from dmsign_fast.cli.output import note, print_json
from dmsign_fast.errors import ParameterError

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "write a policy of IPE, by which Linux runs only what is signed"
EXAMPLES = """\
examples:
  dmsign-fast ipe policy --name only-signed --version 1.0.0 --initramfs --out only-signed.ipe
  dmsign-fast ipe policy registry.example/app:1.0 --root-hashes --name app --version 1.0.0
  dmsign-fast ipe policy --name only-signed --version 1.0.1 --revoke registry.example/app:0.9
then:
  dmsign-fast ipe sign only-signed.ipe --key key.pem --cert chain.pem
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("references", metavar="REF", nargs="*", help="signed images, with --root-hashes")
    add("--name", required=True, help="name of the policy")
    add(
        "--version",
        required=True,
        metavar="A.B.C",
        help="version of the policy, which replaces those of lower versions",
    )
    add(
        "--root-hashes",
        action="store_true",
        help="allow the layers of the images REF alone; default: allow all that a trusted key "
        "signed",
    )
    add(
        "--revoke",
        action="append",
        default=[],
        metavar="REF|HASH",
        help="deny this root hash, or all layers of this image; may be repeated",
    )
    add("--initramfs", action="store_true", help="allow what the initramfs holds too")
    add(
        "--strict",
        action="store_true",
        help="demand the same of kernel modules, firmware, kexec and certificates",
    )
    add("--out", type=Path, metavar="FILE", help="write the policy to this file; default: print it")
    add_images_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.node.ipe.make import make_policy, room
    from dmsign_fast.node.ipe.policy import parse_version
    from dmsign_fast.outputs import Outputs

    version = parse_version(args.version)
    if bool(args.references) != args.root_hashes:
        raise ParameterError("REF and --root-hashes go together: a policy of the layers of images")
    allowed = signed_roots(args, args.references)
    revoked = [one for named in args.revoke for one in _revoked(args, named)]
    policy = make_policy(
        args.name,
        version,
        root_hashes={one.root_hash for one in allowed} if args.root_hashes else None,
        revoked=revoked,
        initramfs=args.initramfs,
        strict=args.strict,
    )
    if args.out:
        with Outputs() as outputs:
            outputs.write(args.out, policy.text.encode())
    left = room(policy)
    if args.output == "json":
        print_json(
            {
                "policy": policy.text,
                "file": str(args.out) if args.out else None,
                "allowed": [asdict(one) for one in allowed],
                "revoked": revoked,
                "room": asdict(left),
            }
        )
    elif not args.out:
        print(policy.text, end="")
    note(
        args,
        f"{left.size} bytes, {len(policy.rules)} rules; {left.left} bytes, or {left.rules_left} "
        "rules with a root hash, are left beside a signature",
    )
    return 0


def _revoked(args: argparse.Namespace, named: str) -> list[str]:
    from dmsign_fast.node.ipe.policy import named_root_hash

    try:
        return [named_root_hash(named)]
    except ParameterError:
        if "/" not in named and not args.oci_layout:
            raise
    return list(dict.fromkeys(one.root_hash for one in signed_roots(args, [named])))
