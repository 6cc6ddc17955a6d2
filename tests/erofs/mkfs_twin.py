"""mkfs.erofs of a named version, unpacked from Debian packages beside the checkout and never installed.

A private apt fetches it: the machine's own settings and mirror of Debian ($DEBIAN_MIRROR names another,
which may be a snapshot of the past), but sources, lists, cache and an empty status of our own. apt checks
the signatures of all packages. An erofs-utils package whose file name is pinned here must have the pinned
SHA-256 too; another revision or architecture of the same upstream version is taken when apt trusts it and
it says that version with -V. The rest (libc, compressors) does not decide a byte of the image.

What is in the cache ($DMSIGN_MKFS_CACHE, or .cache/mkfs) needs neither apt nor a network.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(
    os.environ.get("DMSIGN_MKFS_CACHE", Path(__file__).resolve().parents[2] / ".cache" / "mkfs")
)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
UUID = "c1b9d5a2-f162-11cf-9ece-0020afc76f16"

# Upstream version -> the suites of Debian that have it or will, the likeliest first.
SUITES = {
    "1.8.6": ("trixie",),
    "1.9.4": ("sid", "forky", "forky-backports", "trixie-backports"),
}
PINNED = {
    "erofs-utils_1.8.6-1_amd64.deb": "81042b8c0c3eb63699aa7d0763dceedc675a747d9f5cfebf914b4160233f411e",
    "erofs-utils_1.9.4-1_amd64.deb": "c8bde35cddcf705cad2a8f35752e777c8c8111829d589e6b4c8494ebe1d49ff3",
}

LAYOUTS = {
    "A": ["--tar=f", "--aufs", "--quiet", "-Enoinline_data", "-b4096", "--sort=none"],
    "D": ["--tar=i", "--aufs", "--quiet"],
}

SOURCES = """\
Types: deb
URIs: {mirror}
Suites: {suite}
Components: main
Architectures: {architecture}
Targets: Packages
Signed-By: {keyring}
"""
# The machine's own hooks after an update must not run for ours, nor its preferences decide. A suite's
# lists may be old, as those of a snapshot are: the version is what is asked for.
CONFIGURATION = """\
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
    """The twin cannot be had here; the message says what would help. Tests fail with it."""


@dataclass(frozen=True)
class Mkfs:
    """A runnable mkfs.erofs; :meth:`build` turns a tar into an image."""

    version: str
    command: tuple[str, ...]

    def build(
        self, tar: Path, image: Path, layout: str, timeout: float = 600, extra: tuple[str, ...] = ()
    ) -> None:
        """Raises CalledProcessError with mkfs.erofs's own words, TimeoutExpired when it spins."""
        argv = [
            *self.command,
            *LAYOUTS[layout],
            "-T0",
            "--mkfs-time",
            "-U",
            UUID,
            *extra,
            str(image),
            str(tar),
        ]
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": str(image.parent)}
        image.unlink(missing_ok=True)
        try:
            subprocess.run(
                argv,
                check=True,
                capture_output=True,
                timeout=timeout,
                env=env,
                stdin=subprocess.DEVNULL,
            )
        except BaseException:
            image.unlink(missing_ok=True)  # a failure leaves a sparse file of 2 TiB
            raise


def mkfs(version: str) -> Mkfs:
    """The named version, downloaded on first use.

    Raises:
        UnavailableError: it cannot be had, and why.
    """
    home = CACHE / f"erofs-utils-{version}"
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / f".{version}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (home / "root").is_dir():
                _fetch(home, version)
    except OSError as error:
        message = f"{error}: set DMSIGN_MKFS_CACHE to a directory that can be written"
        raise UnavailableError(message) from error
    return _runnable(home / "root", version)


def _runnable(root: Path, version: str) -> Mkfs:
    loader, program = _first(root, "ld*.so.?"), _first(root, "mkfs.erofs")
    libraries = sorted({str(path.parent) for path in root.rglob("*.so.*")})
    command = (str(loader), "--library-path", ":".join(libraries), str(program))
    said = _run(*command, "-V")
    if said.splitlines()[0] != f"mkfs.erofs (erofs-utils) {version}":
        message = f"expected mkfs.erofs {version}, and {program} says {said}"
        raise UnavailableError(message)
    return Mkfs(version, command)


