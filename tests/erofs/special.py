"""Corners that need size: many links, many subdirectories, a root far from block 0, inodes across blocks."""

from __future__ import annotations

import random
import sys

from difftest import Harness
from tar_blocks import header, padded, pax

END = bytes(1024)


def far_root(data: int, names: int, length: int, mtime: int) -> bytes:
    """File data first; a root directory too large for block 0, so that it lands behind the data."""
    r = random.Random(data + names)
    tar = b"".join(
        header(b"f%d" % i, b"0", 1 << 20, mtime=mtime) + bytes(1 << 20) for i in range(data)
    )
    for i in range(names):
        tar += header(b"%0*d" % (length, i), r.choice([b"0", b"5", b"2"]), mtime=mtime, link=b"x")
    return tar + END


def many_links(count: int) -> bytes:
    links = (header(b"d%d/%d" % (i // 100, i), b"1", link=b"file") for i in range(count))
    return header(b"file", b"0", 3) + padded(b"abc") + b"".join(links) + END


def many_dirs(count: int, mtime: int) -> bytes:
    tar = b"".join(header(b"p/%x/" % i, b"5", mode=0o755, mtime=mtime) for i in range(count))
    return header(b"p/", b"5", mode=0o755, mtime=mtime) + tar + END


def fat_xattrs(sizes: list[int], mtime: int) -> bytes:
    tar = b""
    for i, size in enumerate(sizes):
        records = [
            (b"SCHILY.xattr.user.%d" % k, bytes([65 + k]) * min(size - k * 60000, 60000))
            for k in range(-(-size // 60000))
        ]
        tar += pax(records) + header(
            b"n%d" % i,
            random.Random(i).choice([b"0", b"5", b"2"]),
            mtime=mtime,
            link=b"l" * (i % 99),
        )
    return tar + END


def much_metadata(dirs: int, mtime: int) -> bytes:
    """More than the writer holds at once: inodes, long directories, long symlinks, xattrs."""
    tar = b""
    for d in range(dirs):
        for i in range(200):
            name = b"directory %d/%05d%s" % (d, i * 7919 % 10007, b"x" * 60)
            if i % 40 == 39:
                tar += pax(
                    [(b"SCHILY.xattr.user.x", b"v" * (i * 37)), (b"linkpath", b"l" * 20 * i)]
                )
            tar += header(name, b"2" if i % 40 == 39 else b"0", mtime=mtime, link=b"target")
    return tar + END


def main() -> int:
    harness, bad = Harness(), 0
    cases = {
        f"far root {d} MiB, {n} names of {k}, mtime {m}": far_root(d, n, k, m)
        for d in (0, 1, 2, 3, 9)
        for n, k in ((20, 90), (60, 40), (65, 45), (300, 99))
        for m in (0, 7)
    }
    cases |= {
        f"xattrs {m}": fat_xattrs(
            [100, 3000, 3900, 3950, 4000, 4050, 4096, 5000, 9000, 60000, 100, 200000, 64, 4032] * 3,
            m,
        )
        for m in (0, 7)
    }
    cases["300 links"] = many_links(300)
    if "large" in sys.argv:
        cases["65534 links"] = many_links(65534)
        cases["65535 links"] = many_links(65535)
        cases["66000 directories, mtime 0"] = many_dirs(66000, 0)
    for label, tar in cases.items():
        wrong = harness.compare(tar, label)
        bad += bool(wrong)
        for line in wrong:
            print(line, flush=True)
    print(dict(harness.count))
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
