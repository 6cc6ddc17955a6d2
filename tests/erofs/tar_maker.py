"""Random tars with seeds: what real layers hold, and what tarfile would never write."""

from __future__ import annotations

import base64
import random

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


class Maker:
    """One archive. `kind` picks what the seed is about, so that each corner gets crowded cases."""

    KINDS = ("mixed", "names", "space", "xattrs", "replace", "headers", "wide", "broken")

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)
        self.kind = self.KINDS[seed % len(self.KINDS)]
        self.out: list[bytes] = []
        self.dirs: list[bytes] = [b""]
        self.files: list[bytes] = []
        self.alphabet = self.r.choice(
            [b"abc", b"abcdefghijklmnopqrstuvwxyz0123456789-_.", bytes(range(1, 256))]
        )
        self.name_max = self.r.choice([1, 3, 12, 30, 120, 255])
        self.mtimes = self.r.choice([[0], [0, 1700000000], [1700000000], [0, 1, 2**31, 2**33 - 1]])
        self.plain_sizes = self.r.choice(
            [[0], [0, 1, 4095, 4096, 4097, 511, 512, 513], list(range(0, 9000, 7))]
        )

    def chance(self, p: float) -> bool:
        return self.r.random() < p

    def component(self) -> bytes:
        n = self.r.randint(1, self.name_max) if self.chance(0.9) else self.r.randint(1, 255)
        name = bytes(self.r.choice(self.alphabet) for _ in range(n)).replace(b"/", b"_")
        if name in (b".", b"..") or name.startswith(b".wh."):
            name = b"x" + name[1:]
        if self.chance(0.002) and self.kind == "broken":
            name += b"y" * 256
        return name

    def path(self) -> bytes:
        """Mostly one that leads through directories only; what it names is forgotten, with all below it."""
        while True:
            path = self.any_path()
            parts = path.split(b"/")
            through = {b"/".join(parts[:n]) for n in range(1, len(parts))}
            if not through & set(self.files) or (self.kind == "broken" and self.chance(0.1)):
                return path

    def forget(self, path: bytes) -> None:
        self.dirs = [d for d in self.dirs if d != path and not d.startswith(path + b"/")]
        self.files = [f for f in self.files if f != path and not f.startswith(path + b"/")]

    def any_path(self) -> bytes:
        parent = self.r.choice(self.dirs) if self.chance(0.8) else self.r.choice(self.dirs[-3:])
        if self.kind in ("replace", "broken") and self.chance(0.3) and self.files + self.dirs[1:]:
            return self.r.choice(self.files + self.dirs[1:])
        name = self.component()
        while self.chance(0.05):
            name = self.component() + b"/" + name
        return parent + b"/" + name if parent else name

    def decorate(self, path: bytes, is_dir: bool) -> bytes:
        if self.kind == "names" or self.chance(0.05):
            path = self.r.choice([b"./", b"/", b"", b"", b"", b".//", b"../"]) + path
            if self.chance(0.1):
                path = path.replace(b"/", b"//", 1)
            if self.chance(0.05):
                path = path.replace(b"/", b"/./", 1)
            if self.chance(0.02) and self.dirs[1:]:
                path = self.r.choice(self.dirs[1:]) + b"/../" + path
        if is_dir and self.chance(0.5):
            path += b"/"
        return path

    def xattrs(self) -> list[tuple[bytes, bytes]]:
        many = self.kind == "xattrs"
        if not self.chance(0.7 if many else 0.03):
            return []
        out = []
        for _ in range(self.r.randint(1, 6 if many else 2)):
            space = self.r.choice(
                [
                    b"user.",
                    b"trusted.",
                    b"security.",
                    b"system.posix_acl_access",
                    b"system.posix_acl_default",
                    b"user.overlay.",
                    b"security.capability",
                ]
                + ([b"lustre.", b"", b"system.x", b"User."] if self.chance(0.05) else [])
            )
            name = space + (
                b""
                if space.endswith((b"access", b"default", b"capability")) and self.chance(0.8)
                else self.component().replace(b"=", b"_")[: 255 - len(space)]
            )
            value = self.r.randbytes(
                self.r.choice([0, 1, 3, 4, 20, 100] + ([900, 3000] if self.chance(0.2) else []))
            )
            if self.chance(0.9):
                out.append((b"SCHILY.xattr." + name, value))
            else:
                value = value[: len(value) // 3 * 3]
                quoted = b"".join(
                    b"%%%02X" % x if self.chance(0.1) or x in b"%=" else bytes([x]) for x in name
                )
                coded = base64.b64encode(value)
                if self.chance(0.7) or self.kind != "broken":
                    coded = coded.rstrip(b"=")
                out.append((b"LIBARCHIVE.xattr." + quoted, coded))
        return out

    def mtime_record(self) -> list[tuple[bytes, bytes]]:
        if not self.chance(0.6 if self.kind == "headers" else 0.1):
            return []
        whole = self.r.choice([0, 0, 1, 1700000000, -1, -5, 2**40])
        digits = self.r.choice(
            ["", "", ".0", ".5", ".25", ".123456789", ".000000001", ".1234567891234", ".000"]
        )
        return [(b"mtime", f"{whole}{digits}".encode())]

    def entry(
        self, path: bytes, typeflag: bytes, data: bytes = b"", link: bytes = b"", **fields: object
    ) -> None:
        """Writes an entry with whatever extension headers its name, link and luck need."""
        records = self.xattrs() + self.mtime_record()
        fields.setdefault("mtime", self.r.choice(self.mtimes))
        fields.setdefault("mode", self.r.choice([0o644, 0o755, 0o4755, 0o1777, 0o100644, 0]))
        fields.setdefault(
            "uid",
            self.r.choice([0, 0, 0, 1000, 65535, 65536, 2**21 + 5]) if self.chance(0.3) else 0,
        )
        fields.setdefault("gid", self.r.choice([0, 1000, 65536, 2**31]) if self.chance(0.2) else 0)
        prefix = b""
        name = path
        if self.kind == "headers":
            for key in (b"uid", b"gid"):
                if self.chance(0.1):
                    records.append((key, b"%d" % self.r.choice([0, 5, 70000, 2**32 - 2])))
            if self.chance(0.1):
                records.append((b"size", b"%d" % len(data)))
                fields["size"] = self.r.choice([0, len(data)])
            if self.chance(0.1):
                records.append(
                    (
                        self.r.choice(
                            [b"comment", b"atime", b"ctime", b"SCHILY.dev", b"hdrcharset"]
                        ),
                        b"12",
                    )
                )
            if self.chance(0.1):
                fields["force256"] = True
        if len(path) > 100 or self.chance(0.05):
            way = self.r.choice(["pax", "gnu", "prefix"])
            cut = path[:156].rfind(b"/")
            if way == "prefix" and 0 < cut <= 155 and 0 < len(path) - cut - 1 <= 100:
                prefix, name = path[:cut], path[cut + 1 :]
            elif way == "gnu":
                self.out.append(gnu_long(path, b"L"))
                name = path[:100]
            else:
                records.append((b"path", path))
                name = path[:100]
        if len(link) > 100 or (link and self.chance(0.05)):
            if self.chance(0.5):
                self.out.append(gnu_long(link, b"K"))
            else:
                records.append((b"linkpath", link))
        if records and self.kind == "headers":
            self.r.shuffle(records)
        if records:
            self.out.append(pax(records))
        fields.setdefault("size", len(data))
        self.out.append(
            header(name, typeflag, prefix=prefix, link=link[:100], **fields) + padded(data)
        )

    def one(self) -> None:
        path = self.path()
        kinds = {
            "file": 50,
            "dir": 15,
            "link": 8,
            "sym": 12,
            "white": 4,
            "opaque": 2,
            "dev": 2,
            "fifo": 1,
            "global": 0.3,
        }
        if self.kind == "wide":
            kinds.update(dir=3, white=1, opaque=0.5)
        if self.kind in ("replace", "broken"):
            kinds.update(white=10, link=15, dir=25)
        if self.kind == "headers":
            kinds.update({"global": 3})
        what = self.r.choices(list(kinds), list(kinds.values()))[0]
        if what in ("file", "sym", "white", "dev", "fifo"):
            self.forget(path)
        elif what == "dir":
            self.files = [f for f in self.files if f != path]
        getattr(self, "put_" + what)(path)

    def put_file(self, path: bytes) -> None:
        size = self.r.choice(self.plain_sizes)
        self.entry(
            self.decorate(path, False),
            self.r.choice([b"0", b"0", b"0", b"7"]),
            self.r.randbytes(size),
        )
        self.files.append(path)

    def put_dir(self, path: bytes) -> None:
        if self.chance(0.1):
            path = self.r.choice(self.dirs)
        self.entry(
            self.decorate(path or b".", True),
            b"5",
            mode=self.r.choice([0o755, 0o700, 0o777, 0o775]),
        )
        if path not in self.dirs:
            self.dirs.append(path)

    def put_link(self, path: bytes) -> None:
        if not self.files:
            return
        target = self.r.choice(self.files)
        if target == path or target.startswith(path + b"/"):
            return
        self.forget(path)
        if self.kind == "broken" and self.chance(0.1):
            target = self.r.choice([b"nowhere", path, self.r.choice(self.dirs) or b"."])
        self.entry(
            self.decorate(path, False), b"1", link=self.r.choice([b"", b"./", b"/"]) + target
        )
        self.files.append(path)

    def put_sym(self, path: bytes) -> None:
        n = self.r.choice(
            [1, 5, 30, 99, 100, 101, 300, 460, 500, 512, 513, 1000, 1024, 2000]
            + ([4000, 4040, 4064, 4095] if self.kind == "space" else [])
        )
        self.entry(
            self.decorate(path, False), b"2", link=self.r.choice(b"abc").to_bytes(1, "big") * n
        )
        self.files.append(path)

    def put_white(self, path: bytes) -> None:
        head, _, tail = path.rpartition(b"/")
        path = (head + b"/" if head else b"") + b".wh." + tail
        self.entry(self.decorate(path, False), b"0", mode=0)

    def put_opaque(self, path: bytes) -> None:
        parent = self.r.choice(self.dirs)
        if parent or (self.kind == "broken" and self.chance(0.2)):
            self.entry((parent + b"/" if parent else b"") + b".wh..wh..opq", b"0")

    def put_dev(self, path: bytes) -> None:
        self.entry(
            self.decorate(path, False),
            self.r.choice([b"3", b"4"]),
            major=self.r.choice([0, 1, 8, 255, 256, 4095]),
            minor=self.r.choice([0, 3, 255, 256, 70000, 2**20 - 1]),
        )
        self.files.append(path)

    def put_fifo(self, path: bytes) -> None:
        self.entry(self.decorate(path, False), b"6")
        self.files.append(path)

    def put_global(self, path: bytes) -> None:
        choice = self.r.randrange(5)
        records = [(b"comment", b"0123456789abcdef" * 2)]
        if choice == 1:
            records += self.mtime_record() or [(b"mtime", b"12.5")]
        elif choice == 2:
            records += [(b"uid", b"7"), (b"gid", b"70000")]
        elif choice == 3:
            records += [(b"SCHILY.xattr.user.g", self.component())]
        self.out.append(pax(records, b"g"))

    def hurt(self) -> None:
        """Something no archiver writes."""
        path = self.path()
        self.r.choice(
            [
                lambda: self.out.append(header(path[:100], b"S", 0)),
                lambda: self.out.append(header(path[:100], b"\0", 100) + padded(b"q" * 100)),
                lambda: self.out.append(header(path[:100], b"5", 512)),
                lambda: self.out.append(header(path[:100], b"1", 1024, link=b"nowhere")),
                lambda: self.out.append(header(b".wh.w", b"0", 700) + padded(b"w" * 700)),
                lambda: self.out.append(
                    header(path[:100], b"3", 0, major=1, minor=2, raw={"size": b"%011o\0" % 0})
                ),
                lambda: self.out.append(header(path[:100], b"6", 600) + padded(b"f" * 600)),
                lambda: self.out.append(
                    header(path[:100], b"0", 3, raw={"mode": b"  644 \0"}) + padded(b"abc")
                ),
                lambda: self.out.append(
                    header(path[:100], b"0", 3, raw={"uid": b"", "gid": b" "}) + padded(b"abc")
                ),
                lambda: self.out.append(header(b"volume label here", b"V")),
                lambda: self.out.append(b"\0" * 512),
                lambda: self.out.append(header(b"", b"5")),
                lambda: self.out.append(header(b"/", b"5")),
                lambda: self.out.append(
                    header(path[:100], b"0", 3, magic=b"\0" * 8) + padded(b"abc")
                ),
                lambda: self.out.append(
                    header(path[:100], b"0", 3, raw={"chksum": b"000001\0 "}) + padded(b"abc")
                ),
                lambda: self.out.append(header(path[:100], b"0", mtime=-5)),
                lambda: self.out.append(header(path[:100], b"4", raw={"major": b"", "minor": b""})),
                lambda: self.out.append(pax([(b"path", b"")]) + header(path[:100], b"0")),
                lambda: self.out.append(pax([(b"mtime", b"")]) + header(path[:100], b"0")),
                lambda: self.out.append(pax([(b"mtime", b"x")]) + header(path[:100], b"0")),
                lambda: self.out.append(pax([(b"mtime", b" +5 .5 ")]) + header(path[:100], b"0")),
                lambda: self.out.append(
                    pax([(b"GNU.sparse.major", b"1")]) + header(path[:100], b"0")
                ),
                lambda: self.out.append(
                    pax([(b"linkpath", b"")]) + header(path[:100], b"2", link=b"to")
                ),
                lambda: self.out.append(
                    pax(
                        [
                            (
                                b"LIBARCHIVE.xattr.user.b",
                                self.r.randbytes(9).hex().encode()[: self.r.randrange(17)],
                            )
                        ]
                    )
                    + header(path[:100], b"0")
                ),
                lambda: self.out.append(
                    header(path[:100] + b"/x/.wh..wh..opq"[: max(0, 100 - len(path))], b"0")
                ),
                lambda: self.out.append(header(b".wh..wh.plnk", b"5")),
                lambda: self.out.append(
                    pax([(b"path", b"from/global"), (b"size", b"5")], b"g")
                    + header(path[:100], b"0", 5)
                    + padded(b"abcde")
                ),
                lambda: self.out.append(
                    pax([(b"linkpath", b"from-global")], b"g")
                    + header(path[:100], b"2", link=b"to")
                ),
                lambda: self.out.append(pax([(b"path", b"")], b"g")),
                lambda: self.out.append(
                    pax([(b"mtime", b"77.7"), (b"uid", b"9")], b"g")
                    + header(path[:100], b"0")
                    + header(path[:98] + b"b", b"0")
                ),
                lambda: self.out.append(
                    pax(
                        [
                            (b"SCHILY.xattr.user.a", b"1"),
                            (b"SCHILY.xattr.user.b", b"2"),
                            (b"SCHILY.xattr.user.a", b"3"),
                        ]
                    )
                    + header(path[:100], b"0")
                ),
                lambda: self.out.append(
                    pax([(b"SCHILY.xattr.user.a", b"g"), (b"SCHILY.xattr.user.g", b"g")], b"g")
                    + pax([(b"SCHILY.xattr.user.a", b"l\n=\0x")])
                    + header(path[:100], b"0")
                ),
                lambda: self.out.append(
                    pax([(b"size", b"3")])
                    + gnu_long(b"no", b"L")
                    + header(path[:100], b"0")
                    + padded(b"abc")
                ),
                lambda: self.out.append(
                    bytes(512) + pax([(b"mtime", b"4")]) + header(path[:100], b"0")
                ),
                lambda: self.out.append(
                    header(
                        path[:100],
                        b"3",
                        raw={"major": base256(-1, 8), "minor": base256(2**40 + 5, 8)},
                    )
                ),
                lambda: self.out.append(header(path[:100], b"3", major=70000, minor=2**20 + 3)),
                lambda: self.out.append(header(path[:100], b"4", major=5000, minor=1)),
                lambda: self.out.append(
                    gnu_long(path + b"/" + b"z" * 120 + b"/", b"L")
                    + header(b"zz", self.r.choice([b"5", b"0", b"2"]), link=b"t")
                ),
                lambda: self.out.append(gnu_long(b"z" * 5000, b"L") + header(b"zz", b"0")),
                lambda: self.out.append(
                    gnu_long(b"/".join([b"deep"] * self.r.choice([100, 1000, 3000])), b"L")
                    + header(b"zz", b"0")
                ),
                lambda: self.out.append(
                    pax([(b"path", b"/".join([b"d"] * self.r.choice([100, 5000])))])
                    + header(b"zz", b"0")
                ),
                lambda: self.out.append(
                    pax([(b"comment", b"c" * self.r.choice([32700, 33000, 70000]))])
                    + header(path[:100], b"0")
                ),
                lambda: self.out.append(
                    pax([(b"uid", b"99999999999999999999"), (b"gid", b"-1")])
                    + header(path[:100], b"0")
                ),
                lambda: self.out.append(
                    pax([(b"mtime", b"99999999999999999999.9")]) + header(path[:100], b"0")
                ),
                lambda: self.out.append(header(path[:100], b"0", mode=0o7777777)),
                lambda: self.out.append(
                    header(
                        path[:100],
                        b"0",
                        raw={
                            "uid": base256(-2, 8),
                            "gid": base256(2**33 + 7, 8),
                            "mtime": base256(-7, 12),
                        },
                    )
                ),
                lambda: self.out.append(header(b"x" * 100, b"0", prefix=b"p" * 155)),
                lambda: self.out.append(header(b"name", b"0", prefix=b"pre/", magic=b"ustar  \0")),
                lambda: self.out.append(header(path[:100], b"2", link=b"")),
                lambda: self.out.append(header(path[:90] + b"/..", b"5")),
                lambda: self.out.append(header(path[:90] + b"/.", b"0")),
            ]
        )()

    def make(self) -> bytes:
        top = {"wide": 3000, "space": 400, "broken": 25}.get(self.kind, 150)
        for _ in range(self.r.randint(1, self.r.choice([3, top // 4 + 1, top]))):
            self.one()
            if (self.kind == "broken" and self.chance(0.08)) or self.chance(0.0005):
                self.hurt()
        tar = b"".join(self.out)
        if self.kind == "broken" and self.chance(0.1):
            return tar + self.r.choice([b"", b"\0" * 512, b"\0" * 100])
        tar += b"\0" * 1024
        if self.chance(0.5):
            tar += b"\0" * (-len(tar) % 10240)
        return tar
