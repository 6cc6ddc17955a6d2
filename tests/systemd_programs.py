"""systemd's programs of Debian 13, and of sid, unpacked beside the checkout, for any user."""

from __future__ import annotations

import platform
import re
import shutil
from pathlib import Path

import pytest
from debian import CACHE, Apt, UnavailableError, kept
from helpers import Done, run

# the programs load some libraries when they are needed
_PACKAGES = ("systemd-container", "systemd-repart", "libcryptsetup12")
_LOADED = ("libcryptsetup.so.12", "libblkid.so.1", "libmount.so.1", "libcrypto.so.3")


def systemd(program: str, *words: object) -> Done:
    """Run a program of Debian 13 by its own loader and libraries."""
    return _run("trixie", program, words)


def newer_systemd(program: str, *words: object) -> Done:
    """Run a program of sid; the README calls it optional."""
    return _run("sid", program, words)


def copy_systemd(directory: Path, *programs: str) -> tuple[str, ...]:
    """Copy programs of Debian 13, their libraries and loader; the words that run one there.

    ``directory`` is below the root of another machine, where it is ``/systemd``.
    """
    root = _root("trixie")
    directory.mkdir(parents=True)
    libraries = root / "usr/lib/x86_64-linux-gnu"
    chosen = [root / "usr/bin" / name for name in programs]
    chosen += [libraries / name for name in _LOADED]
    for one in chosen:
        listed = run(*_loader(root), "--list", one).out
        needed = re.findall(r"(?:=> |^\s*)(/\S+)", listed, re.MULTILINE)
        for path in (one, *map(Path, needed)):
            shutil.copy(path, directory / path.name)
    return "/systemd/ld-linux-x86-64.so.2", "--library-path", "/systemd"


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
