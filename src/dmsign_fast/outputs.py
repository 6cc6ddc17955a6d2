"""Files appear whole or not at all, and writers of one directory take turns."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dmsign_fast.errors import ParameterError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Buffer

__all__ = ["Outputs", "check_absent", "locked", "new_directory", "storage_errors", "write_all"]


@contextlib.contextmanager
def storage_errors(doing: str, path: Path | str) -> Iterator[None]:
    """Turn an OSError into a StorageError that says what could not be done to which file."""
    try:
        yield
    except OSError as error:
        hint = ": free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise StorageError(f"cannot {doing} {path}: {error.strerror or error}{hint}") from error


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Wait until no other process or thread has the directory locked, and lock it (``flock``).

    The lock is the directory's, since a file that is replaced is another file each time. It ends
    with the block or the process. StorageError if the directory cannot be opened or locked.
    """
    with storage_errors("lock", directory):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with storage_errors("lock", directory):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def check_absent(path: Path) -> None:
    """Raise ParameterError if there is anything of that name."""
    if os.path.lexists(path):
        raise ParameterError(f"{path} exists: give the name of a new directory")


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory to fill, beside ``path``, that becomes ``path`` when the block ends well.

    Else it is removed with all that is in it. A process that is killed at work leaves it behind,
    as ``.dmsign-*``. Whoever writes files into it syncs them.

    Raises:
        ParameterError: ``path`` exists.
        StorageError: it cannot be made there.
    """
    check_absent(path)
    fresh = path.parent / f".dmsign-{os.urandom(8).hex()}"
    try:
        with storage_errors("create", path):
            fresh.mkdir()
        yield fresh
        with storage_errors("create", path):
            for directory in (fresh, *(one for one in fresh.rglob("*") if one.is_dir())):
                _sync(directory)
            fresh.rename(path)
            _sync(path.parent)
    except BaseException:
        import shutil  # with three compressors

        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: Buffer, offset: int) -> None:
    """Write every byte at ``offset``; OSError if that is not possible."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


class _Output:
    """A file that takes the place of its path when it is complete.

    It has no name until then where the file system can do that: a process that is killed at work
    leaves nothing behind. One that is killed while its files take their places, or works where
    every file has a name, may leave ``.dmsign-*``; with ``.old`` that is what was replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        self._temporary = self.path.with_name(f".dmsign-{os.urandom(8).hex()}")
        self._old = self._temporary.with_suffix(".old")
        self._named = self._placed = self._replaces = False
        if self.path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if self.path.exists() and not self.path.is_file():
            raise OSError(errno.EINVAL, "a device or pipe, which a file would replace")
        self._directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.fd = self._create()
        except BaseException:
            os.close(self._directory)
            raise
        with contextlib.suppress(FileNotFoundError):
            os.fchmod(self.fd, stat.S_IMODE(self.path.stat().st_mode))

    def _create(self) -> int:
        try:
            return os.open(self.path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(self._temporary, flags, 0o666)
        self._named = True
        return fd

    def complete(self) -> None:
        os.fsync(self.fd)
        if not self._named:
            # with a dir_fd, Python calls linkat, and only that follows the link of /proc
            nameless = f"/proc/self/fd/{self.fd}"
            os.link(nameless, self._temporary.name, dst_dir_fd=self._directory)
            self._named = True

    def place(self) -> None:
        self._replaces = self.path.exists()
        # not every file system has links, and not every user may link to another's file: the old
        # file then cannot come back
        with contextlib.suppress(OSError):
            os.link(self.path, self._old)
        self._temporary.rename(self.path)
        self._named, self._placed = False, True
        os.fsync(self._directory)

    def keep(self) -> None:
        self._placed = False

    def close(self) -> None:
        """Close it; what was not kept goes, and what it replaced comes back."""
        os.close(self.fd)
        os.close(self._directory)
        if self._named:
            self._temporary.unlink(missing_ok=True)
        if not self._placed:
            self._old.unlink(missing_ok=True)
        elif self._old.exists():
            self._old.replace(self.path)
        elif not self._replaces:
            self.path.unlink()


class _InPlace:
    """A file or device that is changed where it stands; what was appended goes if that fails."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        status = os.fstat(self.fd)
        self._size = status.st_size if stat.S_ISREG(status.st_mode) else None

    def complete(self) -> None:
        os.fsync(self.fd)

    def place(self) -> None:
        pass

    def keep(self) -> None:
        self._size = None

    def close(self) -> None:
        if self._size is not None:
            os.ftruncate(self.fd, self._size)
        os.close(self.fd)


class Outputs:
    """Files that all appear, synced and by rename, when the ``with`` block ends well, or not.

    They appear in the order in which they were opened.
    """

    def __init__(self) -> None:
        """Begin with no file."""
        self._outputs: list[_Output | _InPlace] = []
        self._inputs: list[Path] = []

    def protect(self, path: Path) -> None:
        """Refuse ``path`` as the name of a file to come: it is an input."""
        self._inputs.append(Path(os.path.realpath(path)))

    def _add(self, kind: type[_Output | _InPlace], path: Path) -> int:
        with storage_errors("write", path):
            output = kind(path)
        taken = [other.path for other in self._outputs]
        if kind is _Output:
            taken += self._inputs
        if output.path in taken:
            output.close()
            raise ParameterError(
                f"{path} would overwrite {output.path}, an input or another output: "
                "give it a name of its own"
            )
        self._outputs.append(output)
        return output.fd

    def open(self, path: Path) -> int:
        """A file descriptor, open for reading and writing, of the file that will be ``path``.

        Raises:
            StorageError: it cannot be made there.
            ParameterError: another output has this path.
        """
        return self._add(_Output, path)

    def open_in_place(self, path: Path) -> int:
        """The same for a file or device that exists and keeps what stands elsewhere in it.

        If the ``with`` block fails, a file is cut back to the size it had.
        """
        return self._add(_InPlace, path)

    def write(self, path: Path, data: bytes) -> None:
        """Open ``path`` and write all that it will hold."""
        fd = self.open(path)
        with storage_errors("write", path):
            write_all(fd, data, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                for output in self._outputs:
                    with storage_errors("write", output.path):
                        output.complete()
                for output in self._outputs:
                    with storage_errors("write", output.path):
                        output.place()
                for output in self._outputs:
                    output.keep()
        finally:
            for output in self._outputs:
                output.close()
