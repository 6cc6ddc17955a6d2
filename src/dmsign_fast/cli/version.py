"""``dmsign-fast version``: what runs here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmsign_fast import __version__
from dmsign_fast.cli.output import print_json

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "print the version, and with --verbose which code for SHA-256 runs here"
EXAMPLES = """\
examples:
  dmsign-fast version --verbose
  dmsign-fast --version --output json
"""
_PACKAGES = ("asn1crypto", "cffi", "cryptography", "numpy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: every command has what is needed."""


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    if args.output == "json":
        print_json({"version": __version__, **_details()})
        return 0
    print(f"dmsign-fast {__version__}")
    if args.verbose:
        known = _details()
        print(f"SHA-256: {known['sha256']}")
        for name, runs in known["implementations"].items():
            print(f"  {name}: {'runs here' if runs else 'needs another processor'}")
        print(f"threads: {known['threads']}")
        print(f"Python {known['python']} on {known['machine']}")
        for package, version in known["packages"].items():
            print(f"{package} {version}")
    return 0


def _details() -> dict[str, Any]:
    import platform
    from importlib.metadata import version

    from dmsign_fast import _core

    usable = _core.SHA256.usable
    return {
        "sha256": _core.SHA256.chosen,
        "implementations": {name: name in usable for name in _core.SHA256},
        "threads": _core.thread_count(None),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: version(name) for name in _PACKAGES},
    }
