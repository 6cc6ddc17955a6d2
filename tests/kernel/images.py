"""Images that dmsign-fast hashes and signs, each in a directory of its own.

The files have the names of ``verity sign data``: ``data``, ``data.verity`` unless the tree is
behind the data, ``data.roothash``, ``data.roothash.p7s`` unless it is missing, and ``options``,
which are the same for veritysetup and dmsign-fast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pki
from helpers import cli, noise

BLOCK = 4096
BLOCKS = 16


@dataclass(frozen=True)
class Case:
    """One image; the kernel's verdict is to be ``expected``, and ours the same.

    Attributes:
        expected: reads, the name of an error, ``EIO`` and the bad blocks, or empty if unknown.
        sha256: of what is to be read.
        options: for ``verify`` and ``open``.
        stricter: the kernel takes it, and dmsign-fast refuses it on purpose.
        judged: False where there is nothing for dmsign-fast to judge.
    """

    directory: Path
    expected: str
    sha256: str
    options: tuple[str, ...] = ()
    stricter: bool = False
    judged: bool = True

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

    def verify(self, anchors: Path) -> int:
        """Return the exit status of our ``verity verify``."""
        return cli(
            *("verity", "verify", self.data, self.hash_file, *self.options, "--quiet"),
            *("--root-hash-file", self.root_hash, "--signature", self.signature, "--cert", anchors),
        ).exit_code


@dataclass
class Images:
    """Makes cases below ``directory``; ``trusted`` collects what is to be enrolled."""

    directory: Path
    trusted: dict[str, pki.Entity] = field(default_factory=dict)
    _made: int = 0

    def certificates(self) -> dict[str, bytes]:
        """Return the DER certificates for the keyring, by name."""
        return {name: pki.der(one.certificate) for name, one in self.trusted.items()}

    def anchors(self) -> Path:
        """Write the same certificates for ``verity verify --cert``."""
        path = self.directory / "anchors.pem"
        path.write_bytes(pki.pem(*(one.certificate for one in self.trusted.values())))
        return path

    def trust(self, key: str) -> pki.Entity:
        """Return the signer with that kind of key whose own certificate is enrolled."""
        if key not in self.trusted:
            self.trusted[key] = pki.make_leaf(name=f"Trusted {key}", key=key)
        return self.trusted[key]

    def signed(
        self,
        name: str,
        signer: pki.Entity,
        *sign: str,
        tree: tuple[str, ...] = (),
        blocks: int = BLOCKS,
        appended: bool = False,
        expected: str = "reads",
        judged: bool = True,
    ) -> Case:
        """Write an image of its own and have dmsign-fast hash and sign it."""
        self._made += 1
        named = "--data-block-size" in tree
        size = int(tree[tree.index("--data-block-size") + 1]) if named else BLOCK
        contents = noise(blocks * size, self._made)
        directory = self.directory / "cases" / name
        directory.mkdir(parents=True)
        data = directory / "data"
        data.write_bytes(contents)
        files = signer.write(self.directory / "signer")
        # a multiple of every hash block size
        end = -(-len(contents) // BLOCK) * BLOCK
        offset = ("--hash-offset", str(end)) if appended else ()
        done = cli(
            *("verity", "sign", data, *([data] if appended else ()), *tree, *offset, "--quiet"),
            *("--key", files.key, "--cert", files.chain, *sign),
        )
        if done.exit_code:
            message = f"{name}: verity sign: exit status {done.exit_code}: {done.err}"
            raise SystemExit(message)
        # the superblock has all but its own place
        options = (*tree, *offset) if "--no-superblock" in tree else offset
        (directory / "options").write_text(" ".join(options))
        digest = hashlib.sha256(contents).hexdigest() if expected == "reads" else ""
        return Case(directory, expected, digest, options, judged=judged)

    def by_openssl(
        self,
        name: str,
        *arguments: str,
        signer: pki.Entity | None = None,
        slip: Callable[[bytes], bytes] = bytes,
        expected: str = "reads",
        stricter: bool = False,
    ) -> Case:
        case = self.signed(name, self.trust("RSA-2048"), expected=expected)
        message = self.directory / "message"
        message.write_bytes(slip(case.root_hash.read_bytes()))
        files = (signer or self.trust("RSA-2048")).write(self.directory / "signer")
        command, *options = arguments
        pki.openssl(
            *(command, "-sign", "-binary", "-in", str(message), "-outform", "DER"),
            *("-out", str(case.signature), "-signer", str(files.leaf), "-inkey", str(files.key)),
            *options,
            cwd=self.directory,
        )
        return replace(case, stricter=stricter)


def without(case: Case, size: int, bad: Collection[int]) -> Case:
    """Return the case with the blocks that cannot be read, of the image as it now is."""
    data = case.data.read_bytes()
    rest = (data[at : at + size] for at in range(0, len(data), size) if at // size not in bad)
    digest = hashlib.sha256(b"".join(rest)).hexdigest()
    return replace(case, expected=f"EIO {spans(bad)}", sha256=digest)


def spans(numbers: Iterable[int]) -> str:
    """Write ascending numbers as ``1-3,7``."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ",".join("-".join(map(str, span)) for span in found)
