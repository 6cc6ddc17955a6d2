"""Random tars with seeds: what real layers hold, and what tarfile would never write."""

from __future__ import annotations

import base64
import random

from tar_blocks import gnu_long, header, padded, pax
from tar_odd import odd


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

    def make(self) -> bytes:
        top = {"wide": 3000, "space": 400, "broken": 25}.get(self.kind, 150)
        for _ in range(self.r.randint(1, self.r.choice([3, top // 4 + 1, top]))):
            self.one()
            if (self.kind == "broken" and self.chance(0.08)) or self.chance(0.0005):
                self.out.append(odd(self.r, self.path()))
        tar = b"".join(self.out)
        if self.kind == "broken" and self.chance(0.1):
            return tar + self.r.choice([b"", b"\0" * 512, b"\0" * 100])
        tar += b"\0" * 1024
        if self.chance(0.5):
            tar += b"\0" * (-len(tar) % 10240)
        return tar
