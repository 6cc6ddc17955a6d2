"""The file of a run: every image and layer, and what became of it; the index of later runs.

It is an SQLite database in WAL mode. Whoever may write it decides which root hashes are signed:
it is made for its owner alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
from array import array
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dmsign_fast import __version__
from dmsign_fast.errors import FormatError, ParameterError, StorageError
from dmsign_fast.outputs import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["Counts", "FleetState", "FoundImage", "ImageRow", "LayerRow", "Listed", "State"]


_APPLICATION = int.from_bytes(b"dmsf")
_SCHEMA_VERSION = 1
_HEADER = b"SQLite format 3\0"
_MOST_PLACES = 4  # where a layer is looked for, one after the other

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
"""

_IMAGE_COLUMNS = (
    "image.id, reference, place, digest, media_type, size, layers, state, reason, added, seconds"
)

# Root hashes of another major version are not taken.
MAJOR_VERSION = int(__version__.partition(".")[0])


class State(StrEnum):
    """What became of an image."""

    PLANNED = "planned"
    PASSED_OVER = "signed before"
    SIGNED = "signed"
    VERIFIED = "verified"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Listed:
    """A layer as an image lists it."""

    digest: str
    diff_id: str
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A different layer of the run, and the places that have it."""

    id: int
    listed: Listed
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundImage:
    """A manifest that a reference stands for: where it is, its descriptor, layers and state."""

    place: str
    digest: str
    media_type: str
    size: int
    layers: tuple[Listed, ...]
    state: State


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image of the run.

    Attributes:
        id: in the file.
        reference: as it was asked for.
        place: its registry and repository, or the path of its layout.
        digest: of its manifest.
        media_type: of its manifest.
        size: of its manifest.
        layers: identifiers of its layers, in order.
        state: what became of it.
        reason: why it failed.
        added: digests of the referrers that it got.
        seconds: that signing and pushing took.
    """

    id: int
    reference: str
    place: str
    digest: str
    media_type: str
    size: int
    layers: tuple[int, ...]
    state: State
    reason: str | None
    added: tuple[str, ...]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a run is.

    Attributes:
        images: by what became of them.
        unresolved: references that are not looked up yet, and those that could not be.
        layers: different layers, those with all root hashes, those that failed.
        bytes: of the different layers, of those that are done, and of all layers of all images.
        began: seconds since the epoch.
        ended: the same; None while the run is unfinished.
        parameters: of the run.
    """

    images: Mapping[State, int]
    unresolved: tuple[int, int]
    layers: tuple[int, int, int]
    bytes: tuple[int, int, int]
    began: float
    ended: float | None
    parameters: Mapping[str, Any]


class FleetState:
    """The file of a run, for one coordinator at a time; close it, or use it in ``with``.

    Every change is on the disk when the method returns.
    """

    def __init__(self, path: Path, *, write: bool = True) -> None:
        """Open the file, or make it, 0600.

        Raises:
            StorageError: it cannot be read or written, or another coordinator has it.
            FormatError: it is of another program, or of another version of this one.
        """
        if not path.name:
            raise StorageError(f"{str(path)!r} is not the name of a state file")
        self.path = path
        self._lock: int | None = None
        self._numbers: dict[Listed, int] = {}
        self._located: dict[int, set[str]] = {}
        with storage_errors("open the state file", path):
            if write:
                self._take(path.with_name(path.name + ".lock"))
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
            if write:
                self._base.execute("PRAGMA journal_mode = WAL")
                self._base.execute("PRAGMA synchronous = FULL")
        try:
            self._check_schema(make=write)
        except BaseException:
            self.close()
            raise

    def _take(self, path: Path) -> None:
        self._lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = None
            raise StorageError(
                f"another coordinator works on {self.path}: wait for its end, or give another "
                "--state"
            ) from None

    def _check(self, path: Path) -> None:
        with path.open("rb") as file:
            header = file.read(len(_HEADER))
        if header not in (b"", _HEADER):
            raise FormatError(f"{path} is no state file of dmsign-fast fleet: give another --state")

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
        self._base.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

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
        """What was not committed is not known."""
        self._numbers.clear()
        self._located.clear()

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._errors():
            return self._base.execute(query, values).fetchall()

    # The run

    def begin(self, parameters: Mapping[str, Any], *, resume: bool) -> bool:
        """Begin a run, or go on with an unfinished one; whether it is the latter.

        A finished run leaves its root hashes, and its images go.

        Raises:
            ParameterError: an unfinished run is there and is not to be resumed, or it has other
                parameters.
        """
        wanted = json.dumps(parameters, sort_keys=True)
        run = self._rows("SELECT parameters, ended FROM run")
        if run and run[0][1] is None:
            if not resume:
                raise ParameterError(
                    f"{self.path} holds an unfinished run: go on with --resume, or give another "
                    "--state"
                )
            if run[0][0] != wanted:
                before = json.loads(run[0][0])
                names = [name for name in parameters if parameters[name] != before.get(name)]
                raise ParameterError(
                    f"the unfinished run in {self.path} has another {', '.join(names) or 'kind'}: "
                    "resume it with the same options, or give another --state"
                )
            return True
        with self._transaction() as base:
            for table in ("run", "source", "image", "location"):
                base.execute(f"DELETE FROM {table}")  # noqa: S608  the names are ours
            self._forget()
            base.execute("UPDATE layer SET failure = NULL WHERE failure IS NOT NULL")
            base.execute("INSERT INTO run VALUES (1, ?, ?, NULL)", (wanted, time.time()))
        return False

    def copy_index(self, path: Path) -> None:
        """Write the file's root hashes, and no run, to a new one."""
        with self._errors(), contextlib.closing(sqlite3.connect(path)) as copy:
            self._base.backup(copy)
            copy.execute("DELETE FROM run")
            copy.commit()

    def speed(self) -> float | None:
        """Bytes of layers that a worker reads in a second, by what the file has; None if none."""
        ((size, seconds),) = self._rows(
            "SELECT sum(size), sum(seconds) FROM root_hash JOIN layer ON layer.id = layer "
            "WHERE seconds > 0"
        )
        return size / seconds if seconds else None

    def end(self) -> None:
        """Say that nothing is left to do."""
        with self._transaction() as base:
            base.execute("UPDATE run SET ended = ?", (time.time(),))

    def reset_failures(self) -> None:
        """Try again what failed: of a resumed run."""
        with self._transaction() as base:
            base.execute("UPDATE source SET failure = NULL, resolved = 0 WHERE failure IS NOT NULL")
            base.execute("UPDATE layer SET failure = NULL WHERE failure IS NOT NULL")
            base.execute(
                "UPDATE image SET state = ?, reason = NULL WHERE state = ?",
                (State.PLANNED, State.FAILED),
            )

    # References

    def add_sources(self, references: Iterable[str]) -> None:
        """Add references that are not there yet."""
        with self._transaction() as base:
            base.executemany(
                "INSERT OR IGNORE INTO source (reference) VALUES (?)",
                ((one,) for one in references),
            )

    def has_sources(self) -> bool:
        """Whether the run has any references."""
        return bool(self._rows("SELECT 1 FROM source LIMIT 1"))

    def unresolved(self) -> list[tuple[int, str]]:
        """The references that are not looked up yet, by identifier."""
        return self._rows("SELECT id, reference FROM source WHERE resolved = 0 ORDER BY id")

    def resolve(self, found: Iterable[tuple[int, Sequence[FoundImage], str | None]]) -> None:
        """Record what references stand for, or why they could not be looked up, in one step."""
        with self._transaction() as base:
            for source, images, failure in found:
                for one in images:
                    numbers = array("I", (self._layer(base, x, one.place) for x in one.layers))
                    base.execute(
                        "INSERT OR IGNORE INTO image "
                        "(source, place, digest, media_type, size, layers, state) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (
                            *(source, one.place, one.digest, one.media_type, one.size),
                            *(numbers.tobytes(), one.state),
                        ),
                    )
                base.execute(
                    "UPDATE source SET resolved = 1, failure = ? WHERE id = ?", (failure, source)
                )

    def _layer(self, base: sqlite3.Connection, one: Listed, place: str) -> int:
        number = self._numbers.get(one)
        if number is None:
            values = (one.digest, one.diff_id, one.media_type, one.size)
            base.execute(
                "INSERT OR IGNORE INTO layer (digest, diff_id, media_type, size) "
                "VALUES (?, ?, ?, ?)",
                values,
            )
            ((number,),) = base.execute(
                "SELECT id FROM layer WHERE digest = ? AND diff_id = ? AND media_type = ? "
                "AND size = ?",
                values,
            )
            rows = base.execute("SELECT place FROM location WHERE layer = ?", (number,))
            self._numbers[one] = number
            self._located[number] = {where for (where,) in rows}
        places = self._located[number]
        if place not in places and len(places) < _MOST_PLACES:
            places.add(place)
            base.execute("INSERT OR IGNORE INTO location VALUES (?, ?)", (number, place))
        return number

    # Layers

    def recipe(self, fields: Mapping[str, str]) -> int:
        """The identifier of a recipe, which is added if it is new; see Recipe.fields."""
        text = json.dumps(fields, sort_keys=True)
        with self._transaction() as base:
            base.execute("INSERT OR IGNORE INTO recipe (fields) VALUES (?)", (text,))
            ((number,),) = base.execute("SELECT id FROM recipe WHERE fields = ?", (text,))
        return int(number)

    def layers(self) -> list[LayerRow]:
        """The different layers of images that are planned, the largest first."""
        needed: set[int] = set()
        for (numbers,) in self._rows("SELECT layers FROM image WHERE state = ?", State.PLANNED):
            needed.update(array("I", numbers))
        places: dict[int, list[str]] = {}
        for layer, place in self._rows("SELECT layer, place FROM location"):
            places.setdefault(layer, []).append(place)
        rows = self._rows(
            "SELECT id, digest, diff_id, media_type, size FROM layer ORDER BY size DESC, id"
        )
        return [
            LayerRow(number, Listed(*listed), tuple(places.get(number, ())))
            for number, *listed in rows
            if number in needed
        ]

    def root_hashes(self, recipe: int) -> dict[int, bytes]:
        """The root hashes that are known, by layer."""
        query = "SELECT layer, root_hash FROM root_hash WHERE recipe = ? AND version = ?"
        return dict(self._rows(query, recipe, MAJOR_VERSION))

    def forget_root_hashes(self) -> None:
        """Hash every layer anew: the index is not believed."""
        with self._transaction() as base:
            base.execute("DELETE FROM root_hash")

    def hashed(
        self,
        layer: int,
        root_hashes: Mapping[int, bytes],
        *,
        uncompressed_size: int,
        seconds: float,
        host: str,
    ) -> None:
        """Record the root hashes of a layer, by recipe."""
        with self._transaction() as base:
            base.executemany(
                "INSERT OR REPLACE INTO root_hash VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (layer, recipe, MAJOR_VERSION, root, uncompressed_size, host, seconds, now)
                    for now in (time.time(),)
                    for recipe, root in root_hashes.items()
                ),
            )

    def layer_failed(self, layer: int, reason: str) -> None:
        """Record that a layer cannot be hashed."""
        with self._transaction() as base:
            base.execute("UPDATE layer SET failure = ? WHERE id = ?", (reason, layer))

    # Images

    def images(self, *states: State) -> Iterator[ImageRow]:
        """The images of these states, or all."""
        marks = ", ".join("?" * len(states))
        where = f" WHERE state IN ({marks})" if states else ""
        with self._errors():
            rows = self._base.execute(
                f"SELECT {_IMAGE_COLUMNS} FROM image JOIN source ON source.id = source{where} "  # noqa: S608
                "ORDER BY image.id",
                states,
            )
            for number, reference, place, digest, kind, size, layers, state, *ended in rows:
                reason, added, seconds = ended
                yield ImageRow(
                    number,
                    reference,
                    place,
                    digest,
                    kind,
                    size,
                    tuple(array("I", layers)),
                    State(state),
                    reason,
                    tuple((added or "").split()),
                    seconds,
                )

    def image_done(
        self, image: int, state: State, added: Sequence[str] = (), seconds: float | None = None
    ) -> None:
        """Record that an image is signed, or verified."""
        with self._transaction() as base:
            base.execute(
                "UPDATE image SET state = ?, reason = NULL, added = ?, seconds = ? WHERE id = ?",
                (state, " ".join(added) or None, seconds, image),
            )

    def image_failed(self, image: int, reason: str) -> None:
        """Record why an image failed."""
        with self._transaction() as base:
            base.execute(
                "UPDATE image SET state = ?, reason = ? WHERE id = ?",
                (State.FAILED, reason, image),
            )

    # What people ask

    def failures(self) -> list[tuple[str, str]]:
        """References that could not be looked up, and why."""
        query = "SELECT reference, failure FROM source WHERE failure IS NOT NULL ORDER BY id"
        return self._rows(query)

    def layer_facts(self) -> dict[int, tuple[Listed, str | None, dict[str, Any]]]:
        """All that is known of each layer: as listed, why it failed, root hashes by recipe name."""
        recipes = {
            number: json.loads(fields)
            for number, fields in self._rows("SELECT id, fields FROM recipe")
        }
        facts: dict[int, tuple[Listed, str | None, dict[str, Any]]] = {
            number: (Listed(*listed), failure, {})
            for number, *listed, failure in self._rows(
                "SELECT id, digest, diff_id, media_type, size, failure FROM layer"
            )
        }
        query = (
            "SELECT layer, recipe, root_hash, uncompressed_size, host, seconds FROM root_hash "
            "WHERE version = ?"
        )
        for layer, recipe, root_hash, size, host, seconds in self._rows(query, MAJOR_VERSION):
            fields = recipes[recipe]
            facts[layer][2][f"{fields['name']}@{fields['mkfs-version']}"] = {
                "root_hash": root_hash.hex(),
                "uncompressed_size": size,
                "host": host,
                "seconds": seconds,
            }
        return facts

    def counts(self) -> Counts:
        """How far the run is.

        Raises:
            ParameterError: the file holds no run.
        """
        run = self._rows("SELECT parameters, began, ended FROM run")
        if not run:
            raise ParameterError(f"{self.path} holds no run yet: begin one with fleet sign")
        parameters, began, ended = run[0]
        images = dict.fromkeys(State, 0)
        for state, number in self._rows("SELECT state, count(*) FROM image GROUP BY state"):
            images[State(state)] = number
        ((waiting, failed),) = self._rows(
            "SELECT count(*) FILTER (WHERE resolved = 0), "
            "count(*) FILTER (WHERE failure IS NOT NULL) FROM source"
        )
        used: dict[int, int] = {}
        for (numbers,) in self._rows("SELECT layers FROM image"):
            for number in array("I", numbers):
                used[number] = used.get(number, 0) + 1
        done = {
            layer
            for (layer,) in self._rows(
                "SELECT DISTINCT layer FROM root_hash WHERE version = ?", MAJOR_VERSION
            )
        }
        totals = [0] * 6
        for number, size, failure in self._rows("SELECT id, size, failure FROM layer"):
            if number in used:
                finished = number in done
                for at, value in enumerate(
                    (1, finished, failure is not None, size, size * finished, size * used[number])
                ):
                    totals[at] += value
        return Counts(
            images,
            (waiting, failed),
            (totals[0], totals[1], totals[2]),
            (totals[3], totals[4], totals[5]),
            began,
            ended,
            json.loads(parameters),
        )
