"""The files of an OCI image layout, in a directory or a tar; nothing outside of it is reached."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dmsign_fast.errors import FormatError, NotFoundError, StorageError
from dmsign_fast.outputs import storage_errors

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator

__all__ = ["Directory", "Files", "Tar"]

_PIECE = 1 << 20


class Files(Protocol):
    """Files by their names below the root of a layout, such as ``blobs/sha256/<hex>``."""

    path: Path

    def size(self, name: str) -> int:
        """Bytes of a file; NotFoundError if there is none."""
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """The pieces of a file; NotFoundError if there is none."""
        ...


class Directory:
    """A directory of which no symbolic link is followed."""

    def __init__(self, path: Path) -> None:
        """Take a directory; StorageError if it is none."""
        self.path = path
        if not path.is_dir():
            raise NotFoundError(
                f"there is no OCI image layout at {path}: give PATH:TAG of a directory or tar"
            )

    def _open(self, name: str) -> int:
        # each component on its own: O_NOFOLLOW is about the last one only
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        *parents, last = name.split("/")
        fd = os.open(self.path, flags | os.O_DIRECTORY)
        for part in parents:
            outer = fd
            try:
                fd = os.open(part, flags | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=outer)
            finally:
                os.close(outer)
        try:
            return os.open(last, flags | os.O_NOFOLLOW, dir_fd=fd)
        finally:
            os.close(fd)

    def _refuse_link(self, name: str) -> None:
        parts = name.split("/")
        for number in range(1, len(parts) + 1):
            path = self.path.joinpath(*parts[:number])
            if path.is_symlink():
                raise StorageError(
                    f"{path} is a symbolic link, and links are refused, since they lead out of a "
                    f"layout: copy it whole, with cp -rL {self.path} DIR"
                )

    @contextlib.contextmanager
    def _file(self, name: str) -> Iterator[int]:
        path = self.path / name
        with storage_errors("read", path):
            try:
                fd = self._open(name)
            except FileNotFoundError as error:
                raise NotFoundError(f"there is no {path}") from error
            except OSError:
                self._refuse_link(name)
                raise
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise StorageError(f"cannot read {path}: not a regular file")
                yield fd
            finally:
                os.close(fd)

    def size(self, name: str) -> int:
        """Bytes of a file."""
        with self._file(name) as fd:
            return os.fstat(fd).st_size

    def read(self, name: str) -> Iterator[bytes]:
        """The pieces of a file."""
        with self._file(name) as fd:
            while piece := os.read(fd, _PIECE):
                yield piece


class Tar:
    """A tar of a layout, not compressed, read in place; ``close`` it."""

    def __init__(self, path: Path) -> None:
        """Index the members.

        Raises:
            FormatError: no tar, compressed, damaged, or with names that a layout cannot have.
            StorageError: it cannot be read.
        """
        self.path = path
        self._places: dict[str, tuple[int, int] | None] = {}
        with storage_errors("read", path):
            self._file = path.open("rb")
        try:
            with storage_errors("read", path):
                self._index()
        except BaseException:
            self._file.close()
            raise

    def _index(self) -> None:
        from dmsign_fast.bounded_tar import tar_members

        try:
            for member in tar_members(self._file, "it"):
                self._add(member)
        except FormatError as error:
            raise FormatError(
                f"{self.path} is not the tar of a layout: {error}; decompress it if it is "
                "compressed, or give the directory of a layout"
            ) from error

    def _add(self, member: tarfile.TarInfo) -> None:
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if member.name.startswith("/") or ".." in parts:
            raise FormatError(f"it has a member {member.name!r}, outside of the layout")
        if member.isdir():
            return
        name = "/".join(parts)
        if name in self._places:
            raise FormatError(f"it has two members {name!r}")
        plain = member.isreg() and not member.issparse()
        self._places[name] = (member.offset_data, member.size) if plain else None

    def _place(self, name: str) -> tuple[int, int]:
        if name not in self._places:
            raise NotFoundError(f"there is no {name} in {self.path}")
        place = self._places[name]
        if place is None:
            raise StorageError(
                f"cannot read {name} in {self.path}: not a regular file, and links are refused; "
                "make the tar of files (tar --dereference --hard-dereference)"
            )
        return place

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self._place(name)[1]

    def read(self, name: str) -> Iterator[bytes]:
        """The pieces of a file; they end early where the tar does."""
        offset, left = self._place(name)
        with storage_errors("read", self.path):
            while piece := os.pread(self._file.fileno(), min(left, _PIECE), offset):
                offset, left = offset + len(piece), left - len(piece)
                yield piece

    def close(self) -> None:
        """Close the tar."""
        self._file.close()
