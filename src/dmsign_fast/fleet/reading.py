"""What the file of a run says: to people, scripts, and the run itself."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from array import array
from typing import TYPE_CHECKING, Any

from dmsign_fast import __version__
from dmsign_fast.errors import ParameterError
from dmsign_fast.fleet.database import Database
from dmsign_fast.fleet.rows import Counts, ImageRow, Listed, State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["MAJOR_VERSION", "ReadableState"]

_IMAGE_COLUMNS = (
    "image.id, reference, place, digest, media_type, size, layers, state, reason, added, seconds"
)

# Root hashes of another major version are not taken.
MAJOR_VERSION = int(__version__.partition(".")[0])


class ReadableState(Database):
    """The file of a run, to look at: also while a coordinator writes it."""

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
