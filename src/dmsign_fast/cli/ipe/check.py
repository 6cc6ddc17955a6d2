"""``dmsign-fast ipe check``: what a policy of IPE says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.options import add_trust
from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    from dmsign_fast.node.ipe.policy import Policy, Source

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "check a policy of IPE, and say what it allows"
EXAMPLES = """\
examples:
  dmsign-fast ipe check only-signed.ipe --root-hash 1c2d...
  dmsign-fast ipe check only-signed.ipe.p7b --trust root.pem --output json
exit status:
  0    it is a policy, and its signature is good if --trust is given
  1    the signature is not by a key that is trusted
  3    Linux refuses it, or it cannot be meant
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("policy", metavar="FILE", type=Path, help="the policy: text, or signed (.p7b)")
    add(
        "--root-hash",
        action="append",
        default=[],
        metavar="HEX|ALG:HEX",
        help="say what the policy allows for the device of this root hash; may be repeated",
    )
    add_trust(add, "trust these certificates for its signature, as the kernel does (PEM or DER)")


def _sources(root_hashes: list[str]) -> dict[str, Source]:
    """Kinds of files, by what they are called."""
    from dmsign_fast.node.ipe.policy import Source

    unnamed = "sha256:a device that is not named"
    sources = {
        "a signed device": Source(root_hash=unnamed, signed=True),
        "an unsigned device": Source(root_hash=unnamed),
        "the initramfs": Source(boot_verified=True),
        "anywhere else": Source(),
    }
    for one in root_hashes:
        sources[f"{one}, signed"] = Source(root_hash=one, signed=True)
        sources[f"{one}, unsigned"] = Source(root_hash=one)
    return sources


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.envelope.signed_content import content_of, verify_content
    from dmsign_fast.envelope.trust import load_trust_anchors
    from dmsign_fast.node.ipe.parse import parse_policy
    from dmsign_fast.node.ipe.policy import named_root_hash
    from dmsign_fast.signing.certificates import read_file

    data = read_file(args.policy)
    root_hashes = [named_root_hash(one) for one in args.root_hash]
    signer = None
    # DER of a SEQUENCE; the text of a policy begins with a letter or a comment
    signed = data.startswith(b"\x30")
    if args.trust:
        if not signed:
            raise ParameterError(
                f"{args.policy} is not signed: --trust is for the signature of a .p7b"
            )
        verified = verify_content(data, load_trust_anchors(*args.trust))
        text, signer = verified.content, verified.signer.subject
    else:
        text = content_of(data) if signed else data
    policy = parse_policy(text)
    decided = _decide(policy, root_hashes)
    version = ".".join(map(str, policy.version))
    if args.output == "json":
        print_json(
            {
                "name": policy.name,
                "version": version,
                "signed": signed,
                "signer": signer,
                "size": len(data),
                "rules": len(policy.rules),
                "decisions": decided,
            }
        )
        return 0
    by = f", signed by {signer}" if signer else ", signed; by whom was not asked" if signed else ""
    print_line(f"{policy.name} {version}: {len(policy.rules)} rules, {len(data)} bytes{by}")
    for one in decided:
        print_line(f"{one['operation']:<16} {one['from']}: {one['action']} ({one['by']})")
    return 0


def _decide(policy: Policy, root_hashes: list[str]) -> list[dict[str, Any]]:
    """What becomes of files of each kind."""
    from dmsign_fast.node.ipe.policy import Operation

    found = []
    for operation in Operation:
        for name, source in _sources(root_hashes).items():
            decision = policy.decide(operation, source)
            rule = decision.rule
            found.append(
                {
                    "operation": operation,
                    "from": name,
                    "action": decision.action,
                    "by": f"line {rule.line}: {rule}" if rule else "the default",
                }
            )
    return found
