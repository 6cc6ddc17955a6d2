"""The newest Linux of a suite of Debian for clouds, unpacked and not installed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from debian import Apt, unpack

CACHE = Path(
    os.environ.get("DMSIGN_KERNEL_CACHE", Path(__file__).resolve().parents[2] / ".cache" / "kernel")
)
_META = "linux-image-cloud-amd64"


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
        image = self.modules / "vmlinuz"
        return image if image.exists() else self.root / f"boot/vmlinuz-{self.version}"


def kernel(suite: str) -> Kernel:
    """Return the kernel in the cache, which is filled first if it is empty.

    Raises:
        UnavailableError: it cannot be fetched.
    """
    root = CACHE / suite
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _fetch(CACHE / f"apt-{suite}", root, suite)
    return Kernel(next((root / "usr/lib/modules").iterdir()).name, root)


def _fetch(home: Path, root: Path, suite: str) -> None:
    apt = Apt(home, suite, "amd64")
    unpack(apt.download(*_closure(apt)), root)
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
