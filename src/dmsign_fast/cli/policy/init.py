"""``dmsign-fast policy init``: a trust policy of one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.policy.options import add_force, save

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "make a trust policy of one statement"
EXAMPLES = """\
examples:
  dmsign-fast policy init --name acme --trust-store ca:acme \\
      --trusted-identity "x509.subject: C=US, ST=WA, O=acme"
  dmsign-fast policy init --name tests --trust-store ca:example.com --trusted-identity "*" \\
      --scope registry.example/app --force
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("-n", "--name", required=True, help="name of the statement")
    add(
        "--trust-store",
        action="append",
        required=True,
        metavar="TYPE:STORE",
        help="trust the certificates of this trust store, such as ca:acme; may be repeated",
    )
    add(
        "--trusted-identity",
        action="append",
        required=True,
        metavar="IDENTITY",
        help="let this identity sign, such as 'x509.subject: C=US, ST=WA, O=acme', or '*' for "
        "anyone whom the trust stores vouch for; may be repeated",
    )
    add(
        "--scope",
        action="append",
        metavar="REPOSITORY",
        help="apply it to this repository, such as registry.example/app; may be repeated; "
        "default: '*', all",
    )
    add(
        "--level",
        default="strict",
        help="how strictly to verify: strict (default), permissive or audit",
    )
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.trust.policy import new_policy

    data = new_policy(
        args.name,
        args.trust_store,
        args.trusted_identity,
        scopes=args.scope or ("*",),
        level=args.level,
    )
    return save(args, data, "the new policy")
