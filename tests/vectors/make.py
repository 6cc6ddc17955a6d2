"""Root hashes by the programs of others, for those who have neither: ``layers.json``.

    cd tests && python -m vectors.make

Small tars, each made by a function below, the same bytes on every machine; of each the image by
mkfs.erofs and the hash tree by veritysetup, for every recipe and version of mkfs.erofs that
``erofs.mkfs_twin`` has. A layer's digest, from which the UUIDs of containerd's recipes are made, is
that of its compressed bytes, which depend on the compressor; here it is made up, and named.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from erofs.tar_maker import gnu_long, header, pax
from erofs_layers.twins import VERSIONS, file, image_of, tar_of, tree_of

from dmsign_fast.erofs.recipe import RECIPES, Recipe

FILE = Path(__file__).with_name("layers.json")


def noise(size: int) -> bytes:
    """Bytes that look random."""
    return hashlib.shake_128(b"vectors").digest(size)


def empty() -> bytes:
    """The end of an archive."""
    return tar_of()


def one_file() -> bytes:
    """A single file of a single byte."""
    return tar_of(file(b"a", b"a", mode=0o644, mtime=1_700_000_000))


def everything() -> bytes:
    """Each kind of entry, and each way to write a long name."""
    time = {"mtime": 1_700_000_000}
    attributes = [
        (b"SCHILY.xattr.user.z", b"last"),
        (b"SCHILY.xattr.user.a", bytes(range(100))),
        (b"SCHILY.xattr.security.capability", b"\1\0\0\2" + bytes(16)),
    ]
    return tar_of(
        header(b"./", b"5", mode=0o755, **time),
        header(b"etc/", b"5", mode=0o755, mtime=0),
        file(b"etc/hosts", b"127.0.0.1 localhost\n", mode=0o644, **time),
        header(b"etc/.wh.gone", b"0", mode=0, **time),
        header(b"var/cache/.wh..wh..opq", b"0", mode=0, **time),
        header(b"bin", b"2", mode=0o777, link=b"usr/bin", **time),
        header(b"far", b"2", mode=0o777, link=b"away/" * 19, **time),
        pax(attributes) + file(b"usr/bin/tool", noise(10_000), mode=0o4755, **time),
        header(b"usr/bin/alias", b"1", mode=0o4755, link=b"usr/bin/tool", **time),
        header(b"dev/console", b"3", mode=0o620, major=5, minor=1, **time),
        header(b"dev/disk", b"4", mode=0o660, major=259, minor=300, **time),
        header(b"run/fifo", b"6", mode=0o600, **time),
        gnu_long(b"gnu/" * 40 + b"name", b"L") + file(b"gnu", b"by GNU", **time),
        pax([(b"path", b"pax/" * 40 + b"name")]) + file(b"pax", b"by PAX", **time),
        file(b"name", b"by prefix", prefix=b"prefix/" * 20 + b"end", **time),
        pax([(b"mtime", b"1700000000.25")]) + file(b"quarter", b"", mtime=0),
        file(b"owned", b"x", uid=1000, gid=70_000, mode=0o640, **time),
        file(b"sparse", bytes(20_000) + b"end", **time),
    )


def replaced() -> bytes:
    """Entries that come again: what they were leaves its blocks behind."""
    return tar_of(
        file(b"f", noise(5000)),
        file(b"g", b"g" * 4096),
        file(b"f", b"new", mode=0o600),
        header(b"g", b"5", mode=0o700),
        file(b"g/inside", b"x"),
        header(b"link", b"1", link=b"f"),
        file(b"link", b"own"),
    )


def three_levels() -> bytes:
    """Enough for a third level of hash blocks of 512 bytes, and a second of 4096."""
    files = (file(b"%04d" % number, noise(number * 131 % 9000), mtime=7) for number in range(200))
    return tar_of(*files) + bytes(3000)


TARS = (empty, one_file, everything, replaced, three_levels)


def digests(name: str, tar: bytes) -> dict[str, str]:
    """The digest that the layer's manifest would name, and the diff ID."""
    compressed = hashlib.sha256(b"compressed " + name.encode())
    return {
        "digest": f"sha256:{compressed.hexdigest()}",
        "diff_id": f"sha256:{hashlib.sha256(tar).hexdigest()}",
    }


def vector(tar: bytes, recipe: Recipe, known: dict[str, str]) -> dict[str, object]:
    """What a node makes of a tar."""
    identity = recipe.image_uuid(**known)
    image = image_of(tar, recipe, identity)
    assert image is not None
    return {
        "recipe": recipe.name,
        "mkfs_version": recipe.mkfs_version,
        "uuid": str(identity),
        "image_size": len(image),
        "image_sha256": hashlib.sha256(image).hexdigest(),
        "root_hash": tree_of(image, recipe.params)[0].hex(),
    }


def main() -> None:
    """Write layers.json."""
    layers = []
    for make in TARS:
        tar, name = make(), make.__name__
        known = digests(name, tar)
        recipes = [
            Recipe.parse(f"{recipe.name}@{version}") for version in VERSIONS for recipe in RECIPES
        ]
        vectors = [vector(tar, recipe, known) for recipe in recipes]
        layers.append({"tar": name, "size": len(tar), **known, "images": vectors})
    FILE.write_text(json.dumps(layers, indent=1) + "\n")


if __name__ == "__main__":
    main()
