"""The writer against mkfs.erofs, byte for byte: `difftest.py FIRST LAST [STEP]` for seeds, `difftest.py FILE.tar …`."""

from __future__ import annotations

import collections
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import mkfs_twin
import native
from tar_maker import Maker

from dmsign_fast.errors import FormatError

#: refused whatever the flags, though mkfs.erofs makes something: a broken image, one that depends on memory it does
#: not own, or one of half an archive
DELIBERATE = (
    "gives it two '.'",
    "uses freed memory",
    "too large for EROFS",
    "impossible size",
    "NUL in a long PAX path",
    "a long path of a global PAX header",
    "attribute name with NUL",
    "truncated archive",
    "extension header too large",
    "data on a device",
    "whiteout of nothing",
)


def structures(image: bytes) -> list[tuple[int, int, str]]:
    """(start, end, label) of what an image holds, from its own metadata."""
    bits, root = image[1024 + 12], struct.unpack_from("<H", image, 1024 + 14)[0]
    meta = struct.unpack_from("<I", image, 1024 + 40)[0] << bits
    block = 1 << bits
    found = [(1024, 1152, "super block")]
    if struct.unpack_from("<H", image, 1024 + 86)[0]:
        found.append((1152, 1280, "device slot"))
    work, seen = [(root, "/")], set()
    while work:
        nid, path = work.pop()
        at = (meta + nid * 32) % 2**64 if nid < 2**58 else meta + (nid - 2**59) * 32
        if at in seen or not 0 <= at < len(image) - 32:
            continue
        seen.add(at)
        fmt, icount, mode = struct.unpack_from("<HHH", image, at)
        size = struct.unpack_from("<Q" if fmt & 1 else "<I", image, at + 8)[0]
        start = struct.unpack_from("<I", image, at + 16)[0]
        head, xattr = (64 if fmt & 1 else 32), (12 + 4 * (icount - 1) if icount else 0)
        found += [
            (at, at + head, f"inode of {path}"),
            (at + head, at + head + xattr, f"xattrs of {path}"),
        ]
        layout, tail = fmt >> 1 & 7, at + head + xattr
        if layout == 4:
            tail = (tail + 7) & ~7
            found.append((tail, tail + 8, f"chunk index of {path}"))
        if layout not in (0, 2) or mode & 0o170000 not in (0o040000, 0o120000, 0o100000):
            continue
        for i in range(-(-size // block)):
            n = min(block, size - i * block)
            place = tail if layout == 2 and i == size // block else (start + i) * block
            found.append((place, place + n, f"data of {path} + {i * block}"))
            piece = image[place : place + n]
            if mode & 0o170000 == 0o040000 and len(piece) >= 12:
                count = min(struct.unpack_from("<H", piece, 8)[0], len(piece)) // 12
                heads = [struct.unpack_from("<QHB", piece, 12 * k) for k in range(count)]
                for k, (child, off, _) in enumerate(heads):
                    name = piece[off : heads[k + 1][1] if k + 1 < count else len(piece)].rstrip(
                        b"\0"
                    )
                    if name not in (b".", b".."):
                        work.append((child, path.rstrip("/") + "/" + name.decode("latin-1")))
    return found


def first_difference(want: bytes, got: bytes) -> str:
    note = f"sizes {len(want)} and {len(got)}; " if len(want) != len(got) else ""
    differ = [i for i, (a, b) in enumerate(zip(want, got, strict=False)) if a != b] + [
        min(len(want), len(got))
    ]
    at = next(
        (i for i in differ[:-1] if not 1028 <= i < 1032), differ[0]
    )  # the checksum differs with anything
    note += f"{len(differ) - 1} bytes differ; "
    labels = []
    for which, image in (("mkfs", want), ("ours", got)):
        here = [f"{label} + {at - a}" for a, b, label in structures(image) if a <= at < b]
        labels.append(f"{which}: {', '.join(here) or 'nothing known'}")
    return (
        f"{note}first at {at}: {want[at : at + 8].hex()} / {got[at : at + 8].hex()}; "
        + "; ".join(labels)
    )


class Harness:
    def __init__(self, timeout: float = 60) -> None:
        self.timeout = timeout
        self.mkfs = mkfs_twin.twins()
        self.count: collections.Counter[str] = collections.Counter()
        self.reasons: collections.Counter[str] = collections.Counter()
        shm = Path("/dev/shm")
        self.dir = tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None)

    def compare(self, tar: bytes, label: str, path: Path | None = None, seed: int = 0) -> list[str]:
        """What differs: images, or one fails where the other does not."""
        work = Path(self.dir.name)
        if path is None:
            path = work / "t.tar"
            path.write_bytes(tar)
        wrong = []
        pieces = None
        if len(tar) < 1 << 20:
            r = random.Random(seed)
            pieces = [
                r.choice([1, 3, 511, 512, 513, 4096, 7777]) for _ in range(len(tar) // 200 + 2)
            ]
        for version, mkfs in self.mkfs.items():
            for layout in "AD":
                image = work / "t.img"
                said = ""
                try:
                    mkfs.build(path, image, layout, timeout=self.timeout)
                    want = image.read_bytes()
                except subprocess.CalledProcessError as error:
                    want, said = (
                        None,
                        f"exit {error.returncode}: {error.stderr.decode(errors='replace')[-300:]}",
                    )
                except subprocess.TimeoutExpired:
                    want, said = None, "spins"
                got, refusal = self.ours(tar, version, layout, True, pieces)
                where = f"{label} {version} {layout}"
                if want is None and got is None:
                    self.count["both fail"] += 1
                elif want is None:
                    self.count["only mkfs fails"] += 1
                    wrong.append(f"{where}: mkfs fails ({said.strip()!r}), we do not")
                elif got is None and any(text in refusal for text in DELIBERATE):
                    self.count["refused on purpose"] += 1
                elif got is None:
                    self.count["only we fail"] += 1
                    wrong.append(f"{where}: we fail: {refusal}")
                elif want != got:
                    self.count["differ"] += 1
                    wrong.append(f"{where}: {first_difference(want, got)}")
                else:
                    self.count["equal"] += 1
                strict, refusal = self.ours(tar, version, layout, False, None)
                if strict is None:
                    self.count["strict refuses"] += got is not None
                    self.reasons[
                        refusal.split(": ", 2)[2] if refusal.count(": ") > 1 else refusal
                    ] += 1
                elif strict != got:
                    wrong.append(f"{where}: strict and lossy differ")
        return wrong

    def ours(
        self, tar: bytes, version: str, layout: str, lossy: bool, pieces: list[int] | None
    ) -> tuple[bytes | None, str]:
        try:
            return native.convert(tar, version, layout, mkfs_twin.UUID, lossy, pieces), ""
        except FormatError as refused:
            return None, str(refused)


def main(argv: list[str]) -> int:
    harness = Harness()
    bad = 0
    if argv and not argv[0].isdigit():
        cases = ((Path(a).read_bytes(), a, Path(a), 0) for a in argv)
    else:
        seeds = range(*map(int, argv))
        cases = (
            (Maker(seed).make(), f"seed {seed} ({Maker(seed).kind})", None, seed) for seed in seeds
        )
    for tar, label, path, seed in cases:
        wrong = harness.compare(tar, label, path, seed)
        bad += bool(wrong)
        if bad <= 40:
            for line in wrong:
                print(line, flush=True)
    print(dict(harness.count))
    for reason, n in harness.reasons.most_common():
        print(f"{n:7} {reason}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
