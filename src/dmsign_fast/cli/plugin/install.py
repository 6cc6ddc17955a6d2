"""``dmsign-fast plugin install``: put a plugin in place, by default this program."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.output import print_json, print_line

if TYPE_CHECKING:
    import argparse

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "install a plugin, by default this program as the plugin dmsign"
EXAMPLES = """\
examples:
  dmsign-fast plugin install
  dmsign-fast plugin install notation-azure-kv_1.2.1_linux_amd64.tar.gz
then:
  notation sign REF --plugin dmsign --id file:/etc/keys/key.pem?cert=/etc/keys/chain.pem
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add(
        "source",
        metavar="FILE|DIRECTORY",
        type=Path,
        nargs="?",
        help="an executable notation-NAME, or a directory, tar.gz or zip that holds it; "
        "default: this program",
    )
    add(
        "--force",
        action="store_true",
        help="install also where this or a higher version is installed",
    )


def _ourselves(directory: Path) -> Path:
    """A plugin that runs this program by this Python, which notation takes for a regular file."""
    path = directory / "notation-dmsign"
    # -P: the working directory holds no module of ours
    command = shlex.join([sys.executable, "-P", "-m", "dmsign_fast.cli.notation_plugin"])
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)
    return path


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.signing.plugin_install import install_plugin

    with tempfile.TemporaryDirectory() as directory:
        source = args.source or _ourselves(Path(directory))
        old, new = install_plugin(source, force=args.force)
    if args.output == "json":
        print_json({"installed": new.to_json(), "replaced": old and old.to_json()})
    elif old:
        print_line(
            f"Successfully updated plugin {new.name} from version {old.version} to {new.version}"
        )
    else:
        print_line(f"Successfully installed plugin {new.name}, version {new.version}")
    return 0
