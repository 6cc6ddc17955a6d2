"""The program mkfs.erofs as the converter of a layer, confined to that work."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import re
import shutil
import stat
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from dmsign_fast.errors import FormatError, ParameterError, ProgramError, StorageError
from dmsign_fast.processes import Finished, Limits, run_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["MkfsErofs", "check_options"]

_log = logging.getLogger(__name__)

# a version with a suffix such as -g1a2b3c4 is no release: nobody knows which images it makes
_VERSION = re.compile(rb"mkfs\.erofs \(erofs-utils\) ([0-9]+(?:\.[0-9]+){1,2})\n")

_ALLOWED = re.compile(
    r"""-[bCELTmxz].+
    | --sort=(none|path)
    | --(async-queue-limit|chunksize|dsunit|force-gid|force-uid|fsalignblks|gid-offset|
         max-extent-bytes|root-xattr-isize|uid-offset|workers|xattr-prefix|zfeature-bits)=.+
    | --(MZ|all-root|all-time|aufs|hard-dereference|ignore-mtime|mkfs-time|ovlfs-strip|
         preserve-mtime|xattr-inode-digest|zD)(=.*)?""",
    re.VERBOSE | re.DOTALL,
)

# The superblock, https://erofs.docs.kernel.org/en/latest/ondisk/core_ondisk.html
_SUPERBLOCK_OFFSET = 1024
_SUPERBLOCK = struct.Struct("<I8xB23xI8x16s")  # magic, log2 of the block size, blocks, UUID
_MAGIC = 0xE0F5E1E2

# mkfs.erofs begins by making the image 2 TiB long, and keeps scratch data in its second half. With
# less than that allowed, writes fail there, and 1.8.6 ends well all the same, with damaged files.
_LARGEST_FILE = 2 << 40


@dataclass(frozen=True)
class MkfsErofs:
    """A runnable mkfs.erofs.

    Attributes:
        command: the program, with whatever has to stand before it.
        version: such as ``1.9.4``, which with the arguments decides every byte of an image.
    """

    command: tuple[str, ...]
    version: str

    @classmethod
    def find(cls, path: Path | None = None) -> MkfsErofs:
        """The program at ``path``; by default from PATH or the directories of administrators.

        Raises:
            ProgramError: there is none, or it does not tell its version as a release does.
        """
        if path is None:
            directories = f"{_environment()['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
            found = shutil.which("mkfs.erofs", path=directories)
            if found is None:
                raise ProgramError(
                    "mkfs.erofs is not in PATH: apt install erofs-utils, of Debian 13 or newer"
                )
            path = Path(found)
        return cls.of_command((str(path.absolute()),))

    @classmethod
    def of_command(cls, command: Sequence[str]) -> MkfsErofs:
        """The program that ``command`` starts, for example by its own ld.so.

        Raises:
            ProgramError: it cannot be run, or does not tell its version as a release does.
        """
        done = run_program(
            (*command, "-V"), timeout=60, environment=_environment(), name=command[-1]
        )
        said = _VERSION.match(done.out)
        if done.exit_code or not said:
            # 1.5, of Debian 12, has no -V
            raise ProgramError(
                f"{command[-1]} does not tell its version: a release of erofs-utils from 1.8.6 on "
                "is needed, which Debian 13 has"
            )
        return cls(tuple(command), said[1].decode())

    def convert(
        self,
        tar: int,
        image: int,
        arguments: Sequence[str],
        uuid: UUID,
        *,
        timeout: float,
        options: Sequence[str] = (),
        scratch: Path | None = None,
    ) -> None:
        """Turn a tar into an EROFS image.

        mkfs.erofs gets both files by descriptor: it reads the bytes that were checked, whatever
        happens to names, and takes no name for an option. Of the environment it sees PATH and
        TMPDIR. It has no network where the system allows that.

        Args:
            tar: a regular file with an uncompressed tar, whose digest was checked.
            image: a regular file, open for reading and writing. It is emptied first, and again
                after a failure.
            arguments: those of the recipe.
            uuid: of the image.
            timeout: seconds. 1.8.6 would spin for ever on some truncated tars.
            options: of the user, placed last; see :func:`check_options`.
            scratch: where to make a directory for temporary files, of up to the size of the
                image; by default the system's.

        Raises:
            ParameterError: an option is not allowed, or ``tar`` is not a regular file.
            FormatError: mkfs.erofs refuses the tar.
            StorageError: there is no space left.
            ProgramError: mkfs.erofs hangs, crashes, or leaves no image or another image.
        """
        check_options(options)
        if not stat.S_ISREG(os.fstat(tar).st_mode):
            raise ParameterError("mkfs.erofs needs the tar in a regular file: spool it")
        # mkfs.erofs has no way to undo --sort=none
        if any(word.startswith("--sort=") for word in options):
            arguments = [word for word in arguments if not word.startswith("--sort=")]
        argv = [*_confined(), *self.command, *arguments, "-U", str(uuid), *options]
        try:
            os.ftruncate(image, 0)
            with (
                tempfile.TemporaryDirectory(prefix=".dmsign-", dir=scratch) as directory,
                _for_a_child(image) as target,
                _for_a_child(tar) as source,
            ):
                done = run_program(
                    [*argv, f"/proc/self/fd/{target}", f"/proc/self/fd/{source}"],
                    timeout=timeout,
                    environment={**_environment(), "TMPDIR": directory},
                    limits=Limits(file_size=_LARGEST_FILE),
                    pass_fds=(target, source),
                    name=f"mkfs.erofs {self.version}",
                )
            self._check(done, image, uuid)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.ftruncate(image, 0)
            if isinstance(error, OSError):
                raise StorageError(
                    f"cannot make room for mkfs.erofs: {error.strerror or error}"
                ) from error
            raise

    def _check(self, done: Finished, image: int, uuid: UUID) -> None:
        name = f"mkfs.erofs {self.version}"
        if done.exit_code:
            said = done.last_words or "it does not say why"
            if "No space left on device" in said:
                raise StorageError(f"{name} has no space left: {said}: free some space")
            raise FormatError(f"{name} refuses the tar, exit status {done.exit_code}: {said}")
        superblock = os.pread(image, _SUPERBLOCK.size, _SUPERBLOCK_OFFSET)
        if len(superblock) < _SUPERBLOCK.size:
            raise ProgramError(f"{name} ended well but left no image")
        magic, log2_block_size, blocks, found = _SUPERBLOCK.unpack(superblock)
        if magic != _MAGIC:
            raise ProgramError(f"{name} ended well but left something other than EROFS")
        if found != uuid.bytes:
            raise ProgramError(f"{name} made an image with UUID {UUID(bytes=found)}, not {uuid}")
        size = os.fstat(image).st_size
        if size < blocks << log2_block_size:
            raise ProgramError(
                f"{name} left {size} bytes of an image of {blocks << log2_block_size}"
            )


@contextlib.contextmanager
def _for_a_child(fd: int) -> Iterator[int]:
    """A copy of a descriptor above those of standard input, output and error.

    Where this process has none of those, ``fd`` can be 0, and the child would see /dev/null there.
    """
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        yield copy
    finally:
        os.close(copy)


def check_options(options: Sequence[str]) -> None:
    """Refuse every option of mkfs.erofs that does more than shape the image of the given tar.

    Allowed are the options for blocks, compression, labels, times, owners, extended attributes,
    alignment, order and threads. Refused are all others, and why:

    - what names the source, the target, or another of either: words that are no options,
      ``--tar``, ``--oci``, ``--s3``, ``--offset``, ``--incremental``, ``--clean``;
    - ``-U``: the recipe decides it;
    - what leaves files of the tar out: ``--exclude-path``, ``--exclude-regex``;
    - what reads or writes other files: ``--file-contexts``, ``--compress-hints``,
      ``--mount-point`` (only of use with these), ``--blobdev``, ``--ungzip``, ``--unxz``,
      ``--gzinfo``, ``--vmdk-desc``;
    - what makes no image, or only talks: ``-V``, ``-h``, ``-d``, ``--quiet``.

    An option and its value are one word, and long names are whole: ``-b4096``, ``--force-uid=0``.

    Raises:
        ParameterError: an option is not allowed, or not written like that.
    """
    for word in options:
        if not _ALLOWED.fullmatch(word):
            raise ParameterError(
                f"mkfs.erofs option {word!r} is not allowed here: give only options that shape the "
                "image, each in one word such as -zlz4hc or --force-uid=0"
            )


def _environment() -> dict[str, str]:
    """The whole environment of mkfs.erofs: SOURCE_DATE_EPOCH would change its images."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


@functools.cache
def _confined() -> tuple[str, ...]:
    """What to put before a command so that it is root without a network.

    From 1.9.1 on mkfs.erofs gives its own user and group to a root directory that the tar does not
    mention. On nodes it is root, so others become root in a user namespace. The network is taken
    away where this machine allows that.

    Raises:
        ProgramError: neither this process nor a user namespace of its own is root.
    """
    root = (os.getuid(), os.getgid()) == (0, 0)
    namespaces = ("unshare", *(() if root else ("--user", "--map-root-user")))
    reason = ""
    for command in ((*namespaces, "--net"), namespaces):
        if command == ("unshare",):
            break
        try:
            done = run_program((*command, "true"), timeout=60, environment=_environment())
        except ProgramError as error:
            reason = str(error)
        else:
            if not done.exit_code:
                return command
            reason = done.last_words
    if not root:
        raise ProgramError(
            "mkfs.erofs makes the images of a node only as root, and this user cannot become root "
            f"in a user namespace of its own ({reason}): run as root, or allow user namespaces"
        )
    _log.info("mkfs.erofs keeps its access to the network: %s", reason)
    return ()
