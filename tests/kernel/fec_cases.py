"""Destroyed blocks of devices with error correction, which Linux reads all the same."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from helpers import cli, noise

from .identities import Identities
from .images import BLOCK, BLOCKS, Case, Change, Image, eio

_TREE = ("--salt", noise(32).hex(), "--uuid", "3f3d53fd-0038-4c72-a5f0-0d4802e76b45")


@dataclass(frozen=True)
class FecCase(Case):
    """A case whose device reads as it was before the damage.

    Linux says corrupted of a device with a hash block that it mended, and verified of one with
    data blocks that it mended.
    """

    hash_block: bool = False

    def status(self, bad: Collection[int]) -> str:
        """Return what device-mapper says of the device then."""
        return "C" if self.hash_block else super().status(bad)

    def readable(self, image: Image, bad: Collection[int] = ()) -> str:
        """Return the SHA-256 of what is to be read: the original but these blocks."""
        digest = hashlib.sha256()
        for number in set(range(self.blocks)) - set(bad):
            digest.update(self.content[number * BLOCK : number * BLOCK + BLOCK])
        return digest.hexdigest()


def _destroy(image: Image, offset: int) -> None:
    path = image.data if offset >= 0 else image.hash_file
    with path.open("r+b") as file:
        file.seek(abs(offset))
        file.write(noise(BLOCK, offset))


def _damage(
    roots: int,
    data: Collection[int] = (),
    hashes: Collection[int] = (),
    *,
    shared: bool = False,
    other: bool = False,
) -> Change:
    """Write the parity, then destroy blocks of the data, and of the hash area."""

    def change(image: Image, _: Identities) -> None:
        # the same tree once more, now with parity
        options = ["--fec-device", "fec", "--fec-roots", str(roots)]
        if shared:
            size = image.hash_file.stat().st_size
            options = ["--fec-device", "data.verity", "--fec-roots", str(roots)]
            options += ["--fec-offset", str(size + BLOCK)]
        image.options.write_text(" ".join(options))
        options[1] = str(image.directory / options[1])
        done = cli("verity", "format", image.data, image.hash_file, *_TREE, *options)
        assert done.exit_code == 0, done
        assert done.root_hash.hex() == image.root_hash.read_text()
        if other:
            (image.directory / "fec").write_bytes(noise((image.directory / "fec").stat().st_size))
        for block in data:
            _destroy(image, block * BLOCK)
        for block in hashes:
            _destroy(image, -(block + 1) * BLOCK)

    return change


def fec_cases() -> Iterator[Case]:
    """All of them; 16 blocks of data and their hash block are one round."""
    known = (
        ("fec-block", "reads", BLOCKS, _damage(2, [5])),
        ("fec-as-many-as-roots", "reads", BLOCKS, _damage(2, [5, 11])),
        ("fec-one-more-than-roots", eio([5, 7, 11]), BLOCKS, _damage(2, [5, 7, 11])),
        ("fec-24-roots", "reads", 300, _damage(24, range(100, 148))),
        ("fec-hash-block", "reads", BLOCKS, _damage(2, [], [0])),
        ("fec-in-hash-file", "reads", BLOCKS, _damage(3, [0, 1, 2], shared=True)),
        ("fec-of-other-data", eio([5]), BLOCKS, _damage(2, [5], other=True)),
    )
    for name, expected, blocks, change in known:
        # what dmsign-fast says of them: tests/verity/test_fec_repair.py
        yield FecCase(
            name,
            expected,
            tree=_TREE,
            blocks=blocks,
            change=change,
            judged=False,
            hash_block=name == "fec-hash-block",
        )
