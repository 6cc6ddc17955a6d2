"""What a node's file system has to hold, by the tar of a layer alone, in lines as the guest's.

A directory is ``NAME|MODE|UID|GID|MTIME``, others add ``|SIZE|LINKS|MAJOR:MINOR``; a symbolic
link is ``'NAME' -> 'TARGET'``. Then a line of sha256sum for each file, and ``NAME KEY=VALUE`` for
each extended attribute. With ``--aufs``, mkfs.erofs makes of the marks of removed files what
overlayfs knows: a character device 0:0 in a directory with ``trusted.overlay.origin``, or
``trusted.overlay.opaque``.
"""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
from dataclasses import dataclass, field

_TYPES = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}
_XATTR = "SCHILY.xattr."


@dataclass
class _Inode:
    member: tarfile.TarInfo
    kind: int
    data: bytes
    xattrs: dict[str, str] = field(default_factory=dict)
    links: int = 1

    @classmethod
    def of(cls, member: tarfile.TarInfo, data: bytes) -> _Inode:
        xattrs = {
            name.removeprefix(_XATTR): value
            for name, value in member.pax_headers.items()
            if name.startswith(_XATTR)
        }
        return cls(member, _TYPES[member.type], data, xattrs)


def listing(tar: bytes) -> list[str]:
    """Return the lines, sorted."""
    root = tarfile.TarInfo()
    root.mode = 0o777
    inodes = {".": _Inode(root, stat.S_IFDIR, b"")}
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            path = "." if member.name == "." else f"./{member.name}"
            parent, _, name = path.rpartition("/")
            if member.islnk():
                linked = inodes[path] = inodes[f"./{member.linkname}"]
                linked.links += 1
            elif name == ".wh..wh..opq":
                inodes[parent].xattrs["trusted.overlay.opaque"] = "y"
            elif name.startswith(".wh."):
                member.mode = 0
                inodes[f"{parent}/{name[4:]}"] = _Inode(member, stat.S_IFCHR, b"")
                inodes[parent].xattrs["trusted.overlay.origin"] = ""
            else:
                content = archive.extractfile(member) if member.isreg() else None
                inodes[path] = _Inode.of(member, content.read() if content else b"")
    return sorted(line for path, inode in inodes.items() for line in _lines(path, inode))


def _lines(path: str, inode: _Inode) -> list[str]:
    member, kind = inode.member, inode.kind
    name, size, device = path, len(inode.data), "0:0"
    if kind == stat.S_IFLNK:
        name, size = f"'{path}' -> '{member.linkname}'", len(member.linkname.encode())
    elif member.isdev() and not member.isfifo():
        device = f"{member.devmajor:x}:{member.devminor:x}"
    line = f"{name}|{kind | member.mode:x}|{member.uid}|{member.gid}|{int(member.mtime)}"
    lines = [line if kind == stat.S_IFDIR else f"{line}|{size}|{inode.links}|{device}"]
    if kind == stat.S_IFREG:
        lines.append(f"{hashlib.sha256(inode.data).hexdigest()}  {path}")
    bare = path.removeprefix("./")
    values = {key: value.encode("utf-8", "surrogateescape") for key, value in inode.xattrs.items()}
    return [*lines, *(f"{bare} {key}=0x{value.hex()}" for key, value in values.items())]
