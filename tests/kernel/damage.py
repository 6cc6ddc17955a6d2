"""Damage to DER: bytes changed, and values put in place of others."""

from __future__ import annotations

import random
from collections.abc import Iterator

from .forged_certificates import wrap


def flip_bytes(good: bytes, chance: random.Random) -> bytes:
    """Change a byte or two."""
    changed = bytearray(good)
    for _ in range(chance.choice((1, 1, 2))):
        changed[chance.randrange(len(good))] ^= chance.randrange(1, 256)
    return bytes(changed)


def swap_values(good: bytes, chance: random.Random) -> bytes:
    """Put a value of the message in place of another, all lengths right."""
    spans = list(_spans(good, 0, len(good)))
    (start, _), (first, last) = chance.choice(spans[1:]), chance.choice(spans)
    return _rebuild(good, 0, len(good), start, good[first:last])


def _spans(data: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where each value in DER begins and ends, outermost first."""
    while at < end:
        content, stop = content_of(data, at)
        yield at, stop
        if data[at] & 0x20:
            yield from _spans(data, content, stop)
        at = stop


def content_of(data: bytes, at: int) -> tuple[int, int]:
    """Return where the content of the value at this place begins and ends."""
    size, content = data[at + 1], at + 2
    if size > 0x80:
        content += size & 0x7F
        size = int.from_bytes(data[at + 2 : content])
    return content, content + size


def _rebuild(data: bytes, at: int, end: int, target: int, new: bytes) -> bytes:
    made = b""
    while at < end:
        content, stop = content_of(data, at)
        if at == target:
            made += new
        elif data[at] & 0x20:
            made += wrap(data[at], _rebuild(data, content, stop, target, new))
        else:
            made += data[at:stop]
        at = stop
    return made
