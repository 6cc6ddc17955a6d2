"""The file of a run: every image and layer, and what became of it; the index of later runs.

It is an SQLite database in WAL mode. Whoever may write it decides which root hashes are signed:
it is made for its owner alone.
"""

from __future__ import annotations

import json
import time
from array import array
from typing import TYPE_CHECKING, Any

from dmsign_fast.errors import ParameterError
from dmsign_fast.fleet.reading import MAJOR_VERSION, ReadableState
from dmsign_fast.fleet.rows import FoundImage, LayerRow, Listed, PartBlob, State

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["FleetState"]

_MOST_PLACES = 4  # where a layer is looked for, one after the other


class FleetState(ReadableState):
    """The file of a run, for one coordinator at a time; close it, or use it in ``with``.

    Every change is on the disk when the method returns.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it, 0600.

        Raises:
            StorageError: it cannot be read or written, or another coordinator has it.
            FormatError: it is of another program, or of another version of this one.
        """
        super().__init__(path, write=True)
        self._numbers: dict[Listed, int] = {}
        self._located: dict[int, set[str]] = {}

    def _forget(self) -> None:
        self._numbers.clear()
        self._located.clear()

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
            base.execute("DELETE FROM part")

    def parts(self, recipe: int) -> dict[int, list[PartBlob]]:
        """What workers have pushed of layers besides root hashes, by layer."""
        query = "SELECT layer, part, digest, size, place FROM part WHERE recipe = ? AND version = ?"
        found: dict[int, list[PartBlob]] = {}
        for layer, *blob in self._rows(query, recipe, MAJOR_VERSION):
            found.setdefault(layer, []).append(PartBlob(*blob))
        return found

    def forget_parts(self, layer: int) -> None:
        """Read a layer anew for them: they are gone, or are not what they should be."""
        with self._transaction() as base:
            base.execute("DELETE FROM part WHERE layer = ?", (layer,))

    def hashed(
        self,
        layer: int,
        root_hashes: Mapping[int, bytes],
        *,
        uncompressed_size: int,
        seconds: float,
        host: str,
        parts: Sequence[PartBlob] = (),
    ) -> None:
        """Record the root hashes of a layer, by recipe; ``parts`` are of the first."""
        with self._transaction() as base:
            base.executemany(
                "INSERT OR REPLACE INTO root_hash VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (layer, recipe, MAJOR_VERSION, root, uncompressed_size, host, seconds, now)
                    for now in (time.time(),)
                    for recipe, root in root_hashes.items()
                ),
            )
            first = next(iter(root_hashes))
            base.executemany(
                "INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (layer, first, MAJOR_VERSION, one.part, one.digest, one.size, one.place)
                    for one in parts
                ),
            )

    def layer_failed(self, layer: int, reason: str) -> None:
        """Record that a layer cannot be hashed."""
        with self._transaction() as base:
            base.execute("UPDATE layer SET failure = ? WHERE id = ?", (reason, layer))

    # Images

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
