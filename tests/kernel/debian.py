"""The newest Linux of a suite of Debian for clouds, unpacked and not installed.

Packages come through a private apt: the machine's settings and its mirror of Debian, but lists,
cache and an empty status of our own.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(
    os.environ.get("DMSIGN_KERNEL_CACHE", Path(__file__).resolve().parents[2] / ".cache" / "kernel")
)
_META = "linux-image-cloud-amd64"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_HOUR = 3600

_SOURCES = """\
Types: deb
URIs: {mirror}
Suites: {suite}
Components: main
Architectures: amd64
Targets: Packages
Signed-By: {keyring}
"""
# The machine's own hooks after an update must not run for ours.
_CONFIGURATION = """\
#clear APT::Update;
APT::Architecture "amd64";
APT::Sandbox::User "{user}";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Dir::Etc::sourcelist "{directory}/suite.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::State "{directory}/state";
Dir::State::status "{directory}/status";
Dir::Cache "{directory}/cache";
"""


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
    """Return the kernel in the cache, which is filled first if it is empty."""
    root = CACHE / suite
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _fetch(CACHE / f"apt-{suite}", root, suite)
    return Kernel(next((root / "usr/lib/modules").iterdir()).name, root)


def _fetch(apt: Path, root: Path, suite: str) -> None:
    shutil.rmtree(apt, ignore_errors=True)
    for directory in ("state/lists/partial", "cache/archives/partial", "debs"):
        (apt / directory).mkdir(parents=True)
    if not _KEYRING.exists():
        message = f"{_KEYRING} is missing: apt-get install debian-archive-keyring"
        raise AssertionError(message)
    (apt / "status").touch()
    sources = _SOURCES.format(mirror=_mirror(), suite=suite, keyring=_KEYRING)
    (apt / "suite.sources").write_text(sources)
    configuration = apt / "apt.conf"
    user = "root" if os.getuid() == 0 else ""
    configuration.write_text(_CONFIGURATION.format(directory=apt.absolute(), user=user))
    private = ("-c", str(configuration.absolute()))

    _run("apt-get", *private, "-qq", "update")
    packages = _closure(private)
    _run("apt-get", *private, "-qq", "download", *packages, cwd=apt / "debs")
    fresh = apt / "root"
    for package in sorted((apt / "debs").iterdir()):
        _run("dpkg-deb", "-x", str(package), str(fresh))
    fresh.rename(root)
    shutil.rmtree(apt)


def _mirror() -> str:
    """Return the address of Debian's archive from the machine's own sources."""
    if chosen := os.environ.get("DEBIAN_MIRROR"):
        return chosen
    uris = _run("apt-get", "update", "--print-uris")
    # by convention the archive is /debian on every mirror, and security is not
    found = re.search(r"'(\S+/debian)/?/dists/[^/']+/InRelease'", uris)
    if not found:
        message = "the apt sources of this machine name no mirror of Debian: set DEBIAN_MIRROR=URL"
        raise AssertionError(message)
    return found[1]


def _closure(private: tuple[str, ...]) -> list[str]:
    """Return the packages of one kernel that the meta package leads to, and nothing of the rest."""
    todo, done = [_META], []
    while todo:
        package = todo.pop()
        done.append(package)
        shown = _run("apt-cache", *private, "show", "--no-all-versions", package)
        depends = re.search(r"^Depends: (.*)$", shown, re.MULTILINE)
        for other in re.findall(r"\blinux-[\w.+-]*cloud-amd64\b", depends[1] if depends else ""):
            if other not in (*todo, *done):
                todo.append(other)
    return done


def _run(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, check=False, timeout=_HOUR
        )
    except FileNotFoundError:
        message = f"{command[0]} is missing: kernels are fetched by the programs of Debian"
        raise AssertionError(message) from None
    if done.returncode:
        message = f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}"
        raise AssertionError(message)
    return done.stdout
