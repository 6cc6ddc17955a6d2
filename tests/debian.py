"""Packages of Debian, fetched by a private apt and unpacked beside the checkout: never installed.

The private apt has the machine's own settings and mirror ($DEBIAN_MIRROR names another, which may
be a snapshot of the past), but sources, lists, cache and an empty status of its own. apt checks the
signatures of all that it fetches.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

CACHE = Path(
    os.environ.get("DMSIGN_DEBIAN_CACHE", Path(__file__).resolve().parents[1] / ".cache" / "debian")
)
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_HOUR = 3600
_SOURCES = """\
Types: deb
URIs: {mirror}
Suites: {suite}
Components: main
Architectures: {architecture}
Targets: Packages
Signed-By: {keyring}
"""
# The machine's own hooks after an update must not run for ours, nor its preferences decide. A
# suite's lists may be old, as those of a snapshot are.
_CONFIGURATION = """\
#clear APT::Update;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Default-Release "";
APT::Get::AllowUnauthenticated "false";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "{user}";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Cache "{home}/cache";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "{home}/debian.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Log "{home}";
Dir::State "{home}/state";
Dir::State::status "{home}/status";
"""


class UnavailableError(Exception):
    """A package or program cannot be had here; the message says what would help."""


class Apt:
    """apt in ``home``, a directory that is made anew, with the lists of one suite.

    Raises:
        UnavailableError: of all methods too.
    """

    def __init__(self, home: Path, suite: str, architecture: str | None = None):
        if not _KEYRING.exists():
            message = f"{_KEYRING} is missing: apt install debian-archive-keyring"
            raise UnavailableError(message)
        self._home = home.absolute()
        shutil.rmtree(home, ignore_errors=True)
        for directory in ("state/lists/partial", "cache/archives/partial", "debs"):
            (home / directory).mkdir(parents=True)
        (home / "status").touch()
        values = {
            "mirror": mirror(),
            "suite": suite,
            "keyring": _KEYRING,
            "home": self._home,
            "architecture": architecture or output_of("dpkg", "--print-architecture").strip(),
            "user": "root" if os.getuid() == 0 else "",
        }
        (home / "debian.sources").write_text(_SOURCES.format(**values))
        (home / "apt.conf").write_text(_CONFIGURATION.format(**values))
        self("apt-get", "update")

    def __call__(self, program: str, *words: str, cwd: Path | None = None) -> str:
        """Run a program of apt; return what it says."""
        return output_of(program, "-c", str(self._home / "apt.conf"), "-qq", *words, cwd=cwd)

    def download(self, *packages: str) -> list[Path]:
        """Return these packages, and no others."""
        self("apt-get", "download", *packages, cwd=self._home / "debs")
        return sorted((self._home / "debs").glob("*.deb"))

    def download_all(self, *packages: str) -> list[Path]:
        """Return the packages and all that they need."""
        self("apt-get", "--yes", "--download-only", "install", *packages)
        return sorted((self._home / "cache/archives").glob("*.deb"))


def mirror() -> str:
    """Return the address of Debian's archive: $DEBIAN_MIRROR, or that of the machine's own apt."""
    if chosen := os.environ.get("DEBIAN_MIRROR"):
        return chosen
    # by convention the archive is /debian on every mirror, and security is not; images for clouds
    # name a list of mirrors, and a snapshot has a time behind it
    archive = r"'(\S+?/debian(?:\.list|/\d{8}T\d{6}Z)?)/*/dists/[^/']+/InRelease'"
    found = re.search(archive, output_of("apt-get", "update", "--print-uris"))
    if not found:
        message = (
            "the apt sources of this machine name no mirror of Debian: set DEBIAN_MIRROR=URL to "
            "one, such as the address that apt has on any Debian machine"
        )
        raise UnavailableError(message)
    return found[1]


def check(package: Path, sha256: str) -> None:
    """Refuse a package that is not the pinned one."""
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != sha256:
        message = f"{package.name} has the SHA-256 {found} and not {sha256}"
        raise UnavailableError(message)


def unpack(packages: list[Path], root: Path) -> None:
    """Unpack them into one directory, which is there when all is in it."""
    fresh = root.with_name(f"{root.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for package in packages:
        output_of("dpkg-deb", "-x", str(package), str(fresh))
    shutil.rmtree(root, ignore_errors=True)
    fresh.rename(root)


def kept(root: Path, fetch: Callable[[Path], list[Path]]) -> Path:
    """Return ``root`` with the packages of ``fetch`` in it: once fetched they stay there.

    ``fetch`` is given a directory for itself, as by ``made_once``.
    """
    return made_once(root, lambda home: unpack(fetch(home), root))


def made_once(root: Path, make: Callable[[Path], None]) -> Path:
    """Return ``root``, after ``make`` has made it if it was not there.

    ``make`` is given a directory for itself, which is removed afterwards. Several processes may
    call this at a time.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_name(f".{root.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            home = root.with_name(f".{root.name}")
            try:
                make(home)
            finally:
                shutil.rmtree(home, ignore_errors=True)
    return root


def unpacked(package: str, suite: str, version: str, sha256: str) -> Path:
    """Return the directory in which the amd64 package is unpacked, after fetching it if need be.

    Nothing that it depends on is there, which suits a static program.
    """

    def fetch(home: Path) -> list[Path]:
        (deb,) = Apt(home, suite, "amd64").download(f"{package}={version}")
        check(deb, sha256)
        return [deb]

    return kept(CACHE / f"{package}-{version}", fetch)


def output_of(*command: str, cwd: Path | None = None) -> str:
    """Run a program to its end; return what it says.

    Raises:
        UnavailableError: it is missing, or fails.
    """
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_HOUR,
        )
    except FileNotFoundError:
        message = f"{command[0]} is missing: packages are fetched by the programs of Debian"
        raise UnavailableError(message) from None
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(str(error)) from None
    if done.returncode:
        said = done.stderr[-800:].strip()
        message = f"{' '.join(command)}: exit status {done.returncode}: {said}"
        raise UnavailableError(message)
    return done.stdout
