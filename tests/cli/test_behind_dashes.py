"""What stands behind ``--`` is no option."""

import pytest
from helpers import dmsign


@pytest.mark.parametrize(
    "word", ["--help", "--version", "-h", "--no-dm-verity", "--trust=root.pem"]
)
def test_an_image_that_looks_like_an_option(word):
    """Help would end with status 0, as if the image were verified."""
    done = dmsign("verify", "--output", "json", "--", word)
    assert done.exit_code == 2
    assert f"{word!r} does not name a registry" in done.out
    done = dmsign("verify", "--", "registry.example/app:1", word)
    assert done.exit_code == 2
    assert f"one argument too many: {word!r}" in done.err


def test_files_whose_names_begin_with_a_hyphen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-data").write_bytes(bytes(8192))
    done = dmsign("verity", "format", "--no-superblock", "--", "-data", "--tree")
    assert done.exit_code == 0, done.err
    assert (tmp_path / "--tree").stat().st_size
    done = dmsign("verity", "format", "-data", "tree")
    assert done.exit_code == 2


def test_dashes_alone_say_nothing():
    done = dmsign("cert", "--", "list")
    assert done.exit_code == 2
    assert dmsign("version", "--").exit_code == 0
