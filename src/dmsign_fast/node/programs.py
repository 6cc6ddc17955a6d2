"""The programs of a node: veritysetup and mkfs.erofs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dmsign_fast.errors import ParameterError, ProgramError
from dmsign_fast.node.findings import Finding, State
from dmsign_fast.node.system import System, UnseenError

__all__ = ["check_programs", "mkfs_version"]

_FIRST_WITH_SIGNATURES = (2, 3)
_INSTALL = "apt install cryptsetup-bin"


def check_programs(system: System) -> Iterator[Finding]:
    """Check veritysetup and mkfs.erofs; neither decides, since containerd needs only the second."""
    yield _check_veritysetup(system)
    yield _check_mkfs(system)


def mkfs_version(system: System) -> str:
    """Return the version of the node's mkfs.erofs.

    Raises:
        UnseenError: the node is not the running system, or has none that says its version.
    """
    from dmsign_fast.erofs.mkfs import MkfsErofs

    if system.execute is None:
        raise UnseenError(f"mkfs.erofs is not run: {system.root} is not the running system")
    try:
        return MkfsErofs.find().version
    except ProgramError as error:
        raise UnseenError(str(error)) from None


def _check_veritysetup(system: System) -> Finding:
    name = "veritysetup"
    try:
        said = system.run(name, "--version").out.decode(errors="replace").strip()
    except UnseenError as error:
        return Finding(name, State.NOTE, str(error), _INSTALL if system.execute else "")
    found = re.match(r"veritysetup (\d+)\.(\d+)", said)
    if not found:
        return Finding(name, State.NOTE, f"does not say its version: {said}", _INSTALL)
    if (int(found[1]), int(found[2])) < _FIRST_WITH_SIGNATURES:
        return Finding(name, State.NOTE, f"{said}: no --root-hash-signature before 2.3", _INSTALL)
    return Finding(name, State.OK, said)


def _check_mkfs(system: System) -> Finding:
    from dmsign_fast.erofs.recipe import Recipe

    name = "mkfs.erofs"
    try:
        version = mkfs_version(system)
    except UnseenError as error:
        return Finding(name, State.NOTE, str(error))
    try:
        same = ", ".join(Recipe.parse(f"containerd@{version}").mkfs_versions)
    except ParameterError as error:
        return Finding(name, State.NOTE, version, str(error))
    return Finding(name, State.OK, f"{version}, which makes the images of {same}")
