"""mkfs.erofs of a named version, unpacked from Debian packages beside the checkout and never installed.

An erofs-utils package whose file name is pinned here must have the pinned SHA-256; another revision or
architecture of the same upstream version is taken when apt trusts it and it says that version with -V.

What is in the cache ($DMSIGN_MKFS_CACHE, or .cache/mkfs) needs neither apt nor a network.

Debian keeps few versions. build_mkfs.sh builds others from a clone of erofs-utils, and every
$DMSIGN_MKFS_BUILT/VERSION/mkfs.erofs is compared as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # where this is used by itself
from debian import Apt, UnavailableError, check, kept, output_of

CACHE = Path(
    os.environ.get("DMSIGN_MKFS_CACHE", Path(__file__).resolve().parents[2] / ".cache" / "mkfs")
)
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

# From 1.9.1 on it writes its own user and group into images, and on nodes it is root.
AS_ROOT = () if (os.getuid(), os.getgid()) == (0, 0) else ("unshare", "--user", "--map-root-user")

LAYOUTS = {
    "A": ["--tar=f", "--aufs", "--quiet", "-Enoinline_data", "-b4096", "--sort=none"],
    "D": ["--tar=i", "--aufs", "--quiet"],
}


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
            *AS_ROOT,
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
    found = {version: mkfs(version) for version in SUITES}
    if directory := os.environ.get("DMSIGN_MKFS_BUILT"):
        programs = sorted(Path(directory).resolve().glob("*/mkfs.erofs"))
        if not programs:
            raise UnavailableError(f"no VERSION/mkfs.erofs in {directory} ($DMSIGN_MKFS_BUILT)")
        # by the directory's word: 1.9.1 calls itself 1.9
        found |= {p.parent.name: Mkfs(p.parent.name, (str(p),)) for p in programs}
    return found


def mkfs(version: str) -> Mkfs:
    """The named version of Debian, downloaded on first use.

    Raises:
        UnavailableError: it cannot be had, and why.
    """
    try:
        root = kept(CACHE / f"erofs-utils-{version}/root", lambda home: _fetch(home, version))
    except OSError as error:
        message = f"{error}: set DMSIGN_MKFS_CACHE to a directory that can be written"
        raise UnavailableError(message) from error
    return _runnable(root, version)


def _runnable(root: Path, version: str) -> Mkfs:
    loader, program = _first(root, "ld*.so.?"), _first(root, "mkfs.erofs")
    libraries = sorted({str(path.parent) for path in root.rglob("*.so.*")})
    command = (str(loader), "--library-path", ":".join(libraries), str(program))
    said = output_of(*command, "-V")
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


def _fetch(home: Path, version: str) -> list[Path]:
    failures = []
    for suite in SUITES[version]:
        try:
            # the rest that is fetched (libc, compressors) does not decide a byte of the image
            packages = Apt(home, suite).download_all(f"erofs-utils={version}-*")
        except UnavailableError as error:
            failures.append(f"{suite}: {error}")
            continue
        for package in packages:
            if package.name in PINNED:
                check(package, PINNED[package.name])
        return packages
    message = "\n".join(
        [
            f"mkfs.erofs {version} cannot be fetched:",
            *failures,
            "set DEBIAN_MIRROR to a mirror that has this version: the snapshot archive of Debian "
            "keeps all; or DMSIGN_MKFS_CACHE to the .cache/mkfs of a machine that has it",
        ]
    )
    raise UnavailableError(message)


if __name__ == "__main__":
    for name in sys.argv[1:] or SUITES:
        print(*mkfs(name).command)
