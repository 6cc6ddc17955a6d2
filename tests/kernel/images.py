"""Images that dmsign-fast hashes and signs, each in a directory of its own.

The files have the names of ``verity sign data``: ``data``, ``data.verity`` unless the tree is
behind the data, ``data.roothash``, ``data.roothash.p7s`` unless it is missing, and ``options``,
which are the same for all commands of dmsign-fast.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from helpers import cli, noise

from .identities import Identities

BLOCK = 4096
BLOCKS = 16

Change = Callable[["Image", Identities], object]


@dataclass(frozen=True)
class Image:
    """Where the files of an image are."""

    directory: Path

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def hash_file(self) -> Path:
        separate = self.directory / "data.verity"
        return separate if separate.exists() else self.data

    @property
    def root_hash(self) -> Path:
        return self.directory / "data.roothash"

    @property
    def signature(self) -> Path:
        return self.directory / "data.roothash.p7s"

    @property
    def options(self) -> Path:
        return self.directory / "options"

    def verify(self, anchors: Path) -> int:
        """Return the exit status of our ``verity verify``."""
        options = self.options.read_text().split()
        return cli(
            *("verity", "verify", self.data, self.hash_file, *options, "--quiet"),
            *("--root-hash-file", self.root_hash, "--signature", self.signature, "--cert", anchors),
        ).exit_code

    def write_command(self) -> None:
        """Write the command line of ``verity open``, for here, by which the guest opens it."""
        place = () if self.hash_file != self.data else ("data",)
        unsigned = () if self.signature.exists() else ("--unsigned",)
        options = self.options.read_text().split()
        with contextlib.chdir(self.directory):
            done = cli("verity", "open", "data", "case", *place, *unsigned, *options, "--dry-run")
        assert done.exit_code == 0, f"{self.name}: {done}"
        (self.directory / "command").write_text(done.out)


@dataclass(frozen=True)
class Case:
    """An image that is yet to be made, and the kernel's verdict, which is to be ours too.

    Attributes:
        name: of the case and its directory.
        expected: reads, the name of an error, ``EIO`` and the bad blocks, or empty if unknown.
        signer: of Identities.
        sign: options of ``verity sign`` for the signature.
        tree: options of it for the hash tree.
        blocks: of data.
        appended: the hash area is behind the data.
        change: what happens to the image once it is signed.
        stricter: the kernel takes it, and dmsign-fast refuses it on purpose.
        judged: False where there is nothing for dmsign-fast to judge.
    """

    name: str
    expected: str = "reads"
    signer: str = "EC-256"
    sign: tuple[str, ...] = ()
    tree: tuple[str, ...] = ()
    blocks: int = BLOCKS
    appended: bool = False
    change: Change = lambda *_: None
    stricter: bool = False
    judged: bool = True

    @property
    def block_size(self) -> int:
        named = "--data-block-size" in self.tree
        return int(self.tree[self.tree.index("--data-block-size") + 1]) if named else BLOCK

    @property
    def content(self) -> bytes:
        """The data, before anything happens to it."""
        seed = int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4])
        return noise(self.blocks * self.block_size, seed)

    def make(self, cases: Path, identities: Identities) -> Image:
        """Write an image, have dmsign-fast hash and sign it, and change what is to be changed."""
        image = Image(cases / self.name)
        image.directory.mkdir(parents=True)
        size = self.blocks * self.block_size
        image.data.write_bytes(self.content)
        files = identities.files[self.signer]
        # a multiple of every hash block size
        offset = ("--hash-offset", str(-(-size // BLOCK) * BLOCK)) if self.appended else ()
        behind = (image.data,) if self.appended else ()
        done = cli(
            *("verity", "sign", image.data, *behind, *self.tree, *offset, "--quiet"),
            *("--key", files.key, "--cert", files.chain, *self.sign),
        )
        assert done.exit_code == 0, f"{self.name}: {done}"
        # the superblock has all but its own place
        options = (*self.tree, *offset) if "--no-superblock" in self.tree else offset
        image.options.write_text(" ".join(options))
        self.change(image, identities)
        return image

    def status(self, bad: Collection[int]) -> str:
        """Return what device-mapper says of the device then: verified or corrupted."""
        return "C" if bad else "V"

    def readable(self, image: Image, bad: Collection[int] = ()) -> str:
        """Return the SHA-256 of what is to be read: all data but these blocks."""
        return readable(image.data, self.blocks * self.block_size, self.block_size, bad)


def readable(data: Path, size: int, block_size: int, bad: Collection[int] = ()) -> str:
    """Return the SHA-256 of the data, ``size`` bytes, without these blocks."""
    blocks = data.read_bytes()[:size]
    digest = hashlib.sha256()
    for number, at in enumerate(range(0, size, block_size)):
        if number not in bad:
            digest.update(blocks[at : at + block_size])
    return digest.hexdigest()


def bad_blocks(verdict: str) -> frozenset[int]:
    """Return the numbers in ``EIO 1-3,7``; none in other verdicts."""
    if not verdict.startswith("EIO "):
        return frozenset()
    spans = (span.split("-") for span in verdict.removeprefix("EIO ").split(","))
    return frozenset(one for span in spans for one in range(int(span[0]), int(span[-1]) + 1))


def eio(numbers: Iterable[int]) -> str:
    """Write ascending numbers of blocks as ``EIO 1-3,7``."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return "EIO " + ",".join("-".join(map(str, span)) for span in found)
