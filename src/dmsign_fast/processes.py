"""The one function that runs every child process, and what no other process may see."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import selectors
import shlex
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from dmsign_fast.errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Finished", "Limits", "forbid_core_dumps", "run_program", "withhold"]

_log = logging.getLogger(__name__)

_GRACE = 1.0  # seconds from SIGTERM to SIGKILL
_LONGEST_PAUSE = 0.05  # seconds between two looks at a child that is silent
_PIECE = 1 << 16
_LAST_WORDS = 600  # characters
# Logins to registries: no program that we run has a use for them.
_withheld = {"NOTATION_USERNAME", "NOTATION_PASSWORD", "DOCKER_AUTH_CONFIG"}


@dataclass(frozen=True)
class Limits:
    """Bounds that the kernel keeps for a child and its descendants; None leaves one as it is.

    There is never a core dump: it could hold a secret.

    Attributes:
        file_size: bytes of the largest file it may write; SIGXFSZ ends it at the next.
        address_space: bytes of memory it may map.
        open_files: descriptors it may hold.
    """

    file_size: int | None = None
    address_space: int | None = None
    open_files: int | None = None


@dataclass(frozen=True)
class Finished:
    """A program that ran to its end.

    Attributes:
        exit_code: its exit status, 0 to 255.
        out: all that it wrote to standard output.
        err: all that it wrote to standard error.
        seconds: how long it ran.
    """

    exit_code: int
    out: bytes
    err: bytes
    seconds: float

    @property
    def last_words(self) -> str:
        """The end of ``err`` as one line of printable text, for a message; it may be empty."""
        return _last_words(self.err)


def withhold(variable: str) -> None:
    """Keep an environment variable that holds a secret from every program that is run from now."""
    _withheld.add(variable)


def forbid_core_dumps() -> None:
    """Have the kernel write no core dump of this process from now on: call it before a secret."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def run_program(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    environment: Mapping[str, str],
    stdin: bytes | None = None,
    cwd: Path | None = None,
    limits: Limits = Limits(),
    output_limit: int = 1 << 20,
    pass_fds: Sequence[int] = (),
    name: str | None = None,
) -> Finished:
    """Run a program to its end, in a session of its own; any thread may call this.

    The program ends when its first process does: what that leaves behind in its process group is
    killed. An exception, such as KeyboardInterrupt, stops the group too. Only a process that makes
    a session of its own escapes.

    The command line is logged at DEBUG; stdin and the environment never are.

    Args:
        argv: the program and its arguments. Without a slash, the program is looked for in the
            PATH of ``environment``.
        timeout: seconds until SIGTERM; SIGKILL follows a second later.
        environment: all of its environment, but what is withheld: logins, and see ``withhold``.
        stdin: what it reads on standard input; None is /dev/null.
        cwd: its working directory.
        limits: set just after it starts, and before it can read from stdin.
        output_limit: bytes that it may write to each of standard output and standard error.
        pass_fds: descriptors it inherits, under the same numbers.
        name: what to call it in messages instead of ``argv[0]``.

    Raises:
        ProgramError: it cannot be started, takes longer than ``timeout``, writes more than
            ``output_limit``, or is killed by a signal. Any exit status makes a Finished.
    """
    words = [os.fspath(word) for word in argv]
    _log.debug("running %s", shlex.join(words))
    command = {
        "args": words,
        "stdin": subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        "cwd": cwd,
        "env": {name: one for name, one in environment.items() if name not in _withheld},
        "pass_fds": pass_fds,
    }
    child = _Child(name or words[0], command, stdin or b"", limits, output_limit)
    # signals interrupt the main thread only: here nothing can come between a fork and its clean-up
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(child.run, timeout).result()
        except BaseException:
            child.stopped.set()
            raise


