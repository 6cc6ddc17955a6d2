"""A change of the configuration is private and whole, whatever fails and whenever."""

import os

import pytest
from config_tree import tree

from dmsign_fast import outputs
from dmsign_fast.errors import StorageError
from dmsign_fast.signing.scheme import KeySpec
from dmsign_fast.trust.config_edit import changing
from dmsign_fast.trust.generate import generate_test
from dmsign_fast.trust.keys import load_signing_keys
from dmsign_fast.trust.store import load_store


@pytest.mark.parametrize("umask", [0, 0o22, 0o777 & ~0o700])
def test_modes_are_those_of_notation(tmp_path, umask):
    before = os.umask(umask)
    try:
        with changing(tmp_path / "a/b") as change:
            change.write(tmp_path / "a/b/c/secret", b"1")
            change.write(tmp_path / "a/b/public", b"2", mode=0o644)
    finally:
        os.umask(before)
    assert tree(tmp_path) == {
        "a": ("0o700", None),
        "a/b": ("0o700", None),
        "a/b/c": ("0o700", None),
        "a/b/c/secret": ("0o600", b"1"),
        "a/b/public": ("0o644", b"2"),
    }


def test_a_file_that_was_open_to_others_is_so_no_more(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o666)
    with changing(tmp_path) as change:
        change.write(tmp_path / "file", b"new")
    assert tree(tmp_path) == {"file": ("0o600", b"new")}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("function", ["write_all", "place"])
def test_what_fails_midway_leaves_everything_as_it_was(
    tmp_path, monkeypatch, function, step, error
):
    generate_test(tmp_path, "old", KeySpec.EC_256)
    before = tree(tmp_path)
    calls = iter(range(99))

    def failing(real):
        def call(*arguments):
            if next(calls) == step:
                raise error(28, "No space left on device")
            return real(*arguments)

        return call

    if function == "place":
        monkeypatch.setattr(outputs._Output, "place", failing(outputs._Output.place))
    else:
        monkeypatch.setattr("dmsign_fast.trust.config_edit.write_all", failing(outputs.write_all))
    with pytest.raises(StorageError if error is OSError else error):
        generate_test(tmp_path, "new", KeySpec.EC_256)
    assert tree(tmp_path) == before
    monkeypatch.undo()
    generate_test(tmp_path, "new", KeySpec.EC_256)
    assert list(load_signing_keys(tmp_path).keys) == ["old", "new"]
    assert load_store(tmp_path, "ca", "new")


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="make the directory"), changing(tmp_path / "file/x"):
        pass
