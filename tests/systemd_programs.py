"""systemd's programs of Debian 13, and of sid, unpacked beside the checkout, for any user."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest
from debian import CACHE, Apt, UnavailableError, kept
from helpers import Done, run

# the programs load some libraries when they are needed
_PACKAGES = ("systemd-container", "systemd-repart", "libcryptsetup12")
_LEFT_OUT = ("locale", "doc", "man", "i18n", "perl*", "gconv", "catalog", "*-completions")


def systemd(program: str, *words: object) -> Done:
    """Run a program of Debian 13 by its own loader and libraries."""
    return _run("trixie", program, words)


def newer_systemd(program: str, *words: object) -> Done:
    """Run a program of sid; the README calls it optional."""
    return _run("sid", program, words)


def copy_systemd(tree: Path) -> None:
    """Copy all of systemd of Debian 13, and what it needs, as the root of another machine."""
    left_out = shutil.ignore_patterns(*_LEFT_OUT)
    shutil.copytree(_root("trixie"), tree, symlinks=True, ignore=left_out, dirs_exist_ok=True)


def _loader(root: Path) -> tuple[object, ...]:
    libraries = root / "usr/lib/x86_64-linux-gnu"
    paths = f"{libraries}:{libraries}/systemd"
    return libraries / "ld-linux-x86-64.so.2", "--library-path", paths


def _run(suite: str, program: str, words: tuple[object, ...]) -> Done:
    root = _root(suite)
    return run(*_loader(root), root / "usr/bin" / program, *words)


def _root(suite: str) -> Path:
    if platform.machine() != "x86_64":
        pytest.skip("the unpacked programs are for x86-64")

    def fetch(home: Path) -> list[Path]:
        return Apt(home, suite, "amd64").download_all(*_PACKAGES)

    try:
        return kept(CACHE / f"systemd-{suite}", fetch)
    except UnavailableError as error:
        if suite == "sid":
            pytest.skip(f"systemd of sid is optional: {error}")
        pytest.fail(str(error), pytrace=False)
