"""``dmsign-fast cert show``: the certificates in a file of a trust store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.cert.options import add_store_options
from dmsign_fast.cli.output import print_json, print_line

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "show the certificates in a file of a trust store"
EXAMPLES = """\
examples:
  dmsign-fast cert show --type ca --store acme acme-root.pem
"""
_RULE = 80 * "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_store_options(parser)
    parser.add_argument("file", metavar="FILE", help="name of the file in the trust store")


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dataclasses import asdict

    from cryptography.x509 import BasicConstraints

    from dmsign_fast.envelope.facts import facts_of
    from dmsign_fast.signing.certificates import extension
    from dmsign_fast.trust.store import config_directory, load_file

    found = load_file(config_directory(), args.type, args.store, args.file)
    certificates = []
    for certificate in found.certificates:
        constraints = extension(certificate, BasicConstraints)
        ca = constraints is not None and constraints.value.ca
        certificates.append({**asdict(facts_of(certificate)), "ca": ca})
    if args.output == "json":
        known = {"type": found.kind, "store": found.store, "file": found.name}
        print_json({**known, "certificates": certificates})
        return 0
    print_line("Certificate details")
    for one in certificates:
        print_line(_RULE)
        print_line(f"Issuer: {one['issuer']}")
        print_line(f"Subject: {one['subject']}")
        print_line(f"Valid from: {one['not_before']}")
        print_line(f"Valid to: {one['not_after']}")
        print_line(f"IsCA: {str(one['ca']).lower()}")
        print_line(f"SHA256 Thumbprint: {one['fingerprint']}")
    return 0
