"""Damaged archives against mkfs.erofs: `mutate.py FIRST LAST`. What mkfs.erofs accepts we must make too, or refuse
for a reason named here; what it refuses we must refuse."""

from __future__ import annotations

import collections
import random
import re
import sys

from difftest import Harness
from tar_maker import Maker

FIELDS = [
    (0, 100),
    (100, 8),
    (108, 8),
    (116, 8),
    (124, 12),
    (136, 12),
    (148, 8),
    (156, 1),
    (157, 100),
    (257, 8),
    (329, 8),
    (337, 8),
    (345, 155),
    (500, 12),
]


def mend(tar: bytearray) -> None:
    for at in range(0, len(tar) - 511, 512):
        if tar[at + 257 : at + 262] == b"ustar":
            tar[at + 148 : at + 156] = b"        "
            tar[at + 148 : at + 156] = b"%06o\0 " % sum(tar[at : at + 500])


def mutate(seed: int) -> bytes:
    r = random.Random(seed)
    tar = bytearray()
    while not 1024 < len(tar) < 60000:
        tar = bytearray(Maker(r.randrange(1 << 30)).make())
    headers = [at for at in range(0, len(tar), 512) if tar[at + 257 : at + 262] == b"ustar"]
    for _ in range(r.choice([1, 1, 1, 2, 3])):
        at = r.choice(headers or [0])
        what = r.randrange(10)
        start, width = r.choice(FIELDS)
        if what < 4:
            tar[at + start + r.randrange(width)] = r.choice(
                [0, 0x20, 0x2E, 0x2F, 0x30, 0x37, 0x80, 0xFF, r.randrange(256)]
            )
        elif what == 4:
            tar[at + start : at + start + width] = bytes(
                tar[(other := r.choice(headers or [0])) + start : other + start + width]
            )
        elif what == 5:
            tar[at + 156] = r.choice(b"01234567xgLKVS\0ADMN")
        elif what == 6:
            del tar[at : at + 512]
        elif what == 7:
            tar[at:at] = tar[r.choice(headers or [0]) :][:512]
        elif what == 8:
            body = at + 512 + r.randrange(60)
            tar[body : body + 1] = bytes(
                [r.choice(b"\0 \n=0123456789.-%/") if r.random() < 0.7 else r.randrange(256)]
            )[: len(tar) - body]
        else:
            tar[at + 124 : at + 136] = r.choice(
                [
                    b"%011o\0" % r.choice([0, 1, 511, 512, 513, 4096]),
                    b"\x80" + bytes(10) + b"\5",
                    b"\xff" * 12,
                    b"-0000000001\0",
                    b"",
                    b"           0",
                    b"777777777777",
                ]
            ).ljust(12, b"\0")[:12]
        headers = [h for h in headers if h + 512 <= len(tar)]
    if r.random() < 0.95:
        mend(tar)
    return bytes(tar)


def main(first: int, last: int) -> int:
    harness = Harness(timeout=2)  # mkfs.erofs 1.8.6 spins on truncated archives
    kinds: collections.Counter[str] = collections.Counter()
    for seed in range(first, last):
        for line in harness.compare(mutate(seed), f"mutant {seed}", seed=seed):
            kind = (
                re.sub(
                    r".*(we fail: [^:]*: b?['\"].*['\"]: |mkfs fails|differ)",
                    lambda m: m[1][:11],
                    line,
                )[:150]
                if "differ" not in line
                else "differ"
            )
            if kinds[kind] < 3:
                print(line[:500], flush=True)
            kinds[kind] += 1
    print(dict(harness.count))
    for kind, n in kinds.most_common():
        print(f"{n:7} {kind}")
    return bool(kinds)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
