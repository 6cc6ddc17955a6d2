"""``dmsign-fast ipe sign``: sign a policy of IPE."""

from __future__ import annotations

import argparse
from pathlib import Path

from dmsign_fast.cli.keys import add_key_options, add_signature_options, signer_of
from dmsign_fast.cli.output import print_json, print_line

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "sign a policy of IPE in the form that Linux takes"
EXAMPLES = """\
examples:
  dmsign-fast ipe sign only-signed.ipe --key key.pem --cert chain.pem
then, as root, where the kernel trusts that key (built in, or in .platform: firmware's db):
  cat only-signed.ipe.p7b > /sys/kernel/security/ipe/new_policy
  echo 1 > /sys/kernel/security/ipe/policies/only-signed/active
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("policy", metavar="POLICY", type=Path, help="the text of a policy")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the signed policy here; default: POLICY.p7b"
    )
    add_key_options(parser)
    add_signature_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.envelope.signed_content import MAX_MESSAGE, content_of, sign_content
    from dmsign_fast.node.ipe.parse import parse_policy
    from dmsign_fast.outputs import Outputs
    from dmsign_fast.signing.certificates import read_file

    text = read_file(args.policy)
    policy = parse_policy(text)
    signer = signer_of(args)
    data = sign_content(text, signer, digest=args.digest, certificates=not args.no_certs)
    parse_policy(content_of(data))
    out = args.out or args.policy.with_name(f"{args.policy.name}.p7b")
    with Outputs() as outputs:
        outputs.protect(args.policy)
        outputs.write(out, data)
    subject = signer.certificate_chain[0].subject.rfc4514_string()
    version = ".".join(map(str, policy.version))
    if args.output == "json":
        print_json(
            {
                "name": policy.name,
                "version": version,
                "file": str(out),
                "size": len(data),
                "size_left": MAX_MESSAGE - len(data),
                "signer": subject,
            }
        )
    else:
        print_line(f"Policy:         {policy.name} {version}")
        print_line(f"Signed policy:  {out}, {len(data)} of at most {MAX_MESSAGE} bytes")
        print_line(f"Signer:         {subject}")
    return 0
