"""A person at a terminal, who types when asked."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import termios

from helpers import DMSIGN


def at_a_terminal(arguments: tuple[object, ...], prompt: str, typed: bytes) -> tuple[int, str]:
    """Run our command line, answer its prompt, and return the exit status and all that it shows."""
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [*DMSIGN, *map(str, arguments)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    )
    os.close(terminal)
    shown = b""
    asked = False
    with process:
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:  # so a pty says that the other end is closed
                break
            shown += piece
            if prompt.encode() in shown and not asked:
                asked = True
                os.write(master, typed)
    os.close(master)
    assert asked, shown
    return process.returncode, shown.decode()
