"""Linux of Debian for clouds, pinned or the newest of a suite, unpacked and not installed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from debian import Apt, UnavailableError, kept, mirror, output_of

CACHE = Path(
    os.environ.get("DMSIGN_KERNEL_CACHE", Path(__file__).resolve().parents[2] / ".cache" / "kernel")
)
_APT_HELPER = "/usr/lib/apt/apt-helper"
_META = "linux-image-cloud-amd64"

_PINNED = "7.2.13+deb14-cloud-amd64_7.2.13-1_amd64.deb"
_PINNED_SHA256 = {
    "linux/linux-base": "c41b217e1a4e321f5eff028e965ea25f5da8a74cd3683ca7f4bacedc59e0ecc5",
    "linux/linux-modules": "97d79546041e3fdfb44dccff180938894d1bf8eb298f091f88539c1b37080bef",
    "linux-signed-amd64/linux-binary": (
        "03e41f1c34c16583462f029e81944a85ebcdb78098c258dedfa1cfdd680a27f8"
    ),
}
"""Of its packages below pool/main/l."""


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


def pinned_kernel() -> Kernel:
    """Return the pinned kernel, which the cache has by SHA-256, or else the newest of sid.

    Mirrors drop it in time, but for those with snapshots, which $DEBIAN_MIRROR may name. Of the
    newest apt checks the signatures.

    Raises:
        UnavailableError: neither can be fetched, nor is in the cache.
    """
    try:
        return _cached(_PINNED_SHA256["linux-signed-amd64/linux-binary"], _fetch_pinned)
    except UnavailableError:
        return kernel("sid")


def kernel(suite: str) -> Kernel:
    """Return the newest kernel of when the cache had none of the suite.

    Raises:
        UnavailableError: it cannot be fetched.
    """
    return _cached(suite, lambda home: _fetch_newest(home, suite))


def _cached(name: str, fetch: Callable[[Path], list[Path]]) -> Kernel:
    root = kept(CACHE / name, fetch)
    return Kernel(next((root / "usr/lib/modules").iterdir()).name, root)


def _fetch_pinned(home: Path) -> list[Path]:
    """Return its packages, of which apt checks the SHA-256."""
    home.mkdir(exist_ok=True)
    fetched = []
    for package, sha256 in _PINNED_SHA256.items():
        fetched.append(home / sha256)
        url = f"{mirror()}/pool/main/l/{package}-{_PINNED}"
        output_of(_APT_HELPER, "download-file", url, str(fetched[-1]), f"SHA256:{sha256}")
    return fetched


def _fetch_newest(home: Path, suite: str) -> list[Path]:
    apt = Apt(home, suite, "amd64")
    return apt.download(*_closure(apt))


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
