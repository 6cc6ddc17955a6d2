"""A node: files below a root directory and, of the running system, programs."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dmsign_fast.errors import ProgramError
from dmsign_fast.processes import Finished, run_program

__all__ = ["System", "UnseenError", "administrators_environment"]

_MAX_FILE = 16 << 20
_PIECE = 1 << 16
_SECONDS = 60.0


class UnseenError(Exception):
    """Something is there, or may be, and cannot be seen; the message says what and why."""


@dataclass(frozen=True)
class System:
    """Where to look.

    Attributes:
        root: the root directory of the node.
        execute: runs a program of the node; None unless the node is the running system.
    """

    root: Path = Path("/")
    execute: Callable[[tuple[str, ...]], Finished] | None = None

    @classmethod
    def running(cls) -> System:
        """The system that this process runs on."""
        return cls(Path("/"), _execute)

    def read(self, path: str) -> bytes | None:
        """Return the contents of a regular file below the root, or None without it.

        Raises:
            UnseenError: it cannot be read, or its name leads out of the root.
        """
        try:
            # a mounted image may hold a pipe under any name
            file = os.open(self._below(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UnseenError(f"{path} cannot be read: {error.strerror}") from None
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise UnseenError(f"{path} is not a file")
            contents = bytearray()
            # in pieces: Linux has no memory for a large buffer, for one line of /proc/sys
            while piece := os.read(file, _PIECE):
                contents += piece
                if len(contents) > _MAX_FILE:
                    raise UnseenError(f"{path} is too large")
        except OSError as error:
            raise UnseenError(f"{path} cannot be read: {error.strerror}") from None
        finally:
            os.close(file)
        return bytes(contents)

    def text(self, path: str) -> str | None:
        """The same as text on which nothing can fail, without white space around it."""
        contents = self.read(path)
        return None if contents is None else contents.decode(errors="replace").strip()

    def names(self, path: str) -> tuple[str, ...] | None:
        """Return the names in a directory, sorted, or None without it; else as ``read``."""
        try:
            return tuple(sorted(one.name for one in self._below(path).iterdir()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UnseenError(f"{path} cannot be read: {error.strerror}") from None

    def run(self, *command: str) -> Finished:
        """Run a program of the node to its end.

        Raises:
            UnseenError: the node is not the running system, or the program cannot be run.
        """
        if self.execute is None:
            raise UnseenError(f"{command[0]} is not run: {self.root} is not the running system")
        try:
            return self.execute(command)
        except ProgramError as error:
            raise UnseenError(str(error)) from None

    def _below(self, path: str) -> Path:
        root = self.root.resolve()
        try:
            place = (root / path.lstrip("/")).resolve()
        except RuntimeError:
            raise UnseenError(f"{path} is a loop of links") from None
        if not place.is_relative_to(root):
            raise UnseenError(f"{path} leads out of {self.root}")
        return place


def administrators_environment() -> dict[str, str]:
    """Return PATH with the directories for administrators, and messages in English."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
    return {"PATH": path, "LC_ALL": "C"}


def _execute(command: tuple[str, ...]) -> Finished:
    # Popen looks for a program in the PATH that it is given, which execvpe() does
    return run_program(command, timeout=_SECONDS, environment=administrators_environment())