class _Child:
    """A child, its pipes, and the group that ends with it."""

    def __init__(
        self, name: str, command: dict[str, Any], stdin: bytes, limits: Limits, output_limit: int
    ) -> None:
        self.stopped = threading.Event()
        self._name, self._command, self._limits = name, command, limits
        self._unsent, self._output_limit = memoryview(stdin), output_limit
        self._out, self._err = bytearray(), bytearray()
        self._pause = 0.0
        self._selector = selectors.PollSelector()

    def run(self, timeout: float) -> Finished:
        start = time.monotonic()
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                **self._command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        except (OSError, ValueError) as error:  # ValueError: a zero byte
            raise ProgramError(f"cannot run {self._name}: {_reason(error)}") from error
        try:
            self._prepare()
            while not self._has_exited():
                left = start + timeout - time.monotonic()
                if left <= 0 or self.stopped.is_set():
                    raise self._failed(f"did not end within {timeout:g} s and was stopped")
                self._exchange(left)
            self._drain()
        except BaseException:
            self._terminate()
            raise
        finally:
            self._bury()
        code = self._process.returncode
        if code < 0:
            raise self._failed(f"was killed by {_name_of_signal(-code)}")
        return Finished(code, bytes(self._out), bytes(self._err), time.monotonic() - start)

    def _prepare(self) -> None:
        try:
            self._watch(self._process.stdout, selectors.EVENT_READ, self._out)
            self._watch(self._process.stderr, selectors.EVENT_READ, self._err)
            self._watch(self._process.stdin, selectors.EVENT_WRITE, None)
            self._restrict()
        except OSError as error:
            raise ProgramError(
                f"cannot run {self._name} within its limits: {_reason(error)}"
            ) from error

    def _watch(self, pipe: IO[bytes] | None, event: int, said: bytearray | None) -> None:
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, event, said)

    def _restrict(self) -> None:
        bounds = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_FSIZE: self._limits.file_size,
            resource.RLIMIT_AS: self._limits.address_space,
            resource.RLIMIT_NOFILE: self._limits.open_files,
        }
        # from outside: code between fork and exec is not safe in a process with threads
        for which, bound in bounds.items():
            if bound is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                hard = resource.prlimit(self._process.pid, which)[1]
                if hard != resource.RLIM_INFINITY:
                    bound = min(bound, hard)
                resource.prlimit(self._process.pid, which, (bound, bound))

    def _has_exited(self) -> bool:
        """Whether the first process ended; it is not reaped."""
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self._process.pid, how) is not None
        except ChildProcessError as error:  # Popen would call this exit status 0
            raise ProgramError(
                f"the exit status of {self._name} is lost: this process ignores SIGCHLD, or waits "
                "for children that are not its own"
            ) from error

    def _exchange(self, seconds: float) -> None:
        """Read and write what can be without waiting, or wait a little for the first of it."""
        ready = self._selector.select(min(seconds, self._pause))
        self._pause = 0.0 if ready else min(2 * self._pause + 0.001, _LONGEST_PAUSE)
        for key, _ in ready:
            if key.data is None:
                self._write(key)
            else:
                self._read(key, key.data)

    def _drain(self) -> None:
        """Read what an ended child left in its pipes."""
        while ready := self._selector.select(0):
            for key, _ in ready:
                if key.data is None:
                    self._forget(key)
                else:
                    self._read(key, key.data)

    def _failed(self, why: str) -> ProgramError:
        said = _last_words(self._err)
        return ProgramError(f"{self._name} {why}" + (f"; it said: {said}" if said else ""))

    def _forget(self, key: selectors.SelectorKey) -> None:
        self._selector.unregister(key.fileobj)
        cast("IO[bytes]", key.fileobj).close()

    def _write(self, key: selectors.SelectorKey) -> None:
        try:
            self._unsent = self._unsent[os.write(key.fd, self._unsent[:_PIECE]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it need not read all
            self._unsent = self._unsent[:0]
        if not self._unsent:
            self._forget(key)

    def _read(self, key: selectors.SelectorKey, said: bytearray) -> None:
        piece = os.read(key.fd, _PIECE)
        said += piece
        if not piece:
            self._forget(key)
        if len(said) > self._output_limit:
            which = "standard output" if said is self._out else "standard error"
            raise self._failed(
                f"wrote more than {self._output_limit} bytes to {which} and was stopped"
            )

    def _terminate(self) -> None:
        self._signal(signal.SIGTERM)
        end = time.monotonic() + _GRACE
        with contextlib.suppress(ProgramError):
            while not self._has_exited() and time.monotonic() < end:
                time.sleep(_LONGEST_PAUSE / 10)

    def _bury(self) -> None:
        # the group keeps its number while its leader is not reaped: no other can be hit
        self._signal(signal.SIGKILL)
        self._process.wait()
        for key in list(self._selector.get_map().values()):
            self._forget(key)

    def _signal(self, number: signal.Signals) -> None:
        # PermissionError: all that is left belongs to another user
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _last_words(err: bytes | bytearray) -> str:
    lines = err.decode(errors="replace").split("\n")
    text = "; ".join(line.strip() for line in lines if line.strip())
    if len(text) > _LAST_WORDS:
        text = f"... {text[-_LAST_WORDS:]}"
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _reason(error: Exception) -> str:
    """Why a program was not started, and for want of which file, without the error's number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return error.strerror + (f": {os.fsdecode(error.filename)}" if error.filename else "")


def _name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
