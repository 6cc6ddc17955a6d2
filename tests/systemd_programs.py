"""systemd-dissect and systemd-repart of Debian 13, unpacked beside the checkout, for any user."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from debian import CACHE, Apt, UnavailableError, kept
from helpers import Done, run

_SUITE = "trixie"
# the last is loaded by the programs when it is needed
_PACKAGES = ("systemd-container", "systemd-repart", "libcryptsetup12")


def systemd(program: str, *words: object) -> Done:
    """Run a program by its own loader and libraries."""
    if platform.machine() != "x86_64":
        pytest.skip("the unpacked programs are for x86-64")
    try:
        root = kept(CACHE / f"systemd-{_SUITE}", _fetch)
    except UnavailableError as error:
        pytest.fail(str(error), pytrace=False)
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = root / "usr/lib64/ld-linux-x86-64.so.2"
    paths = f"{libraries}:{libraries}/systemd"
    return run(loader, "--library-path", paths, root / "usr/bin" / program, *words)


def _fetch(home: Path) -> list[Path]:
    return Apt(home, _SUITE, "amd64").download_all(*_PACKAGES)
