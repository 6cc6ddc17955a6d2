"""Plugins of notation, put in place and removed as ``notation plugin install`` does."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from dmsign_fast.bounded_tar import tar_members
from dmsign_fast.directories import is_name, plugin_directory
from dmsign_fast.errors import DmsignError, FormatError, ParameterError
from dmsign_fast.outputs import storage_errors
from dmsign_fast.signing.plugin_contract import PREFIX, Metadata, precedence
from dmsign_fast.signing.plugin_host import METADATA_TIMEOUT, Plugin, find_plugin

__all__ = ["install_plugin", "uninstall_plugin"]

_LARGEST = 256 << 20  # bytes of all files, as in notation
_LARGEST_ARCHIVE = 2 * _LARGEST  # decompressed, with what is left aside
_MOST_ENTRIES = 10_000  # of a zip
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, OverflowError),
    *(NotImplementedError, RuntimeError),  # so zipfile says that it cannot, or has no password
)


def install_plugin(source: Path, *, force: bool = False) -> tuple[Metadata | None, Metadata]:
    """Put a plugin in place, once it has said well-formed what it is; nothing is left half done.

    ``source`` is an executable ``notation-NAME``, or a directory, tar.gz or zip with one such and
    the files that it needs, directories in it left aside. Returns the metadata of the plugin that
    it replaces, if that works, and of the new one.

    Raises ParameterError for a version that is not higher, unless with ``force``, FormatError for
    what holds no plugin, StorageError, and ProgramError for one that does not work.
    """
    plugins = plugin_directory()
    with storage_errors("write", plugins):
        plugins.mkdir(mode=0o700, parents=True, exist_ok=True)
        # on the same file system; notation would take what does not begin with a dot for a plugin
        stage = Path(tempfile.mkdtemp(prefix=".installing-", dir=plugins))
    try:
        try:
            with storage_errors("install", source):
                _gather(source, stage)
        except FormatError:
            raise
        except _BROKEN as error:
            raise FormatError(f"{source} cannot be unpacked: {error}") from error
        name = _name_of_only_plugin(source, stage)
        new = Plugin(name, stage / f"{PREFIX}{name}", METADATA_TIMEOUT).metadata()
        old = _replaced(new, force=force)
        with storage_errors("write", plugins / name), _moved_away(plugins / name):
            stage.chmod(0o755)
            stage.rename(plugins / name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return old, new


def uninstall_plugin(name: str) -> Path:
    """Remove a plugin, whether it works or not, and return where it was.

    Raises ParameterError for what is not the name of an installed plugin, StorageError if it
    cannot be removed.
    """
    path = plugin_directory() / name
    if not is_name(name) or path.is_symlink() or not path.is_dir():
        raise ParameterError(
            f"no plugin {name!r} is in {plugin_directory()}: dmsign-fast plugin list"
        )
    with storage_errors("remove", path), _moved_away(path):
        pass
    return path


@contextmanager
def _moved_away(path: Path) -> Iterator[None]:
    """Let a directory be gone, or come back if the block fails."""
    aside = Path(tempfile.mkdtemp(prefix=".removing-", dir=path.parent))
    try:
        if path.exists():
            path.rename(aside / path.name)
        try:
            yield
        except BaseException:
            if (aside / path.name).exists():
                (aside / path.name).rename(path)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _gather(source: Path, stage: Path) -> None:
    """Copy the files of a plugin, none of them writable for others."""
    size = 0
    for name, mode, file in _files(source):
        with file, (stage / name).open("xb") as copy:
            while piece := file.read(1 << 20):
                size += len(piece)
                if size > _LARGEST:
                    raise FormatError(f"{source} has more than {_LARGEST >> 20} MiB")
                copy.write(piece)
            os.fchmod(copy.fileno(), mode & 0o755 | 0o600)


def _files(source: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """The regular files at the top of what ``source`` is: name, mode and content."""
    if not stat.S_ISREG(source.stat().st_mode) and not source.is_dir():
        raise FormatError(f"{source} is neither a file nor a directory")
    if source.is_dir():
        for path in sorted(source.iterdir()):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                yield path.name, mode, path.open("rb")
        return
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            if len(archive.infolist()) > _MOST_ENTRIES:
                raise FormatError(f"{source} has more than {_MOST_ENTRIES} entries")
            for entry in archive.infolist():
                if not entry.is_dir() and Path(entry.filename).name == entry.filename:
                    yield entry.filename, entry.external_attr >> 16, archive.open(entry)
    elif source.name.endswith((".tar.gz", ".tgz")):
        with cast("IO[bytes]", gzip.open(source)) as tar:
            for member in tar_members(tar, str(source), _LARGEST_ARCHIVE):
                path = Path(member.name)
                if member.isreg() and not member.issparse() and len(path.parts) == 1:
                    tar.seek(member.offset_data)
                    yield path.name, member.mode, cast("IO[bytes]", _Part(tar, member.size))
    else:
        yield source.name, source.stat().st_mode, source.open("rb")


class _Part(io.RawIOBase):
    """The next ``size`` bytes of a file; closing it closes nothing else."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._file.read(min(len(buffer), self._left))
        if not piece and self._left:
            raise EOFError("it ends early")
        self._left -= len(piece)
        buffer[: len(piece)] = piece
        return len(piece)


def _name_of_only_plugin(source: Path, stage: Path) -> str:
    """The name of the only executable notation-NAME, which is made executable if need be."""
    found = [
        path
        for path in stage.iterdir()
        if path.name.startswith(PREFIX) and is_name(path.name.removeprefix(PREFIX))
    ]
    executable = [path for path in found if path.stat().st_mode & stat.S_IXUSR]
    if len(executable or found) != 1:
        many = "more than one" if found else "no"
        raise FormatError(f"{source} has {many} executable file named {PREFIX}NAME; it needs one")
    (path,) = executable or found
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path.name.removeprefix(PREFIX)


def _replaced(new: Metadata, *, force: bool) -> Metadata | None:
    """What is installed under that name, if it works and may be replaced."""
    path = plugin_directory() / new.name / f"{PREFIX}{new.name}"
    if not path.exists():
        return None
    try:
        old = find_plugin(new.name).metadata()
        higher = force or precedence(new.version) > precedence(old.version)
    except DmsignError as error:
        if force:
            return None
        raise type(error)(f"{error}; to replace what is installed, give --force") from error
    if not higher:
        raise ParameterError(
            f"version {old.version} of the plugin {new.name} is installed, and {new.version} is "
            "not higher; to replace it, give --force"
        )
    return old
