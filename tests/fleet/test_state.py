"""The file of a run: what it keeps, and whose it is."""

import contextlib
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import FormatError, ParameterError, StorageError
from dmsign_fast.fleet.reading import ReadableState
from dmsign_fast.fleet.report import html_page
from dmsign_fast.fleet.rows import FoundImage, Listed, State
from dmsign_fast.fleet.state import FleetState

LAYERS = tuple(Listed(f"sha256:{n:064x}", f"sha256:{n + 100:064x}", "a/b", n) for n in range(1, 6))
PARAMETERS = {"command": "sign", "recipes": [Recipe.parse("containerd").fields()]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.state"


def image(number, layers, state=State.PLANNED, place="registry.example/app"):
    return FoundImage(place, f"sha256:{number:064x}", "m/t", 7, tuple(layers), state)


def planned(path):
    state = FleetState(path)
    state.begin(PARAMETERS, resume=False)
    state.add_sources(["one", "two", "one"])
    (one, _), (two, _) = state.unresolved()
    state.resolve([(one, [image(1, LAYERS[:3]), image(2, LAYERS[1:4])], None)])
    state.resolve([(two, [image(3, LAYERS[:1], State.PASSED_OVER), image(1, LAYERS)], None)])
    return state


def test_only_its_owner_may_read_it(path):
    before = os.umask(0)
    try:
        state = planned(path)
    finally:
        os.umask(before)
    with state:
        for name in ("", "-wal", "-shm", ".lock"):
            file = path.with_name(path.name + name)
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_layer_is_listed_once_and_the_largest_first(path):
    with planned(path) as state:
        assert [row.listed for row in state.layers()] == [
            LAYERS[3],
            LAYERS[2],
            LAYERS[1],
            LAYERS[0],
        ]
        assert len(list(state.images())) == 3
        assert [one.state for one in state.images(State.PASSED_OVER)] == [State.PASSED_OVER]


def test_what_is_recorded_is_there_again(path):
    with planned(path) as state:
        recipe = state.recipe({"name": "containerd", "mkfs-version": "1.9.4"})
        layer = state.layers()[0]
        state.hashed(layer.id, {recipe: b"\1" * 32}, uncompressed_size=9, seconds=1.5, host="here")
        first = next(state.images(State.PLANNED))
        state.image_done(first.id, State.SIGNED, ["sha256:1", "sha256:2"], 0.5)
    with FleetState(path) as state:
        assert state.begin(PARAMETERS, resume=True)
        assert state.recipe({"mkfs-version": "1.9.4", "name": "containerd"}) == recipe
        assert state.root_hashes(recipe) == {layer.id: b"\1" * 32}
        (signed,) = state.images(State.SIGNED)
        assert (signed.added, signed.seconds) == (("sha256:1", "sha256:2"), 0.5)
        counts = state.counts()
        assert counts.images[State.SIGNED] == counts.images[State.PLANNED] == 1
        assert counts.layers == (4, 1, 0)
        assert counts.bytes == (10, 4, 2 + 3 + 4 + 1 + 2 + 3 + 1)


def test_an_unfinished_run_is_refused_or_resumed(path):
    planned(path).close()
    with FleetState(path) as state:
        with pytest.raises(ParameterError, match="unfinished run: go on with --resume"):
            state.begin(PARAMETERS, resume=False)
        with pytest.raises(ParameterError, match="another recipes"):
            state.begin({**PARAMETERS, "recipes": [{"name": "b"}]}, resume=True)
        assert state.begin(PARAMETERS, resume=True)
        state.end()
        assert not state.begin(PARAMETERS, resume=True), "a finished one is an index"
        assert not state.has_sources()


def test_failures_are_tried_again(path):
    with planned(path) as state:
        first = next(state.images(State.PLANNED))
        state.layer_failed(first.layers[0], "bad")
        state.image_failed(first.id, "a layer is bad")
        state.add_sources(["three"])
        ((three, _),) = state.unresolved()
        state.resolve([(three, [], "no such tag")])
        assert state.failures() == [("three", "no such tag")]
        assert state.counts().layers[2] == 1
        state.reset_failures()
        assert state.counts().images[State.FAILED] == 0
        assert state.counts().layers[2] == 0
        assert [text for _, text in state.unresolved()] == ["three"]


def test_two_coordinators_do_not_share_it(path):
    with planned(path), pytest.raises(StorageError, match="another coordinator works on"):
        FleetState(path)
    FleetState(path).close()


def test_it_can_be_read_while_somebody_writes(path):
    with planned(path), ReadableState(path) as reader:
        assert reader.counts().images[State.PLANNED] == 2


@pytest.mark.parametrize(
    "content", [b"not a database at all", b"{}", b"SQLite format 3\0" + bytes(84)]
)
def test_another_programs_file_is_refused_and_kept(path, content):
    path.write_bytes(content)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises((FormatError, StorageError)):
        FleetState(path)
    assert path.read_bytes() == content
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_the_database_of_another_program_is_refused(path):
    with contextlib.closing(sqlite3.connect(path)) as base:
        base.execute("CREATE TABLE t (x)")
    with pytest.raises(FormatError, match="of another program"):
        FleetState(path)


def test_another_version_of_the_file_is_refused(path):
    planned(path).close()
    with contextlib.closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA user_version = 99")
    with pytest.raises(FormatError, match="has version 99 of the state file"):
        FleetState(path)


def test_a_file_that_is_not_there_cannot_be_read(path):
    with pytest.raises(StorageError, match="No such file"):
        ReadableState(path)
    assert not path.exists()


def test_what_was_not_committed_is_not_known(path):
    with planned(path) as state:
        state.add_sources(["three"])
        ((three, _),) = state.unresolved()
        new = Listed("sha256:" + 64 * "f", "sha256:" + 64 * "e", "a/b", 99)

        def images():
            yield image(9, [new])
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            state.resolve([(three, images(), None)])
        state.resolve([(three, [image(9, [new])], None)])
        assert state.layers()[0].listed == new


def test_names_of_strangers_do_not_end_the_script_of_a_page(path):
    evil = "</script><script>alert(1)</script>&<!--"
    with planned(path) as state:
        state.add_sources([evil])
        ((number, _),) = state.unresolved()
        state.resolve([(number, [image(9, LAYERS[:1], place=evil)], None)])
        state.image_failed(1, evil)
        page = "".join(html_page(state))
    assert page.count("<script>") == page.count("</script>") == 1
    assert "\\u003c/script\\u003e\\u003cscript\\u003ealert(1)" in page