def _first(root: Path, pattern: str) -> Path:
    for path in sorted(root.rglob(pattern)):
        if path.is_file():
            return path
    message = f"{pattern} is not in {root}: remove that directory, and it will be fetched again"
    raise UnavailableError(message)


def mirror() -> str:
    """The address of Debian's archive in the machine's own apt sources, or $DEBIAN_MIRROR."""
    if chosen := os.environ.get("DEBIAN_MIRROR"):
        return chosen
    # by convention the archive is /debian on every mirror, and security is not; images for clouds name
    # a list of mirrors, and a snapshot has a time behind it
    archive = r"'(\S+?/debian(?:\.list|/\d{8}T\d{6}Z)?)/*/dists/[^/']+/InRelease'"
    found = re.search(archive, _run("apt-get", "update", "--print-uris"))
    if not found:
        message = (
            "the apt sources of this machine name no mirror of Debian: set DEBIAN_MIRROR=URL to "
            "one, such as the address that apt has on any Debian machine"
        )
        raise UnavailableError(message)
    return found[1]


def _fetch(home: Path, version: str) -> None:
    if not KEYRING.exists():
        message = f"{KEYRING} is missing: apt install debian-archive-keyring"
        raise UnavailableError(message)
    where, failures = mirror(), []
    for suite in SUITES[version]:
        shutil.rmtree(home, ignore_errors=True)
        try:
            packages = _download(home, where, suite, version)
            root = _unpack(packages, home / "fresh")
            _runnable(root, version)
        except UnavailableError as error:
            failures.append(f"{suite}: {error}")
        else:
            root.rename(home / "root")
            shutil.rmtree(home / "apt")
            return
    shutil.rmtree(home, ignore_errors=True)
    message = "\n".join(
        [
            f"mkfs.erofs {version} cannot be fetched from {where}:",
            *failures,
            "set DEBIAN_MIRROR to a mirror that has this version: the snapshot archive of Debian "
            "keeps all; or DMSIGN_MKFS_CACHE to the .cache/mkfs of a machine that has it",
        ]
    )
    raise UnavailableError(message)


def _download(home: Path, where: str, suite: str, version: str) -> list[Path]:
    """The packages of one suite: erofs-utils of that version, and all it needs."""
    apt = home.absolute() / "apt"
    for directory in ("state/lists/partial", "cache/archives/partial"):
        (apt / directory).mkdir(parents=True)
    (apt / "status").touch()
    values = {
        "mirror": where,
        "suite": suite,
        "keyring": KEYRING,
        "home": apt,
        "architecture": _run("dpkg", "--print-architecture").strip(),
        "user": "root" if os.getuid() == 0 else "",
    }
    (apt / "debian.sources").write_text(SOURCES.format(**values))
    (apt / "apt.conf").write_text(CONFIGURATION.format(**values))
    private = ("-c", str(apt / "apt.conf"), "-qq")
    _run("apt-get", *private, "update")
    wanted = f"erofs-utils={version}-*"
    _run("apt-get", *private, "--yes", "--download-only", "install", wanted)
    packages = sorted((apt / "cache/archives").glob("*.deb"))
    for package in packages:
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        if PINNED.get(package.name, digest) != digest:
            message = f"{package.name} has SHA-256 {digest}, pinned is {PINNED[package.name]}"
            raise UnavailableError(message)
    return packages


def _unpack(packages: list[Path], root: Path) -> Path:
    for package in packages:
        _run("dpkg-deb", "-x", str(package), str(root))
    return root


def _run(*command: str) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=600,
        )
    except FileNotFoundError:
        message = f"{command[0]} is missing: mkfs.erofs is fetched by the programs of Debian"
        raise UnavailableError(message) from None
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(str(error)) from None
    if done.returncode:
        message = (
            f"{' '.join(command)}: exit status {done.returncode}: {done.stderr[-800:].strip()}"
        )
        raise UnavailableError(message)
    return done.stdout


if __name__ == "__main__":
    for name in sys.argv[1:] or SUITES:
        print(*mkfs(name).command)
