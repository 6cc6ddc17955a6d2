"""Entries no archiver writes."""

from __future__ import annotations

import random

from tar_blocks import base256, gnu_long, header, padded, pax


def odd(r: random.Random, path: bytes) -> bytes:
    """One of them, with its extension headers; most are at `path`."""
    return r.choice(
        [
            lambda: header(path[:100], b"S", 0),
            lambda: header(path[:100], b"\0", 100) + padded(b"q" * 100),
            lambda: header(path[:100], b"5", 512),
            lambda: header(path[:100], b"1", 1024, link=b"nowhere"),
            lambda: header(b".wh.w", b"0", 700) + padded(b"w" * 700),
            lambda: header(path[:100], b"3", 0, major=1, minor=2, raw={"size": b"%011o\0" % 0}),
            lambda: header(path[:100], b"6", 600) + padded(b"f" * 600),
            lambda: header(path[:100], b"0", 3, raw={"mode": b"  644 \0"}) + padded(b"abc"),
            lambda: header(path[:100], b"0", 3, raw={"uid": b"", "gid": b" "}) + padded(b"abc"),
            lambda: header(b"volume label here", b"V"),
            lambda: b"\0" * 512,
            lambda: header(b"", b"5"),
            lambda: header(b"/", b"5"),
            lambda: header(path[:100], b"0", 3, magic=b"\0" * 8) + padded(b"abc"),
            lambda: header(path[:100], b"0", 3, raw={"chksum": b"000001\0 "}) + padded(b"abc"),
            lambda: header(path[:100], b"0", mtime=-5),
            lambda: header(path[:100], b"4", raw={"major": b"", "minor": b""}),
            lambda: pax([(b"path", b"")]) + header(path[:100], b"0"),
            lambda: pax([(b"mtime", b"")]) + header(path[:100], b"0"),
            lambda: pax([(b"mtime", b"x")]) + header(path[:100], b"0"),
            lambda: pax([(b"mtime", b" +5 .5 ")]) + header(path[:100], b"0"),
            lambda: pax([(b"GNU.sparse.major", b"1")]) + header(path[:100], b"0"),
            lambda: pax([(b"linkpath", b"")]) + header(path[:100], b"2", link=b"to"),
            lambda: (
                pax(
                    [
                        (
                            b"LIBARCHIVE.xattr.user.b",
                            r.randbytes(9).hex().encode()[: r.randrange(17)],
                        )
                    ]
                )
                + header(path[:100], b"0")
            ),
            lambda: header(path[:100] + b"/x/.wh..wh..opq"[: max(0, 100 - len(path))], b"0"),
            lambda: header(b".wh..wh.plnk", b"5"),
            lambda: (
                pax([(b"path", b"from/global"), (b"size", b"5")], b"g")
                + header(path[:100], b"0", 5)
                + padded(b"abcde")
            ),
            lambda: (
                pax([(b"linkpath", b"from-global")], b"g") + header(path[:100], b"2", link=b"to")
            ),
            lambda: pax([(b"path", b"")], b"g"),
            lambda: (
                pax([(b"mtime", b"77.7"), (b"uid", b"9")], b"g")
                + header(path[:100], b"0")
                + header(path[:98] + b"b", b"0")
            ),
            lambda: (
                pax(
                    [
                        (b"SCHILY.xattr.user.a", b"1"),
                        (b"SCHILY.xattr.user.b", b"2"),
                        (b"SCHILY.xattr.user.a", b"3"),
                    ]
                )
                + header(path[:100], b"0")
            ),
            lambda: (
                pax([(b"SCHILY.xattr.user.a", b"g"), (b"SCHILY.xattr.user.g", b"g")], b"g")
                + pax([(b"SCHILY.xattr.user.a", b"l\n=\0x")])
                + header(path[:100], b"0")
            ),
            lambda: (
                pax([(b"size", b"3")])
                + gnu_long(b"no", b"L")
                + header(path[:100], b"0")
                + padded(b"abc")
            ),
            lambda: bytes(512) + pax([(b"mtime", b"4")]) + header(path[:100], b"0"),
            lambda: header(
                path[:100],
                b"3",
                raw={"major": base256(-1, 8), "minor": base256(2**40 + 5, 8)},
            ),
            lambda: header(path[:100], b"3", major=70000, minor=2**20 + 3),
            lambda: header(path[:100], b"4", major=5000, minor=1),
            lambda: (
                gnu_long(path + b"/" + b"z" * 120 + b"/", b"L")
                + header(b"zz", r.choice([b"5", b"0", b"2"]), link=b"t")
            ),
            lambda: gnu_long(b"z" * 5000, b"L") + header(b"zz", b"0"),
            lambda: (
                gnu_long(b"/".join([b"deep"] * r.choice([100, 1000, 3000])), b"L")
                + header(b"zz", b"0")
            ),
            lambda: (
                pax([(b"path", b"/".join([b"d"] * r.choice([100, 5000])))]) + header(b"zz", b"0")
            ),
            lambda: (
                pax([(b"comment", b"c" * r.choice([32700, 33000, 70000]))])
                + header(path[:100], b"0")
            ),
            lambda: (
                pax([(b"uid", b"99999999999999999999"), (b"gid", b"-1")]) + header(path[:100], b"0")
            ),
            lambda: pax([(b"mtime", b"99999999999999999999.9")]) + header(path[:100], b"0"),
            lambda: header(path[:100], b"0", mode=0o7777777),
            lambda: header(
                path[:100],
                b"0",
                raw={
                    "uid": base256(-2, 8),
                    "gid": base256(2**33 + 7, 8),
                    "mtime": base256(-7, 12),
                },
            ),
            lambda: header(b"x" * 100, b"0", prefix=b"p" * 155),
            lambda: header(b"name", b"0", prefix=b"pre/", magic=b"ustar  \0"),
            lambda: header(path[:100], b"2", link=b""),
            lambda: header(path[:90] + b"/..", b"5"),
            lambda: header(path[:90] + b"/.", b"0"),
        ]
    )()
