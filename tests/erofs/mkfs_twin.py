"""mkfs.erofs of a named version, unpacked from Debian packages beside the checkout and never installed.

The mirror is the one the machine's own apt uses, or $DMSIGN_DEBIAN_MIRROR.  What was unpacked is pinned by
the SHA-256 of the erofs-utils package; the rest (libc, compressors) does not decide a byte of the image.

Debian keeps two of the versions we imitate. build_mkfs.sh builds others from a clone of erofs-utils; every
$DMSIGN_MKFS_BUILT/VERSION/mkfs.erofs is then compared as well.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(
    os.environ.get("DMSIGN_MKFS_CACHE", Path(__file__).resolve().parents[2] / ".cache" / "mkfs")
)
UUID = "c1b9d5a2-f162-11cf-9ece-0020afc76f16"

#: upstream version -> (Debian suite, package version, SHA-256 of the amd64 erofs-utils package)
PACKAGES = {
    "1.8.6": (
        "trixie",
        "1.8.6-1",
        "81042b8c0c3eb63699aa7d0763dceedc675a747d9f5cfebf914b4160233f411e",
    ),
    "1.9.4": ("sid", "1.9.4-1", "c8bde35cddcf705cad2a8f35752e777c8c8111829d589e6b4c8494ebe1d49ff3"),
}

LAYOUTS = {
    "A": ["--tar=f", "--aufs", "--quiet", "-Enoinline_data", "-b4096", "--sort=none"],
    "D": ["--tar=i", "--aufs", "--quiet"],
}


class UnavailableError(Exception):
    """No Debian mirror, no apt or no network: tests that need the twin skip."""


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


def twins() -> dict[str, Mkfs]:
    """Every version to compare with: Debian's, and those in $DMSIGN_MKFS_BUILT."""
    found = {version: mkfs(version) for version in PACKAGES}
    if directory := os.environ.get("DMSIGN_MKFS_BUILT"):
        programs = sorted(Path(directory).resolve().glob("*/mkfs.erofs"))
        if not programs:
            raise UnavailableError(f"no VERSION/mkfs.erofs in {directory} ($DMSIGN_MKFS_BUILT)")
        # by the directory's word: 1.9.1 calls itself 1.9
        found |= {p.parent.name: Mkfs(p.parent.name, (str(p),)) for p in programs}
    return found


def mkfs(version: str) -> Mkfs:
    """The named version of Debian, downloaded on first use."""
    suite, package, digest = PACKAGES[version]
    home = CACHE / f"erofs-utils-{version}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "root").is_dir():
            _unpack(home, suite, package, version, digest)
    root = home / "root"
    loader = _first(root, "ld-linux-x86-64.so.2")
    libraries = sorted({str(p.parent) for p in root.rglob("*.so.*")})
    program = _first(root, "mkfs.erofs")
    found = Mkfs(version, (str(loader), "--library-path", ":".join(libraries), str(program)))
    said = subprocess.run(
        [*found.command, "-V"], check=False, capture_output=True, text=True, timeout=30
    )
    if version not in said.stdout + said.stderr:
        raise UnavailableError(f"expected mkfs.erofs {version}, got {said.stdout}{said.stderr}")
    return found


def _first(root: Path, name: str) -> Path:
    for path in sorted(root.rglob(name)):
        if path.is_file():
            return path
    raise UnavailableError(f"{name} is not in the unpacked packages")


def mirror() -> str:
    """The Debian mirror of this machine's apt sources."""
    if given := os.environ.get("DMSIGN_DEBIAN_MIRROR"):
        return given
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        for line in path.read_text().splitlines():
            match = re.match(r"(?:deb\s+(?:\[.*?\]\s*)?|URIs:\s*)(\S+/debian/?)(?:\s|$)", line)
            if match:
                return match[1]
    raise UnavailableError("no Debian mirror in the apt sources; set DMSIGN_DEBIAN_MIRROR")


def _unpack(home: Path, suite: str, package: str, version: str, digest: str) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise UnavailableError("apt-get and dpkg-deb are needed to fetch mkfs.erofs")
    shutil.rmtree(home, ignore_errors=True)
    for sub in (
        "etc/apt.conf.d",
        "etc/preferences.d",
        "state/lists/partial",
        "cache/archives/partial",
        "log",
    ):
        (home / "apt" / sub).mkdir(parents=True)
    apt = home / "apt"
    (apt / "status").touch()
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (apt / "etc/sources.list").write_text(f"deb [signed-by={keyring}] {mirror()} {suite} main\n")
    options = {
        "Dir::Etc": apt / "etc",
        "Dir::Etc::sourcelist": apt / "etc/sources.list",
        "Dir::Etc::sourceparts": apt / "etc/none.d",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "Dir::Log": apt / "log",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
    }
    argv = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    wanted = f"erofs-utils={package}"
    try:
        subprocess.run(
            ["apt-get", *argv, "-q", "update"], check=True, capture_output=True, timeout=300
        )
        subprocess.run(
            ["apt-get", *argv, "-q", "-y", "--download-only", "install", wanted],
            check=True,
            capture_output=True,
            timeout=300,
        )
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", b"") or b""
        raise UnavailableError(
            f"apt could not fetch erofs-utils {version}: {error} {said.decode()[-500:]}"
        ) from error
    partial = home / "partial"
    for deb in sorted((apt / "cache/archives").glob("*.deb")):
        if deb.name.startswith("erofs-utils_"):
            found = hashlib.sha256(deb.read_bytes()).hexdigest()
            if found != digest:
                raise UnavailableError(f"{deb.name}: SHA-256 {found}, pinned {digest}")
        subprocess.run(
            ["dpkg-deb", "-x", deb, partial], check=True, capture_output=True, timeout=120
        )
    keep = home / "debs"
    keep.mkdir()
    for deb in (apt / "cache/archives").glob("erofs-utils_*.deb"):
        shutil.copy2(deb, keep)
    shutil.rmtree(apt)
    partial.rename(home / "root")
