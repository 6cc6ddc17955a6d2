"""A program of a Debian package that is unpacked beside the checkout, and never installed.

Packages come through a private apt: the machine's mirror of Debian, with lists, cache and an empty
status of our own. Only the package itself is unpacked, which suits a static program, and its
SHA-256 decides whether it is the right one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

CACHE = Path(
    os.environ.get("DMSIGN_DEBIAN_CACHE", Path(__file__).resolve().parents[1] / ".cache" / "debian")
)
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
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
Dir::Etc::sourcelist "{apt}/suite.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::State "{apt}/state";
Dir::State::status "{apt}/status";
Dir::Cache "{apt}/cache";
"""


def unpacked(package: str, suite: str, version: str, sha256: str) -> Path:
    """Return the directory in which the amd64 package is unpacked, after fetching it if need be."""
    root = CACHE / f"{package}-{version}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            _fetch(root, package, suite, version, sha256)
    return root


def _fetch(root: Path, package: str, suite: str, version: str, sha256: str) -> None:
    apt = root.with_name(f".{root.name}").absolute()
    shutil.rmtree(apt, ignore_errors=True)
    for directory in ("state/lists/partial", "cache/archives/partial", "debs"):
        (apt / directory).mkdir(parents=True)
    if not _KEYRING.exists():
        message = f"{_KEYRING} is missing: apt-get install debian-archive-keyring"
        raise AssertionError(message)
    (apt / "status").touch()
    sources = _SOURCES.format(mirror=_mirror(), suite=suite, keyring=_KEYRING)
    (apt / "suite.sources").write_text(sources)
    user = "root" if os.getuid() == 0 else ""
    (apt / "apt.conf").write_text(_CONFIGURATION.format(apt=apt, user=user))
    private = ("-c", str(apt / "apt.conf"), "-qq")
    _run("apt-get", *private, "update")
    _run("apt-get", *private, "download", f"{package}={version}", cwd=apt / "debs")
    (deb,) = (apt / "debs").iterdir()
    found = hashlib.sha256(deb.read_bytes()).hexdigest()
    assert found == sha256, f"{deb.name} has the SHA-256 {found} and not {sha256}"
    _run("dpkg-deb", "-x", str(deb), str(apt / "root"))
    (apt / "root").rename(root)
    shutil.rmtree(apt)


def _mirror() -> str:
    """Return the address of Debian's archive from the machine's own sources."""
    if chosen := os.environ.get("DEBIAN_MIRROR"):
        return chosen
    # by convention the archive is /debian on every mirror, and security is not
    found = re.search(
        r"'(\S+/debian)/?/dists/[^/']+/InRelease'", _run("apt-get", "update", "--print-uris")
    )
    assert found, "the apt sources of this machine name no mirror of Debian: set DEBIAN_MIRROR=URL"
    return found[1]


def _run(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, check=False, timeout=600
        )
    except FileNotFoundError:
        message = f"{command[0]} is missing: packages are fetched by the programs of Debian"
        raise AssertionError(message) from None
    assert done.returncode == 0, f"{' '.join(command)}: status {done.returncode}\n{done.stderr}"
    return done.stdout
