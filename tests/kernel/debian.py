"""The newest Linux of Debian sid for clouds, unpacked and not installed.

Packages come through a private apt: the machine's settings and its mirror of Debian, but lists,
cache and an empty status of our own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_META = "linux-image-cloud-amd64"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_FIRST_WITH_KEYRING = (7, 0)
_HOUR = 3600

_SOURCES = """\
Types: deb
URIs: {mirror}
Suites: sid
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
Dir::Etc::sourcelist "{directory}/sid.sources";
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


def _fetch(apt: Path, root: Path) -> None:
    shutil.rmtree(apt, ignore_errors=True)
    for directory in ("state/lists/partial", "cache/archives/partial", "debs"):
        (apt / directory).mkdir(parents=True)
    if not _KEYRING.exists():
        message = f"{_KEYRING} is missing: apt-get install debian-archive-keyring"
        raise SystemExit(message)
    (apt / "status").touch()
    (apt / "sid.sources").write_text(_SOURCES.format(mirror=_mirror(), keyring=_KEYRING))
    configuration = apt / "apt.conf"
    user = "root" if os.getuid() == 0 else ""
    configuration.write_text(_CONFIGURATION.format(directory=apt.absolute(), user=user))
    private = ("-c", str(configuration.absolute()))

    print("fetching the newest kernel of Debian sid", flush=True)
    _run("apt-get", *private, "-qq", "update")
    packages = _closure(private)
    print(*packages, sep="\n", flush=True)
    _run("apt-get", *private, "-qq", "download", *packages, cwd=apt / "debs")
    fresh = root.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    for package in sorted((apt / "debs").iterdir()):
        _run("dpkg-deb", "-x", str(package), str(fresh))
    shutil.rmtree(root, ignore_errors=True)
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
        raise SystemExit(message)
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
        raise SystemExit(message) from None
    if done.returncode:
        message = f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}"
        raise SystemExit(message)
    return done.stdout
