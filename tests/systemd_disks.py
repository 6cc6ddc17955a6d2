"""Disk images by systemd-repart: data, its hash tree, and a signature."""

import struct
import uuid
from pathlib import Path

from helpers import cli, write
from systemd_programs import systemd

SECTOR = 512
BLOCK = 4096
# Discoverable Partitions Specification, x86-64: data, hash tree, signature
TYPES = {
    "root": (
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
        "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
        "41092b05-9fc8-4523-994f-2def0408b176",
    ),
    "usr": (
        "8484680c-9521-48c6-9c11-b0720656f69e",
        "77ff5f63-e7b6-4633-acf4-1565b864c0e6",
        "e7bb33fb-06cf-4e81-8273-e543b413e2e2",
    ),
}


class Disk:
    """A disk image by systemd-repart, of data, its hash tree, and place for a signature."""

    def __init__(
        self,
        directory: Path,
        partition: str,
        data: bytes,
        *options: str,
        programs=systemd,
        signature: bool = True,
    ) -> None:
        directory.mkdir()
        image = write(directory / "image", data)
        definitions = {
            "10-data": f"Type={partition}\nCopyBlocks={image}\nVerity=data",
            "11-tree": f"Type={partition}-verity\nVerity=hash",
        }
        if signature:
            definitions["12-signature"] = f"Type={partition}-verity-sig\nVerity=signature"
        for name, text in definitions.items():
            write(directory / f"{name}.conf", f"[Partition]\n{text}\nVerityMatchKey=x\n".encode())
        self.path, self._kinds = directory / "disk.raw", TYPES[partition]
        self._words = ("--offline=yes", "--dry-run=no", f"--definitions={directory}")
        self._programs = programs
        self.repart("--empty=create", "--size=auto", *options)

    def repart(self, *options: str) -> None:
        """Let systemd-repart make what is missing."""
        done = self._programs("systemd-repart", *self._words, *options, self.path)
        assert done.exit_code == 0, done.err

    @property
    def data(self) -> bytes:
        return self._content(self._kinds[0])

    @property
    def tree(self) -> bytes:
        return self._content(self._kinds[1])

    @property
    def signature(self) -> bytes:
        return self._content(self._kinds[2]).rstrip(b"\0")

    def _content(self, kind: str) -> bytes:
        # the entries of the partition table: type, UUID, first and last sector
        raw = self.path.read_bytes()
        entries = [raw[at : at + 128] for at in range(2 * SECTOR, 34 * SECTOR, 128)]
        (entry,) = (one for one in entries if uuid.UUID(bytes_le=one[:16]) == uuid.UUID(kind))
        first, last = struct.unpack_from("<QQ", entry, 32)
        return raw[first * SECTOR : (last + 1) * SECTOR]

    @property
    def salt(self) -> str:
        """Of the tree, by its superblock (cryptsetup, struct verity_sb)."""
        tree = self.tree
        (size,) = struct.unpack_from("<H", tree, 80)
        return tree[88 : 88 + size].hex()


def sign_data(disk: Disk, partition: str, files, place: Path) -> Path:
    """Let ``verity sign`` sign the data of a disk; return the names of its files without suffix."""
    place.mkdir()
    data = write(place / "disk.raw", disk.data)
    done = cli(
        *("verity", "sign", data, "--key", files.key, "--cert", files.chain, "--quiet"),
        *("--salt", disk.salt, "--partition", partition, "--verity-sig-json"),
    )
    assert done.exit_code == 0, done.err
    return place / "disk"
