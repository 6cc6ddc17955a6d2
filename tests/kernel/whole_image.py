"""An image of five layers, signed by ``fleet sign`` and mounted by the lines of ``mount``."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers import cli, noise, program

from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.manifest import make_manifest

from .expected_files import listing
from .identities import Identities

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_GREETING = "hello from a signed image\n"
_CACHE = "/images"
MOUNT_POINT = "/stack"
SAYS = f"{_GREETING.strip()}, by layer 5"


@dataclass(frozen=True)
class Stack:
    """What the guest said.

    Attributes:
        failed: the words of a line that failed; empty if none did.
        files: lines about what is in the file system; see expected_files.py.
        says: what the image's own program printed.
        writes: what came of an attempt to write.
    """

    failed: str = ""
    files: list[str] = field(default_factory=list)
    says: str = ""
    writes: str = ""


def _layers() -> list[dict[str, Any]]:
    """Names and contents: None for a directory, a text for a link, bytes for a file."""
    busybox = Path(program("busybox")).read_bytes()
    root: dict[str, Any] = {"./": None}
    usual = {**root, "bin/": None, "etc/": None}
    return [
        {**usual, "bin/busybox": busybox, "etc/motd": b"old"},
        {**usual, "bin/sh": "busybox", "etc/motd": _GREETING.encode(), "gone": b"1", "full/": None}
        | {f"full/{number}": noise(number, number + 1) for number in (1, 4095, 4096, 70_000)},
        {**root, f"{_WHITEOUT}gone": b"", "full/": None, f"full/{_OPAQUE}": b"", "full/new": b"n"},
        {**root, "many/": None} | {f"many/{number}": b"%d" % number for number in range(50)},
        {
            **usual,
            "bin/hello": b'#!/bin/sh\nread text </etc/motd\necho "$text, by layer 5"\n',
            "many/": None,
            f"many/{_WHITEOUT}7": b"",
        },
    ]


def _tar(entries: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number, (name, content) in enumerate(entries.items()):
            member = tarfile.TarInfo(name)
            member.mode, member.mtime = 0o755, 1_700_000_000 + number
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, content, 0o777
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content if isinstance(content, bytes) else b""))
    return buffer.getvalue()


def expected_stack() -> list[str]:
    """What is to be found when all layers are stacked, by their tars alone."""
    found: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    for entries in _layers():
        with tarfile.open(fileobj=io.BytesIO(_tar(entries))) as archive:
            read = [
                (one, (one.isreg() and archive.extractfile(one).read()) or b"") for one in archive
            ]
        for member, _ in read:
            parent, _, name = f"/{member.name}".rpartition("/")
            inside = f"{parent}/".lstrip("/")
            gone = inside if name == _OPAQUE else f"{inside}{name.removeprefix(_WHITEOUT)}"
            if name.startswith(_WHITEOUT):
                found = {
                    path: entry
                    for path, entry in found.items()
                    if path != gone and not path.startswith(f"{gone.rstrip('/')}/")
                }
        for member, data in read:
            if not member.name.rpartition("/")[2].startswith(_WHITEOUT):
                found[member.name] = member, data
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member, data in found.values():
            archive.addfile(member, io.BytesIO(data))
    return listing(buffer.getvalue())


def make_stack(work: Path, tree: Path, identities: Identities) -> None:
    """Sign the image, and put its exported files and the lines that mount it below the tree."""
    store = Layout.create(work / "whole")
    tars = [_tar(entries) for entries in _layers()]
    blobs = [gzip.compress(tar, mtime=0) for tar in tars]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Digest.of(tar) for tar in tars]},
    }
    raw = json.dumps(config).encode()
    described = Descriptor.of(raw, "application/vnd.oci.image.config.v1+json")
    layers = [Descriptor.of(one, "application/vnd.oci.image.layer.v1.tar+gzip") for one in blobs]
    for descriptor, content in [(described, raw), *zip(layers, blobs, strict=True)]:
        store.push(descriptor, content)
    manifest = make_manifest(config=described, layers=layers)
    store.push(manifest.descriptor, manifest.raw)
    store.tag(manifest, "v1")

    def ours(*words: object) -> str:
        done = cli(*words)
        assert done.exit_code == 0, done
        return done.out

    files = identities.files["RSA-3072"]
    image = ("--oci-layout", f"{store.path}:v1")
    trust = ("--trust", work / "anchors.pem")
    key = ("--key", files.key, "--cert", files.chain)
    ours("fleet", "sign", *image, *key, "--state", work / "run.state", "--quiet")
    lines = ("mount", *image, MOUNT_POINT, *trust, "--cache", _CACHE, "--dry-run")
    kept = Path(json.loads(ours(*lines, "--output", "json"))["cache"])
    (tree / "images").mkdir()
    ours("export", *image, tree / kept.relative_to("/"), *trust)
    (tree / "stack.sh").write_text(ours(*lines))
    shutil.rmtree(store.path)


def read_stack(console: str) -> Stack:
    """What the guest's lines ``stack`` say."""
    stack: dict[str, Any] = {"files": []}
    for line in console.splitlines():
        match line.split("\t"):
            case ["stack", "file", *about]:
                stack["files"].append(" ".join(about))
            case ["stack", name, text]:
                stack[name] = text
    return Stack(**stack)
