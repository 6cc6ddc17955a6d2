"""Plugins of notation: looked up where notation does, and run as a process for each question."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmsign_fast.directories import is_name, plugin_directory
from dmsign_fast.errors import FormatError, ParameterError, ProgramError, SigningError
from dmsign_fast.outputs import storage_errors
from dmsign_fast.processes import Finished, run_program
from dmsign_fast.signing.plugin_contract import (
    CONTRACT_VERSION,
    GET_METADATA,
    METADATA_MEMBERS,
    PREFIX,
    Metadata,
)
from dmsign_fast.strict_json import Members, dump_json, read_object

__all__ = ["Plugin", "find_plugin", "list_plugins"]

METADATA_TIMEOUT = 30.0  # seconds; the answer is to be the same always, and not to need a network
# An envelope of the most that notation reads, 4 MiB, is less than this in base64.
_OUTPUT_LIMIT = 8 << 20
_LONGEST_MESSAGE = 600
_AGAIN = ("THROTTLED", "TIMEOUT")


@dataclass(frozen=True, slots=True)
class Plugin:
    """An executable that speaks the contract; ``timeout`` is how many seconds an answer takes."""

    name: str
    path: Path
    timeout: float

    def __str__(self) -> str:
        return f"the plugin {self.name}"

    def metadata(self, config: Mapping[str, str] | None = None) -> Metadata:
        """Return what the plugin says of itself.

        Raises ProgramError unless it says so well-formed, under its own name, and speaks our
        version of the contract.
        """
        request = {"pluginConfig": dict(config)} if config else {}
        hurried = Plugin(self.name, self.path, min(self.timeout, METADATA_TIMEOUT))
        said = hurried.ask(GET_METADATA, request, METADATA_MEMBERS)
        with self.answering():
            metadata = Metadata.of(said)
        if metadata.name != self.name:
            raise ProgramError(
                f"{self.path} says that it is the plugin {metadata.name!r}: install it under that "
                "name"
            )
        if CONTRACT_VERSION not in metadata.contract_versions:
            spoken = ", ".join(metadata.contract_versions) or "none"
            raise ProgramError(
                f"{self} speaks the versions {spoken} of notation's plugin contract, and not "
                f"{CONTRACT_VERSION}; install a version of it that does"
            )
        return metadata

    def ask(self, command: str, request: Mapping[str, Any], members: Collection[str]) -> Members:
        """Run a command of the plugin and return the ``members`` of its answer.

        Raises SigningError for an error that the plugin reports, ProgramError for a plugin that
        fails otherwise, hangs, floods, dies, or answers with anything else than a JSON object.
        """
        done = run_program(
            [self.path, command],
            timeout=self.timeout,
            environment=os.environ,
            stdin=dump_json(request),
            output_limit=_OUTPUT_LIMIT,
            name=str(self),
        )
        if done.exit_code:
            raise self._failed(command, done)
        with self.answering():
            what = f"the answer to {command}"
            return Members(read_object(done.out, what), members, what)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Turn the FormatError of a malformed answer into a ProgramError."""
        try:
            yield
        except FormatError as error:
            raise ProgramError(f"{self} does not keep to the contract: {error}") from error

    def _failed(self, command: str, done: Finished) -> SigningError | ProgramError:
        # libraries of a plugin may have said something before it, each on its own line
        for text in (done.err, done.err.rstrip().rpartition(b"\n")[2]):
            with contextlib.suppress(FormatError):
                said = Members(read_object(text, ""), ("errorCode", "errorMessage"), "")
                code = said.optional_text("errorCode")
                message = said.optional_text("errorMessage")
                if code or message:
                    parts = [code, message and _shortened(message)]
                    why = ": ".join(one for one in parts if one)
                    again = "; try again" if code in _AGAIN else ""
                    return SigningError(f"{self} refused {command}: {why}{again}")
        why = f"; it said: {done.last_words}" if done.last_words else ", and said nothing"
        return ProgramError(f"{self} failed at {command} with exit status {done.exit_code}{why}")


def find_plugin(name: str, timeout: float = METADATA_TIMEOUT) -> Plugin:
    """Return the plugin of that name.

    Raises ParameterError for what cannot be a name, ProgramError for a plugin that is not
    installed or cannot be run.
    """
    if not is_name(name):
        raise ParameterError(
            f"{name!r} is not the name of a plugin; those have letters, digits, '_', '.', '-'"
        )
    path = plugin_directory() / name / f"{PREFIX}{name}"
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise ProgramError(
            f"the plugin {name} is not installed: {path}: {error.strerror}; see "
            "dmsign-fast plugin list and install"
        ) from error
    # by the letter of the contract; notation itself follows links
    if not stat.S_ISREG(mode):
        raise ProgramError(f"{path} is not a regular file, as a plugin must be; copy it there")
    if not os.access(path, os.X_OK):
        raise ProgramError(f"{path} is not executable: chmod +x it")
    return Plugin(name, path, timeout)


def list_plugins() -> tuple[str, ...]:
    """Return the names of what is installed, whether it works or not, in order."""
    directory = plugin_directory()
    with storage_errors("read", directory):
        try:
            entries = list(os.scandir(directory))
        except FileNotFoundError:
            return ()
        return tuple(
            sorted(
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            )
        )


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."
