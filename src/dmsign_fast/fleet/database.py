"""The SQLite file of a run: whose it is, of which version, and who works on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from typing import TYPE_CHECKING, Any, Self

from dmsign_fast.errors import FormatError, StorageError
from dmsign_fast.outputs import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Database"]

_APPLICATION = int.from_bytes(b"dmsf")
_SCHEMA_VERSION = 2
_HEADER = b"SQLite format 3\0"

_SCHEMA = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY CHECK (id = 1), parameters TEXT NOT NULL,
    began REAL NOT NULL, ended REAL
);
CREATE TABLE source (  -- a line of the list of images
    id INTEGER PRIMARY KEY, reference TEXT NOT NULL UNIQUE, resolved INTEGER NOT NULL DEFAULT 0,
    failure TEXT
);
CREATE TABLE image (
    id INTEGER PRIMARY KEY, source INTEGER NOT NULL, place TEXT NOT NULL, digest TEXT NOT NULL,
    media_type TEXT NOT NULL, size INTEGER NOT NULL,
    layers BLOB NOT NULL,  -- the identifiers in order, 32 bits each
    state TEXT NOT NULL, reason TEXT, added TEXT, seconds REAL,
    UNIQUE (place, digest)
);
CREATE TABLE layer (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL, diff_id TEXT NOT NULL, media_type TEXT NOT NULL,
    size INTEGER NOT NULL, failure TEXT,
    UNIQUE (digest, diff_id, media_type, size)
);
CREATE TABLE location (
    layer INTEGER NOT NULL, place TEXT NOT NULL, PRIMARY KEY (layer, place)
) WITHOUT ROWID;
CREATE TABLE recipe (id INTEGER PRIMARY KEY, fields TEXT NOT NULL UNIQUE);
CREATE TABLE root_hash (
    layer INTEGER NOT NULL, recipe INTEGER NOT NULL, version INTEGER NOT NULL,
    root_hash BLOB NOT NULL, uncompressed_size INTEGER NOT NULL, host TEXT NOT NULL,
    seconds REAL NOT NULL, made REAL NOT NULL,
    PRIMARY KEY (layer, recipe, version)
) WITHOUT ROWID;
CREATE TABLE part (  -- what forms have of a layer besides its signature, and where a worker put it
    layer INTEGER NOT NULL, recipe INTEGER NOT NULL, version INTEGER NOT NULL, part TEXT NOT NULL,
    digest TEXT NOT NULL, size INTEGER NOT NULL, place TEXT NOT NULL,
    PRIMARY KEY (layer, recipe, version, part)
) WITHOUT ROWID;
"""


class Database:
    """An SQLite file with the tables of a run; close it, or use it in ``with``."""

    def __init__(self, path: Path, *, write: bool = False) -> None:
        """Open the file; to ``write``, make it, 0600, where it is not there.

        Raises:
            StorageError: it cannot be read or written, or another coordinator has it.
            FormatError: it is of another program, or of another version of this one.
        """
        if not path.name:
            raise StorageError(f"{str(path)!r} is not the name of a state file")
        self.path = path
        with contextlib.ExitStack() as opened:
            self._open(write=write, opened=opened)
            self._opened = opened.pop_all()

    def _open(self, *, write: bool, opened: contextlib.ExitStack) -> None:
        path = self.path
        with storage_errors("open the state file", path):
            if write:
                self._take(path.with_name(path.name + ".lock"), opened)
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._check(path)
        mode = "rw" if write else "ro"
        with self._errors():
            self._base = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=10,
            )
            opened.callback(self._base.close)
            if write:
                self._base.execute("PRAGMA journal_mode = WAL")
                self._base.execute("PRAGMA synchronous = FULL")
        self._check_schema(make=write)

    def _take(self, path: Path, opened: contextlib.ExitStack) -> None:
        lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        opened.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(
                f"another coordinator works on {self.path}: wait for its end, or give another "
                "--state"
            ) from None

    def _check(self, path: Path) -> None:
        with path.open("rb") as file:
            header = file.read(len(_HEADER))
        if header not in (b"", _HEADER):
            raise FormatError(f"{path} is no state file of dmsign-fast fleet: give another file")

    def _check_schema(self, *, make: bool) -> None:
        with self._errors():
            ((application,),) = self._base.execute("PRAGMA application_id")
            ((version,),) = self._base.execute("PRAGMA user_version")
            ((tables,),) = self._base.execute("SELECT count(*) FROM sqlite_schema")
            if not tables and make:
                with self._transaction():
                    for statement in _SCHEMA.split(";\n"):
                        self._base.execute(statement)
                    self._base.execute(f"PRAGMA application_id = {_APPLICATION}")
                    self._base.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
                return
        if application != _APPLICATION:
            raise FormatError(
                f"{self.path} is the database of another program: give another --state"
            )
        if version != _SCHEMA_VERSION:
            raise FormatError(
                f"{self.path} has version {version} of the state file, and this dmsign-fast reads "
                f"version {_SCHEMA_VERSION}: use the dmsign-fast that wrote it, or another --state"
            )

    def close(self) -> None:
        """Close the file and let another coordinator have it."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(
                f"the state file {self.path} cannot be used: {error}; what it holds is kept, go on "
                "with --resume once that is mended"
            ) from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._errors():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
            except BaseException:
                self._forget()
                with contextlib.suppress(sqlite3.Error):
                    self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def _forget(self) -> None:
        """What was not committed is not known: for whoever remembers what the file holds."""

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._errors():
            return self._base.execute(query, values).fetchall()
