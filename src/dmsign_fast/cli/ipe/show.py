"""``dmsign-fast ipe show``: policies in the kernel, and what it denied."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.cli.images import add_images_options, signed_roots
from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.cli.verity.options import whole_number
from dmsign_fast.errors import StorageError

if TYPE_CHECKING:
    from dmsign_fast.node.ipe.state import Denial, State
    from dmsign_fast.node.system import System

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "show the policies of IPE in this kernel, and what it denied last"
EXAMPLES = """\
examples:
  sudo dmsign-fast ipe show
  sudo dmsign-fast ipe show registry.example/app:1.0 --trust root.pem     names layers of the image
  dmsign-fast ipe show --log /var/log/audit/audit.log
what a policy in a file says:
  dmsign-fast ipe check only-signed.ipe
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add(
        "references",
        metavar="REF",
        nargs="*",
        help="signed images, to name their layers where a layer was denied",
    )
    add(
        "--log",
        type=Path,
        metavar="FILE",
        help="read denials from this log of the kernel or auditd; default: dmesg",
    )
    add(
        "--last",
        type=whole_number,
        default=10,
        metavar="N",
        help="show the last N denials; default: 10",
    )
    add_images_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from dmsign_fast.node.ipe.state import denials, look_at_ipe
    from dmsign_fast.node.system import System, UnseenError

    known = {one.root_hash: one for one in signed_roots(args, args.references)}
    system = System.running()
    try:
        state = look_at_ipe(system)
        log = _log(args.log, system)
    except UnseenError as error:
        raise StorageError(f"{error}; run as root, with securityfs mounted") from None
    last = list(denials(log))[-args.last :]
    hashes = {one.device: _root_hash(system, one.device) for one in last}
    found = []
    for one in last:
        root = known.get(hashes[one.device] or "")
        found.append(
            asdict(one)
            | {
                "root_hash": hashes[one.device],
                "layer": root.layer if root else None,
                "image": root.image if root else None,
            }
        )
    if args.output == "json":
        print_json(asdict(state) | {"denials": found})
        return 0
    _print_state(state)
    for shown, one in zip(found, last, strict=True):
        _print_denial(one, shown)
    return 0


def _log(path: Path | None, system: System) -> str:
    from dmsign_fast.node.system import UnseenError

    if path:
        text = system.text(str(path.absolute()))
        if text is None:
            raise UnseenError(f"no {path}")
        return text
    done = system.run("dmesg")
    if done.exit_code:
        raise UnseenError(f"dmesg: {done.last_words}")
    return done.out.decode(errors="replace")


def _root_hash(system: System, device: str) -> str | None:
    """Of the device that has the name now; None where that cannot be seen."""
    from dmsign_fast.node.ipe.state import root_hash_of_device
    from dmsign_fast.node.system import UnseenError

    try:
        return root_hash_of_device(system, device)
    except UnseenError:
        return None


def _print_state(state: State) -> None:
    if not state.present:
        print_line("IPE is not active in this kernel")
        return
    print_line(f"IPE: {'enforcing' if state.enforcing else 'not enforcing'}")
    for policy in state.policies:
        print_line(f"{policy.name} {policy.version}: {'active' if policy.active else 'not active'}")
        for line in policy.text.splitlines():
            print_line(f"    {line}")
    if not state.policies:
        print_line("no policy: nothing is denied")


def _print_denial(one: Denial, shown: dict[str, object]) -> None:
    what = "denied" if one.enforced else "not denied, since IPE does not enforce"
    print_line(
        f"{what}: {one.operation} ({one.hook}) {one.path or '?'} of {one.device or '?'} by "
        f"{one.program or '?'}: {one.rule}"
    )
    if shown["root_hash"]:
        image = f", layer {shown['layer']} of {shown['image']}" if shown["layer"] else ""
        print_line(f"    {one.device} is now {shown['root_hash']}{image}")
