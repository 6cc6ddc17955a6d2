"""Changes of notation's configuration: one at a time, private, whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from dmsign_fast.errors import StorageError
from dmsign_fast.outputs import Outputs, locked, storage_errors, write_all

__all__ = ["Change", "changing"]


class Change:
    """The files that will appear together at the end of ``changing``."""

    def __init__(self, outputs: Outputs) -> None:
        """Begin with none."""
        self._outputs = outputs
        self._made: list[Path] = []

    def write(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        """Let ``path`` hold ``data``; directories above it are made, 0700 as by notation.

        Raises StorageError for a symbolic link, which notation takes nowhere, and for what cannot
        be written.
        """
        if path.is_symlink():
            raise StorageError(f"{path} is a symbolic link, and notation takes none; remove it")
        self._made += _make(path.parent)
        fd = self._outputs.open(path)
        with storage_errors("write", path):
            os.fchmod(fd, mode)
            write_all(fd, data, 0)

    def undo(self) -> None:
        """Remove the directories that were made."""
        for one in reversed(self._made):
            with contextlib.suppress(OSError):  # another program has put something there
                one.rmdir()


@contextlib.contextmanager
def changing(config: Path) -> Iterator[Change]:
    """Wait for other changes of a configuration directory to end, then begin a change.

    What is read within the block is what the change applies to. notation itself does not wait.
    """
    _make(config)
    with locked(config):
        outputs = Outputs()
        change = Change(outputs)
        try:
            with outputs:
                yield change
        except BaseException:
            change.undo()
            raise


def _make(directory: Path) -> list[Path]:
    """Make a directory and its missing parents; return the new directories, outermost first."""
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    for one in reversed(missing):
        with storage_errors("make the directory", one):
            one.mkdir(mode=0o700, exist_ok=True)
    return missing[::-1]
