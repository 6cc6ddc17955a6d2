"""How a trust policy takes the place of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.cli.config import confirm
from dmsign_fast.cli.output import note, print_json, print_line

if TYPE_CHECKING:
    import argparse

__all__ = ["add_force", "save"]


def add_force(parser: argparse.ArgumentParser) -> None:
    """Whether to replace a policy without asking."""
    parser.add_argument(
        "--force", action="store_true", help="replace the policy that there is, and do not ask"
    )


def save(args: argparse.Namespace, data: bytes, what: str) -> int:
    """Save the policy, which is checked first; the exit status."""
    from dmsign_fast.trust.policy import find_policy, parse_policy, save_policy
    from dmsign_fast.trust.store import config_directory, list_stores

    policy = parse_policy(data, what)
    config = config_directory()
    old = find_policy(config)
    if old is not None:
        confirm(f"{old} exists already, overwrite it?", "--force", yes=args.force)
    path = save_policy(config, data, what, replace=old is not None)
    if args.output == "json":
        print_json({"file": str(path), "replaced": old is not None})
    else:
        print_line(f"Successfully saved the trust policy to {path}")
    named = (store for statement in policy.statements for store in statement.stores)
    for kind, name in dict.fromkeys(named):
        if not list_stores(config, kind, name):
            note(
                args,
                f"there is no trust store {kind}:{name} yet, and without it nothing is verified: "
                f"dmsign-fast cert add --type {kind} --store {name} FILE",
            )
    return 0
