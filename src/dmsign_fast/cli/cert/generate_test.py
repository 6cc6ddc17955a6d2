"""``dmsign-fast cert generate-test``: a key and a chain for tests, trusted here."""

from __future__ import annotations

import argparse
import shlex

from dmsign_fast.cli.output import print_json, print_line

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "make a key for tests, with a certificate and a root that is trusted here"
EXAMPLES = """\
examples:
  dmsign-fast cert generate-test --default example.com
  dmsign-fast cert generate-test --key-type EC-384 --days 7 --store tests example.com
  dmsign-fast cert generate-test --key-type ML-DSA-65 next-kernels
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("name", metavar="NAME", help="name of the key, and common name of its certificate")
    kind = parser.add_mutually_exclusive_group().add_argument
    kind(
        "--key-type",
        "--key-spec",
        default="RSA-2048",
        metavar="KIND",
        help="kind of the key: RSA-2048 (default), -3072, -4096, EC-256, -384, -521, ML-DSA-44, "
        "-65, -87",
    )
    kind("-b", "--bits", help="size of an RSA key, as in notation")
    add(
        "--days",
        type=int,
        default=1,
        metavar="N",
        help="let the certificates expire after N days; default: 1",
    )
    add("--default", action="store_true", help="sign with this key when none is named")
    add(
        "-s", "--store", metavar="STORE", help="trust store for the root, of type ca; default: NAME"
    )
    add("--trust", dest="store", help=argparse.SUPPRESS)  # what it was called


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.signing.scheme import KeySpec
    from dmsign_fast.trust.generate import generate_test
    from dmsign_fast.trust.store import config_directory

    made = generate_test(
        config_directory(),
        args.name,
        KeySpec.parse(f"RSA-{args.bits}" if args.bits else args.key_type),
        store=args.store,
        default=args.default,
        days=args.days,
    )
    expires = made.chain[0].not_valid_after_utc.isoformat()
    enrol = [
        "modprobe dm_verity",
        f"openssl x509 -in {shlex.quote(str(made.root))} -outform DER "
        '| keyctl padd asymmetric "" %:.dm-verity',
        "keyctl restrict_keyring %:.dm-verity",
    ]
    if args.output == "json":
        print_json(
            {
                "name": made.key.name,
                "default": args.default,
                "key_path": str(made.key.key),
                "certificate_path": str(made.key.certificates),
                "root_path": str(made.root),
                "expires": expires,
                "enrol": enrol,
            }
        )
        return 0
    print_line(f"generated certificates expiring on {expires}")
    print_line(f"wrote key: {made.key.key}")
    print_line(f"wrote certificate and root: {made.key.certificates}")
    print_line(f"trusted root: {made.root}")
    print_line(f"{args.name}: added to the key list")
    if args.default:
        print_line(f"{args.name}: marked as default")
    print_line("to trust the root in a kernel booted with dm_verity.keyring_unsealed=1:")
    for line in enrol:
        print_line(f"  {line}")
    return 0
