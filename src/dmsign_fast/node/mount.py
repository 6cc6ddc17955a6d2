"""Layers opened by veritysetup, mounted, and stacked read-only by overlayfs; and all of it undone.

All that is open for a directory has names made of its path, so that it can be closed without a
record of it: ``/dev/mapper/dmsign-ID-N`` and ``/run/dmsign-fast/ID/N`` for layer N.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.errors import DmsignError, ParameterError, ProgramError
from dmsign_fast.node.device import OpenCommand, close_device, open_device
from dmsign_fast.node.system import administrators_environment
from dmsign_fast.outputs import storage_errors
from dmsign_fast.processes import run_program

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MountPoint", "check_free", "command_words", "mount", "mount_plan", "unmount"]

_RUN = Path("/run/dmsign-fast")
_DEVICES = Path("/dev/mapper")
_MOUNTS = Path("/proc/self/mountinfo")
_SECONDS = 300.0
# mount(2) takes a page of options, and the zero behind them
_MOST_OPTIONS = 4095


@dataclass(frozen=True)
class MountPoint:
    """A directory at which layers are, or will be, mounted; ``path`` has no links in it."""

    path: Path

    @classmethod
    def of(cls, directory: Path) -> MountPoint:
        """The mount point that a path leads to."""
        return cls(Path(os.path.realpath(directory)))

    @property
    def name(self) -> str:
        """What the names of its devices begin with."""
        return f"dmsign-{self._id}"

    @property
    def _id(self) -> str:
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]

    @property
    def places(self) -> Path:
        """The directory of the layers' mount points."""
        return _RUN / self._id

    def device(self, number: int) -> str:
        """The name of a layer's device below /dev/mapper."""
        return f"{self.name}-{number}"

    @property
    def numbers(self) -> list[int]:
        """The layers for which there is a place, the topmost first."""
        try:
            found = [entry.name for entry in self.places.iterdir() if entry.name.isdecimal()]
        except FileNotFoundError:
            return []
        return sorted(map(int, found), reverse=True)


def mount_plan(
    where: MountPoint, layers: Sequence[OpenCommand]
) -> list[OpenCommand | tuple[str, ...]]:
    """What mounts the layers, the lowest first, at a directory: commands in their order.

    A single layer is mounted at the directory itself, since overlayfs wants two.

    Raises:
        ParameterError: overlayfs takes no list of so many layers.
    """
    places = [str(where.places / str(number)) for number in range(len(layers))]
    path = str(where.path)
    plan: list[OpenCommand | tuple[str, ...]] = [("mkdir", "-p", *places, path)]
    if len(layers) == 1:
        return [*plan, layers[0], _mount_erofs(layers[0], path)]
    for layer, place in zip(layers, places, strict=True):
        plan += [layer, _mount_erofs(layer, place)]
    options = f"ro,lowerdir={':'.join(reversed(places))}"
    if len(options) > _MOST_OPTIONS:
        raise ParameterError(f"{len(layers)} layers are more than one overlay can be told of")
    return [*plan, ("mount", "-t", "overlay", where.name, "-o", options, path)]


def _mount_erofs(layer: OpenCommand, place: str) -> tuple[str, ...]:
    return ("mount", "-t", "erofs", "-o", "ro", str(_DEVICES / layer.name), place)


def command_words(plan: Sequence[OpenCommand | tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The command lines of a plan."""
    return [one.words if isinstance(one, OpenCommand) else one for one in plan]


def check_free(where: MountPoint) -> None:
    """Raise ParameterError if layers are open for the directory, or something is mounted at it."""
    if where.places.exists():
        raise ParameterError(f"{where.path} is in use: first dmsign-fast umount {where.path}")
    if _source(where.path) is not None:
        raise ParameterError(f"{where.path} is a mount point already: unmount it, or take another")


def mount(where: MountPoint, layers: Sequence[OpenCommand]) -> None:
    """Do what mount_plan says; if a command fails, all that was opened is closed again.

    Raises:
        VerificationError: Linux refuses a signature.
        ProgramError: a command fails otherwise, such as without root.
        ParameterError: layers are open for the directory, or something is mounted at it.
    """
    plan = mount_plan(where, layers)
    check_free(where)
    _begin(where)
    try:
        for command in plan:
            if isinstance(command, OpenCommand):
                open_device(command)
            else:
                _run(command)
    except BaseException as error:
        try:
            unmount(where)
        except DmsignError as left:
            error.args = (
                f"{error}; and not all was closed again: {left}: dmsign-fast umount {where.path}",
                *error.args[1:],
            )
        raise


def _begin(where: MountPoint) -> None:
    """Claim the names of the directory, which another process may want too."""
    with storage_errors("create", where.places):
        where.places.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        try:
            where.places.mkdir(mode=0o700)
        except FileExistsError:
            check_free(where)
            raise


def unmount(where: MountPoint) -> None:
    """Undo what is there of mount(), in reverse order.

    Raises:
        ParameterError: nothing is.
        ProgramError: something is in use, or may not be undone; call it again later.
    """
    if not where.places.exists():
        raise ParameterError(f"dmsign-fast has mounted nothing at {where.path}")
    if where.name in (_source(where.path) or ""):
        _run(("umount", str(where.path)))
    for number in where.numbers:
        place = where.places / str(number)
        if _source(place) is not None:
            _run(("umount", str(place)))
        if (_DEVICES / where.device(number)).exists():
            close_device(where.device(number))
        _remove(place)
    _remove(where.places)


def _remove(place: Path) -> None:
    with storage_errors("remove", place):
        place.rmdir()


def _source(path: Path) -> str | None:
    """What is mounted at a path, on top of all else (proc(5), mountinfo); None if nothing is."""
    wanted, found = os.fsencode(path), None
    with storage_errors("read", _MOUNTS):
        for line in _MOUNTS.read_bytes().splitlines():
            fields = line.split(b" ")
            if _unescaped(fields[4]) == wanted:
                found = _unescaped(fields[fields.index(b"-") + 2])
    return None if found is None else os.fsdecode(found)


def _unescaped(field: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), field)


def _run(words: tuple[str, ...]) -> None:
    done = run_program(words, timeout=_SECONDS, environment=administrators_environment())
    if done.exit_code:
        hint = "" if os.geteuid() == 0 else "; it needs root"
        raise ProgramError(f"{shlex.join(words)}: {done.last_words or 'no reason given'}{hint}")
