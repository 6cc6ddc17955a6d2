"""The newest Linux of Debian sid for clouds, unpacked and not installed."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from debian import Apt, UnavailableError, unpack

_META = "linux-image-cloud-amd64"
_FIRST_WITH_KEYRING = (7, 0)


@dataclass(frozen=True)
class Kernel:
    """Linux and its modules, below ``root``."""

    version: str
    root: Path

    @property
    def modules(self) -> Path:
        return self.root / "usr/lib/modules" / self.version

    @property
    def image(self) -> Path:
        return self.modules / "vmlinuz"


def kernel(cache: Path, *, update: bool = False) -> Kernel:
    """Return the kernel in the cache, which is filled first if it is empty or to be updated."""
    root = cache / "root"
    if update or not root.exists():
        _fetch(cache / "apt", root)
    version = next((root / "usr/lib/modules").iterdir()).name
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _FIRST_WITH_KEYRING:
        message = f"Linux {version} has no keyring .dm-verity, which came with 7.0"
        raise SystemExit(message)
    return Kernel(version, root)


def _fetch(home: Path, root: Path) -> None:
    print("fetching the newest kernel of Debian sid", flush=True)
    try:
        apt = Apt(home, "sid", "amd64")
        packages = _closure(apt)
        print(*packages, sep="\n", flush=True)
        unpack(apt.download(*packages), root)
    except UnavailableError as error:
        raise SystemExit(str(error)) from None
    shutil.rmtree(home)


def _closure(apt: Apt) -> list[str]:
    """Return the packages of one kernel that the meta package leads to, and nothing of the rest."""
    todo, done = [_META], []
    while todo:
        package = todo.pop()
        done.append(package)
        shown = apt("apt-cache", "show", "--no-all-versions", package)
        depends = re.search(r"^Depends: (.*)$", shown, re.MULTILINE)
        for other in re.findall(r"\blinux-[\w.+-]*cloud-amd64\b", depends[1] if depends else ""):
            if other not in (*todo, *done):
                todo.append(other)
    return done
