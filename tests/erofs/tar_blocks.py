"""Blocks of a tar: headers, whole and odd ones, and PAX and GNU extensions."""

from __future__ import annotations

BLOCK = 512


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int) -> bytes:
    return (
        value & ((1 << (8 * width)) - 1) | (0x80 if value >= 0 else 0xFF) << (8 * (width - 1))
    ).to_bytes(width, "big")


def number(value: int, width: int, force256: bool = False) -> bytes:
    if force256 or value < 0 or value >= 8 ** (width - 1):
        return base256(value, width)
    return octal(value, width)


def header(
    name: bytes,
    typeflag: bytes = b"0",
    size: int = 0,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    major: int = 0,
    minor: int = 0,
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    force256: bool = False,
    raw: dict[str, bytes] | None = None,
) -> bytes:
    """512 bytes; `raw` overrides fields (mode, chksum, …) by their bytes."""
    raw = raw or {}
    fields = {
        "name": (100, name),
        "mode": (8, octal(mode, 8)),
        "uid": (8, number(uid, 8, force256)),
        "gid": (8, number(gid, 8)),
        "size": (12, number(size, 12, force256)),
        "mtime": (12, number(mtime, 12)),
        "chksum": (8, b" " * 8),
        "type": (1, typeflag),
        "link": (100, link),
        "magic": (8, magic),
        "uname": (32, b"root"),
        "gname": (32, b"root"),
        "major": (8, octal(major, 8)),
        "minor": (8, octal(minor, 8)),
        "prefix": (155, prefix),
        "pad": (12, b""),
    }
    for key, value in raw.items():
        fields[key] = (fields[key][0], value)
    out = b"".join(value.ljust(width, b"\0")[:width] for width, value in fields.values())
    if "chksum" not in raw:
        out = out[:148] + b"%06o\0 " % sum(out[:500]) + out[156:]
    return out


def padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % BLOCK)


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    n = len(body)
    while len(b"%d" % n) + len(body) != n:
        n = len(b"%d" % n) + len(body)
    return b"%d" % n + body


def pax(records: list[tuple[bytes, bytes]], typeflag: bytes = b"x") -> bytes:
    body = b"".join(record(k, v) for k, v in records)
    return header(b"./PaxHeaders/x", typeflag, len(body)) + padded(body)


def gnu_long(name: bytes, typeflag: bytes) -> bytes:
    return header(b"././@LongLink", typeflag, len(name) + 1, magic=b"ustar  \0") + padded(
        name + b"\0"
    )
