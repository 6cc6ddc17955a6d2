"""Turns too rare for chance, each against mkfs.erofs."""

from __future__ import annotations

import sys

from difftest import Harness
from tar_blocks import base256, gnu_long, header, padded, pax

END = bytes(1024)
H = header
ENTRIES: dict[str, bytes] = {
    "whiteout entry of type directory": H(b"d/.wh.x", b"5", mode=0o755),
    "whiteout of type directory over a directory": H(b"d", b"5", mode=0o751)
    + H(b"d/f", b"0")
    + H(b".wh.d", b"5", mode=0o700),
    "the same, then the directory again": H(b"d", b"5")
    + H(b"d/f", b"0")
    + H(b".wh.d", b"5")
    + H(b"d", b"5"),
    "whiteout of nothing": H(b"d/.wh.", b"0"),
    "whiteout of .": H(b"d/.wh..", b"0"),
    "whiteout of ..": H(b"d/.wh...", b"0"),
    "whiteout of ...": H(b"d/.wh....", b"0"),
    "opaque directory entry at the root": H(b".wh..wh..opq", b"5"),
    "opaque below ..": H(b"a", b"5") + H(b"a/../.wh..wh..opq", b"0"),
    "opaque twice": H(b"a/.wh..wh..opq", b"0")
    + H(b"a/.wh..wh..opq", b"0")
    + H(b"a", b"5", mtime=3),
    "whiteout with data": H(b".wh.f", b"0", 5000)
    + padded(b"d" * 5000)
    + H(b"after", b"0", 3)
    + padded(b"abc"),
    "device with data": H(b"dev", b"3", 5000, major=3, minor=70000)
    + padded(b"d" * 5000)
    + H(b"after", b"0", 3)
    + padded(b"abc"),
    "directory with a size": H(b"d", b"5", 1024) + H(b"after", b"0", 3) + padded(b"abc"),
    "hard link with a size": H(b"a", b"0", 3)
    + padded(b"abc")
    + H(b"b", b"1", 512, link=b"a")
    + H(b"c", b"0", 3)
    + padded(b"xyz"),
    "hard link named like a whiteout": H(b"a", b"0") + H(b".wh.b", b"1", link=b"a"),
    "hard link to a whiteout by its mark": H(b"d/.wh.a", b"0") + H(b"b", b"1", link=b"d/.wh.a"),
    "hard link to itself": H(b"a", b"0") + H(b"a", b"1", link=b"a"),
    "hard link over the directory it leads into": H(b"a/f", b"0") + H(b"a", b"1", link=b"a/f"),
    "hard link over another hard link": H(b"a", b"0")
    + H(b"b", b"1", link=b"a")
    + H(b"c", b"0")
    + H(b"b", b"1", link=b"c"),
    "hard link into a directory that was replaced": H(b"d/e/f", b"0")
    + H(b"l", b"1", link=b"d/e/f")
    + H(b"d", b"0")
    + H(b"m", b"1", link=b"d/e/f"),
    "the same, and made again": H(b"d/e/f", b"0")
    + H(b"l", b"1", link=b"d/e/f")
    + H(b"d", b"0")
    + H(b"d/e/f", b"0", mode=0o600)
    + H(b"m", b"1", link=b"d/e/f"),
    "hard link into a directory that became a whiteout": H(b"d/e/f", b"0")
    + H(b"l", b"1", link=b"d/e/f")
    + H(b".wh.d", b"5")
    + H(b"m", b"1", link=b"d/e/f"),
    "hard link to a symlink": H(b"s", b"2", link=b"t") + H(b"h", b"1", link=b"s"),
    "hard link to a device": H(b"s", b"3", major=1, minor=3) + H(b"h", b"1", link=b"s"),
    "file replaced by a directory and back": H(b"a", b"0", 3)
    + padded(b"abc")
    + H(b"a", b"5")
    + H(b"a/b", b"0")
    + H(b"a", b"0"),
    "link counts below zero": b"".join(
        H(b"p/%d" % i, b"5") + H(b"p/%d" % i, b"0") for i in range(5)
    )
    + H(b"p", b"0"),
    "link counts below zero, kept": b"".join(
        H(b"p/%d" % i, b"5") + H(b"p/%d" % i, b"0") for i in range(5)
    ),
    "up and down, twice": H(b"a/b/../x", b"0") + H(b"a/b/../y", b"0") + H(b"a/b/z", b"0"),
    "names alike for long": b"".join(
        pax([(b"path", b"n" * n + bytes([c]) + b"m" * (n % 3))]) + H(b"-", b"0")
        for n in (7, 8, 9, 15, 16, 17, 100, 247, 248, 249, 252)
        for c in (0x80, 0x6E, 0x01, 0xFF, 0x2D)
    ),
    "names before and after the dots": b"".join(
        H(b"d/" + name, b"0")
        for name in (b"...", b".-", b".a", b"-", b"..a", b"..-", b"/0", b"!", b"\xff", b".\x01")
    ),
    "path of slashes": H(b"///", b"5", mode=0o711),
    "empty name": H(b"", b"5", mode=0o711, mtime=9),
    "name with a slash through a GNU header": gnu_long(b"dir/", b"L")
    + H(b"dir/", b"0", 3)
    + padded(b"abc"),
    "volume label": H(b"a label of more than 16 bytes", b"V") + H(b"f", b"0"),
    "nothing at all": b"",
    "root attributes": H(b"./", b"5", mode=0o2755, uid=70000, gid=3, mtime=1 << 33),
    "root xattrs": pax([(b"SCHILY.xattr.user.root", b"r")]) + H(b"./", b"5"),
    "symlinks of every length around a block": b"".join(
        pax([(b"linkpath", b"l" * n)]) + H(b"s%d" % n, b"2")
        for n in (
            1,
            430,
            448,
            480,
            511,
            512,
            513,
            1023,
            1024,
            1025,
            3900,
            4031,
            4032,
            4064,
            4095,
            4096,
            4097,
            8191,
            8192,
            8193,
            12000,
        )
    ),
    "mtime 0 with nanoseconds": pax([(b"mtime", b"0.000000005")]) + H(b"f", b"0"),
    "fractions": b"".join(
        pax([(b"mtime", v)]) + H(b"f%d" % i, b"0")
        for i, v in enumerate(
            [
                b"1.5",
                b"-1.5",
                b"-0.5",
                b"1.",
                b"1.0000000001",
                b"0.999999999",
                b"+3.25",
                b" 7.1",
                b"-0.0",
            ]
        )
        if v not in (b"1.",)
    ),
    "fraction without digits": pax([(b"mtime", b"1.")]) + H(b"f", b"0"),
    "libarchive and schily": pax(
        [(b"LIBARCHIVE.xattr.user.a", b"YWJj"), (b"SCHILY.xattr.user.a", b"abc")]
    )
    + H(b"f", b"0"),
    "libarchive base64": b"".join(
        pax([(b"LIBARCHIVE.xattr.user.%d" % i, v)]) + H(b"f%d" % i, b"0")
        for i, v in enumerate([b"YWJj", b"AAAA", b"/+8B", b"QUJDREVG"])
    ),
    "libarchive base64, short": pax([(b"LIBARCHIVE.xattr.user.s", b"YQ")]) + H(b"f", b"0"),
    "libarchive base64, padded": pax([(b"LIBARCHIVE.xattr.user.s", b"YQ==")]) + H(b"f", b"0"),
    "xattr names of 255 and 256": pax(
        [(b"SCHILY.xattr.user." + b"n" * 250, b"v"), (b"SCHILY.xattr.user." + b"n" * 255, b"v")]
    )
    + H(b"f", b"0"),
    # what changed between versions: csrc/tar/mkfs_group.h
    "large device numbers": b"".join(
        H(b"d%d" % i, b"3", major=major, minor=minor)
        for i, (major, minor) in enumerate(
            [(1, 1 << 19), (4095, 600000), (4096, 1 << 20), (70000, 2), ((1 << 21) - 1, 777777)]
        )
    ),
    "device numbers of 32 bits": b"".join(
        H(b"d%d" % i, b"4", raw={"major": base256(major, 8), "minor": base256(minor, 8)})
        for i, (major, minor) in enumerate([(1 << 23, 0), (1 << 31, 5), (3, 1 << 31), (-1, 256)])
    ),
    "negative numbers of base 256": H(
        b"f", b"0", raw={k: base256(-5, n) for k, n in (("uid", 8), ("gid", 8), ("mtime", 12))}
    ),
    "directory over a hard link of elsewhere": H(b"a/f", b"0")
    + H(b"b/l", b"1", link=b"a/f")
    + H(b"b/l", b"5")
    + H(b"b/l/x", b"0"),
    "directory over a hard link whose first directory is gone": H(b"a/f", b"0")
    + H(b"b/l", b"1", link=b"a/f")
    + H(b"a", b"0")
    + H(b"b/l", b"5"),
    "hard link to its own directory's other name": H(b"a/f", b"0")
    + H(b"b", b"1", link=b"a/f")
    + H(b"a", b"1", link=b"b"),
    "hard link to what it replaces": H(b"a", b"0")
    + H(b"b", b"1", link=b"a")
    + H(b"a", b"1", link=b"b")
    + H(b"b", b"1", link=b"a"),
    "hard link to a directory over a file": H(b"d", b"5")
    + H(b"a", b"0")
    + H(b"a", b"1", link=b"d"),
    "hard link to the root": H(b"a", b"1", link=b"./"),
    "xattrs of odd namespaces": pax(
        [
            (b"SCHILY.xattr." + name, b"v")
            for name in (
                b"lustre.lov",
                b"user",
                b"user.",
                b"system.x",
                b"trusted.",
                b"system.nfs4_acl",
            )
        ]
    )
    + H(b"f", b"0"),
    "xattrs out of order": pax([(b"SCHILY.xattr.user." + k, k) for k in (b"b", b"a", b"ab", b"B")])
    + H(b"d", b"5")
    + pax([(b"SCHILY.xattr.user.a", b"Z"), (b"SCHILY.xattr.trusted.x", b"")])
    + H(b"d", b"5")
    + H(b"d/.wh..wh..opq", b"0")
    + H(b"d/.wh.x", b"0"),
    **{
        f"empty PAX {key}": pax([(key.encode(), b"")])
        + H(b"f", b"2", mtime=5, uid=6, gid=7, link=b"to")
        for key in ("path", "linkpath", "mtime", "size", "uid", "gid")
    },
    "empty PAX values over global ones": pax(
        [(b"mtime", b"9.5"), (b"uid", b"8"), (b"gid", b"7")], b"g"
    )
    + pax([(b"mtime", b""), (b"uid", b""), (b"gid", b"")])
    + H(b"f", b"0", mtime=3)
    + H(b"g", b"0", mtime=4),
    "empty PAX path of a directory": pax([(b"path", b"")]) + H(b"f", b"5", mtime=3),
    "global path unset": pax([(b"path", b"all")], b"g")
    + H(b"f", b"5", mtime=3)
    + pax([(b"path", b"")], b"g")
    + H(b"g", b"5", mtime=4),
    **{
        f"NUL in PAX {key} {value!r} of type {kind!r}": H(b"d", b"5")
        + H(b"d/a", b"0")
        + pax([(key, value)])
        + H(b"f", kind, link=b"d/a")
        + H(b"g", b"0")
        for key in (b"path", b"linkpath")
        for value in (b"d/a\0b", b"\0b", b"d/x/\0/", b"e\0//", b"d/.wh.a\0", b"d/e/\0" + b"x" * 300)
        for kind in (b"0", b"1", b"2", b"5")
    },
    "NUL in a long PAX path": pax([(b"path", b"a\0" + b"b" * 40000)]) + H(b"f", b"0"),
    "NUL in a global path": pax([(b"path", b"a\0b"), (b"linkpath", b"c\0d")], b"g")
    + H(b"f", b"2")
    + H(b"g", b"5"),
    "PAX attribute without a name": pax([(b"SCHILY.xattr.", b"")]) + H(b"f", b"0"),
    "global uid unset": pax([(b"uid", b"8")], b"g")
    + H(b"f", b"0", uid=3)
    + pax([(b"uid", b"")], b"g")
    + H(b"g", b"0", uid=4),
    **{
        f"PAX mtime {value}": pax([(b"mtime", value.encode())]) + H(b"f", b"0", mtime=5)
        for value in (
            "5 x",
            "5x",
            "1.5x",
            "1. 5",
            "1.-5",
            "1.99999999999999999999",
            "-7.5",
            "5 .5",
            "0x1",
        )
    },
    **{
        f"GNU long name of {n}": gnu_long(b"/".join([b"n" * 99] * 99)[: n - 1], b"L")
        + H(b"x", b"0")
        for n in (4095, 4096, 4097, 5000)
    },
    **{
        f"PAX header of {n + 15}": pax([(b"comment", b"c" * n)]) + H(b"f", b"0")
        for n in (32752, 32753, 32754, 40000)
    },
    "chunk sizes": b"".join(
        H(b"c%d" % n, b"0", n) + padded(b"c" * n)
        for n in (1, 2, 511, 512, 513, 1024, 1025, 65536, 65537)
    ),
}

CASES = {label: tar + END for label, tar in ENTRIES.items()} | {
    f"an end of {n} bytes": H(b"f", b"0", 3) + padded(b"abc") + bytes(n)
    for n in (0, 1, 511, 512, 513, 1023)
}


def main() -> int:
    harness, bad = Harness(timeout=5), 0
    for label, tar in CASES.items():
        wrong = harness.compare(tar, label)
        bad += bool(wrong)
        for line in wrong:
            print(line[:400], flush=True)
    print(dict(harness.count))
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
