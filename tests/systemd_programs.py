"""systemd's programs of Debian 13, and of sid, unpacked beside the checkout, for any user."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from debian import CACHE, Apt, UnavailableError, kept
from helpers import Done, run

# the last is loaded by the programs when it is needed
_PACKAGES = ("systemd-container", "systemd-repart", "libcryptsetup12")


def systemd(program: str, *words: object) -> Done:
    """Run a program of Debian 13 by its own loader and libraries."""
    return _run("trixie", program, words)


def newer_systemd(program: str, *words: object) -> Done:
    """Run a program of sid; the README calls it optional."""
    return _run("sid", program, words)


def _run(suite: str, program: str, words: tuple[object, ...]) -> Done:
    if platform.machine() != "x86_64":
        pytest.skip("the unpacked programs are for x86-64")

    def fetch(home: Path) -> list[Path]:
        return Apt(home, suite, "amd64").download_all(*_PACKAGES)

    try:
        root = kept(CACHE / f"systemd-{suite}", fetch)
    except UnavailableError as error:
        if suite == "sid":
            pytest.skip(f"systemd of sid is optional: {error}")
        pytest.fail(str(error), pytrace=False)
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = libraries / "ld-linux-x86-64.so.2"
    paths = f"{libraries}:{libraries}/systemd"
    return run(loader, "--library-path", paths, root / "usr/bin" / program, *words)
