"""Layers to measure with, made once and kept: each a tar, the tar by gzip -6, and by zstd -3."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import uuid
from dataclasses import dataclass
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from inputs import MIB, files, tool

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "erofs"))
from mkfs_twin import LAYOUTS, mkfs  # it knows where debian is

from debian import Apt, unpack  # isort: skip

__all__ = ["FORMS", "LAYOUTS", "Layer", "compressed", "make", "make_tar", "mkfs", "names"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FORMS = {"tar": [], "tar.gz": ["gzip", "-6", "-n", "-c"], "tar.zst": ["zstd", "-3", "-q", "-c"]}
_MTIME = 1_700_000_000

_PACKAGES = ["linux-image-amd64", "python3", "gcc", "g++", "git", "perl", "golang-1.19-src"]
_PACKAGES += ["texlive-latex-extra", "libreoffice-writer"]
_WHEELS = ["scipy==1.14.1", "pandas==2.2.3", "scikit-learn==1.5.2", "sympy==1.13.3"]
_WHEELS += ["matplotlib==3.9.2", "pyarrow==18.0.0", "numba==0.60.0", "networkx==3.4.2"]


@dataclass(frozen=True)
class Layer:
    """One file of one layer; ``size`` is that of the tar; floors are not for ``quick`` ones."""

    name: str
    form: str
    path: Path
    tar: Path
    entries: int
    quick: bool

    @property
    def size(self) -> int:
        return self.tar.stat().st_size

    @cached_property
    def digest(self) -> str:
        return _digest(self.path)

    @cached_property
    def diff_id(self) -> str:
        return _digest(self.tar)

    @property
    def uuid(self) -> str:
        """Of the image, as containerd's differ derives it."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"erofs:blobs/{self.digest}"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def names() -> list[str]:
    """Of all layers."""
    return list(_makers(quick=False))


def make(directory: Path, name: str, quick: bool) -> list[Layer]:
    """The layer in all its forms; what is there already is taken as it is."""
    tar = make_tar(directory, name, quick)
    return [compressed(tar, form, quick) for form in FORMS]


def make_tar(directory: Path, name: str, quick: bool) -> Path:
    """The layer's tar, unless it is there already."""
    directory.mkdir(parents=True, exist_ok=True)
    tar = directory / f"{name}.tar"
    if not tar.exists():
        with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=directory) as scratch:
            made = Path(scratch, "tar")
            _makers(quick)[name](Path(scratch), made)
            made.rename(tar)
    return tar


def compressed(tar: Path, form: str, quick: bool) -> Layer:
    """One form of the layer, beside its tar."""
    path = tar.with_name(f"{tar.stem}.{form}")
    if not path.exists():
        part = path.with_name(f"{path.name}.part")
        program, *options = FORMS[form]
        with part.open("wb") as file:
            subprocess.run([tool(program, program), *options, tar], check=True, stdout=file)
        part.rename(path)
    return Layer(tar.stem, form, path, tar, _entries(tar), quick)


@cache
def _entries(tar: Path) -> int:
    with tarfile.open(tar, "r:") as archive:
        return sum(1 for _ in archive)


def _makers(quick: bool) -> dict[str, Callable[[Path, Path], None]]:
    packages, wheels = (["gcc"], _WHEELS[3:4]) if quick else (_PACKAGES, _WHEELS)
    scale = 32 if quick else 1

    def debian(scratch: Path, tar: Path) -> None:
        _archive(_debian(scratch, packages), tar)

    def python(scratch: Path, tar: Path) -> None:
        site = scratch / "tree" / "usr" / "lib" / "python3" / "site-packages"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        subprocess.run([*pip, "--target", site, *wheels], check=True)
        _archive(scratch / "tree", tar)

    def one_file(scratch: Path, tar: Path) -> None:
        (scratch / "tree").mkdir()
        _half_random(scratch / "tree" / "data", 2048 * MIB // scale)
        _archive(scratch / "tree", tar)

    def tiny(scratch: Path, tar: Path) -> None:
        _small_files(tar, {f"app/module{i:03}": 100 for i in range(200 // scale)})

    def directory(scratch: Path, tar: Path) -> None:
        _small_files(tar, {"var/spool": 70_000 // scale})

    return {
        "debian": debian,
        "python": python,
        "file": one_file,
        "tiny": tiny,
        "directory": directory,
    }


def _archive(tree: Path, tar: Path) -> None:
    """As docker and buildkit write a layer: PAX, sorted, whole seconds, and here root's."""

    def rooted(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mtime = int(info.mtime)
        return info

    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(os.listdir(tree)):  # noqa: PTH208
            archive.add(tree / name, name, filter=rooted)


def _small_files(tar: Path, counts: dict[str, int]) -> None:
    """Directories with so many files of some hundred bytes each."""
    content = random.Random(1)
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        for directory in _with_parents(counts):
            info = tarfile.TarInfo(directory)
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, _MTIME
            archive.addfile(info)
            for number in range(counts.get(directory, 0)):
                text = content.randbytes(content.randrange(16, 256)).hex().encode()
                info = tarfile.TarInfo(f"{directory}/{number:06}.txt")
                info.size, info.mtime = len(text), _MTIME
                archive.addfile(info, BytesIO(text))


def _with_parents(directories: dict[str, int]) -> list[str]:
    parents = {str(parent) for name in directories for parent in Path(name).parents}
    return sorted((parents - {"."}) | set(directories))


def _half_random(path: Path, size: int) -> None:
    """Shared libraries of this machine and random bytes, a MiB of each in turn."""
    pieces = _pieces([file for file in files(Path("/usr")) if ".so" in file.name])
    with path.open("wb") as file:
        for _ in range(size // (2 * MIB)):
            file.write(next(pieces))
            file.write(os.urandom(MIB))


def _pieces(paths: Sequence[Path]) -> Iterator[bytes]:
    """The files, again and again, in pieces of a MiB."""
    rest = b""
    while True:
        for path in paths:
            rest += path.read_bytes()
            while len(rest) >= MIB:
                yield rest[:MIB]
                rest = rest[MIB:]


def _debian(scratch: Path, packages: Sequence[str]) -> Path:
    """The packages and all that they need, unpacked."""
    tree = scratch / "tree"
    unpack(Apt(scratch / "apt", "bookworm").download_all(*packages), tree)
    return tree
