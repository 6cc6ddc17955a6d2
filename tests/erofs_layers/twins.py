"""What others make of a layer: the image by mkfs.erofs, the hash tree by veritysetup."""

import functools
import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from erofs import mkfs_twin
from erofs.tar_maker import header, padded
from helpers import veritysetup

from dmsign_fast.erofs.mkfs import MkfsErofs
from dmsign_fast.erofs.recipe import ImageLayout, Recipe

VERSIONS = ("1.8.6", "1.9.4")
END = bytes(1024)
FAST = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None


@functools.cache
def mkfs(version: str) -> mkfs_twin.Mkfs:
    """mkfs.erofs of that version; the test fails, with the way to get it, where there is none."""
    try:
        return mkfs_twin.mkfs(version)
    except mkfs_twin.UnavailableError as why:
        pytest.fail(str(why))


@functools.cache
def converter(version: str) -> MkfsErofs:
    """The same program for --converter mkfs."""
    return MkfsErofs.of_command(mkfs(version).command)


def program(directory: Path, version: str, after: str) -> Path:
    """A file to run as mkfs.erofs of that version, which then runs shell commands on ``$image``."""
    path = directory / "mkfs.erofs"
    mkfs_erofs = " ".join(f"'{word}'" for word in mkfs(version).command)
    path.write_text(
        f"""#!/bin/sh
{mkfs_erofs} "$@" || exit
[ "$1" = -V ] && exit
for word; do image=$tar tar=$word; done
{after}
"""
    )
    path.chmod(0o755)
    return path


def image_of(tar: bytes, recipe: Recipe, identity: object) -> bytes | None:
    """The image that a node has on its disk before the hash tree; None if mkfs.erofs fails."""
    full = recipe.layout is ImageLayout.FULL
    with tempfile.TemporaryDirectory(dir=FAST) as directory:
        source, image = Path(directory, "tar"), Path(directory, "image")
        source.write_bytes(tar)
        try:
            mkfs(recipe.mkfs_version).build(
                source, image, "A" if full else "D", 20, ("-U", str(identity))
            )
        except subprocess.CalledProcessError:
            return None
        return image.read_bytes() + (b"" if full else tar)


def options(params) -> list[str]:
    """Of veritysetup."""
    return [
        *("--hash", params.hash_algorithm, "--format", str(params.hash_type)),
        *("--data-block-size", str(params.data_block_size)),
        *("--hash-block-size", str(params.hash_block_size)),
        *("--salt", params.salt.hex() or "-"),
    ]


def filled(image: bytes, block: int) -> bytes:
    """Zeros up to a whole number of blocks."""
    return image + bytes(-len(image) % block)


def tree_of(image: bytes, params) -> tuple[bytes, bytes]:
    """Root hash and hash area by veritysetup."""
    with tempfile.TemporaryDirectory(dir=FAST) as directory:
        data, hashes = Path(directory, "data"), Path(directory, "hashes")
        data.write_bytes(filled(image, params.data_block_size))
        done = veritysetup("format", data, hashes, "--no-superblock", *options(params))
        assert done.exit_code == 0, done.err
        return done.root_hash, hashes.read_bytes()


def tar_of(*entries: bytes) -> bytes:
    """Headers and data, and the end of an archive."""
    return b"".join(entries) + END


def file(name: bytes, data: bytes, **fields) -> bytes:
    """A file of a tar."""
    return header(name, b"0", len(data), **fields) + padded(data)


def typical_tar(files: int = 40) -> bytes:
    """What archivers write, by tarfile: directories, files, links, devices, xattrs."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(name, kind, mode=0o755, data=b"", link="", **fields):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.size, info.linkname = kind, mode, len(data), link
            info.mtime = 1_700_000_000
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))

        add("./", tarfile.DIRTYPE)
        add("./etc", tarfile.DIRTYPE, mtime=1_600_000_000.25)
        add("./etc/passwd", tarfile.REGTYPE, 0o644, b"root:x:0:0::/root:/bin/sh\n")
        add("./etc/shadow", tarfile.REGTYPE, 0o600, b"root:*:::::::\n", gid=42)
        add("./etc/empty", tarfile.REGTYPE, 0o644)
        add("./bin", tarfile.SYMTYPE, 0o777, link="usr/bin")
        add("./usr/bin", tarfile.DIRTYPE)
        capability = {"SCHILY.xattr.user.origin": "here", "SCHILY.xattr.user.a": "b" * 200}
        tool = bytes(range(256)) * 100
        add("./usr/bin/tool", tarfile.REGTYPE, 0o4755, tool, pax_headers=capability)
        add("./usr/bin/alias", tarfile.LNKTYPE, 0o4755, link="./usr/bin/tool")
        add("./tmp", tarfile.DIRTYPE, 0o1777, uid=65534, gid=65534)
        add("./dev", tarfile.DIRTYPE)
        add("./dev/null", tarfile.CHRTYPE, 0o666, devmajor=1, devminor=3)
        add("./dev/sdzz", tarfile.BLKTYPE, 0o660, devmajor=259, devminor=70000)
        add("./dev/pipe", tarfile.FIFOTYPE, 0o600)
        add(f"./{'long/' * 30}name", tarfile.REGTYPE, 0o640, b"deep", uid=100_000, gid=70_000)
        add("./to", tarfile.SYMTYPE, 0o777, link="nowhere/" * 40)
        for number in range(files):
            add(f"./data/{number:04}", tarfile.REGTYPE, 0o644, tool[: number * 677 % 25000])
        add("./sparse", tarfile.REGTYPE, 0o644, bytes(300_000) + b"end")
    return packed.getvalue()
