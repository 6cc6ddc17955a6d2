"""Makes a container image of five layers from packages of this machine, as an OCI layout.

usage: demo_image.py LAYOUT:TAG [MEGABYTES]

The first layer is the base system, the others are more packages, the largest first, until the image
has so many megabytes when unpacked, or all there are: with their directories, links and modes,
without what this user cannot read. gzip compresses the layers, and zstd the last.
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import IO

OCI = "application/vnd.oci.image"
LAYERS = 5


def main(reference: str, megabytes: str = "550") -> None:
    """Make the layout, which is there when it is whole."""
    path, _, tag = reference.rpartition(":")
    layout = Path(f"{path}.new")
    shutil.rmtree(layout, ignore_errors=True)
    (layout / "blobs/sha256").mkdir(parents=True)
    layers, diff_ids = [], []
    for files in choose(int(megabytes) * 1_000_000):
        layer, diff_id = add_layer(layout, files, last=len(layers) == LAYERS - 1)
        layers.append(layer)
        diff_ids.append(diff_id)
    config = {
        "architecture": output("dpkg", "--print-architecture").strip(),
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": add_json(layout, f"{OCI}.config.v1+json", config),
        "layers": layers,
    }
    described = add_json(layout, manifest["mediaType"], manifest)
    described["annotations"] = {"org.opencontainers.image.ref.name": tag}
    index = {"schemaVersion": 2, "manifests": [described]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    layout.rename(path)


def choose(size: int) -> list[set[str]]:
    """Return the files of each layer, of so many bytes in all."""
    show = "${db:Status-Status} ${Installed-Size} ${Priority} ${binary:Package}\n"
    base, others = [], []
    for line in output("dpkg-query", "-W", "-f", show).splitlines():
        status, kib, priority, package = line.split(" ")
        if status == "installed" and priority in ("required", "important"):
            base.append(package)
        elif status == "installed" and int(kib or 0) * 1024 < size / LAYERS:
            others.append((int(kib or 0), package))
    layers = [files_of(*base), *(set() for _ in range(LAYERS - 1))]
    sizes = [size_of(layers[0]), *(0 for _ in range(LAYERS - 1))]
    for _, package in sorted(others, reverse=True):
        if sum(sizes) >= size:
            break
        smallest = min(range(1, LAYERS), key=sizes.__getitem__)
        new = files_of(package) - layers[smallest]
        layers[smallest] |= new
        sizes[smallest] += size_of(new)
    return layers


def files_of(*packages: str) -> set[str]:
    """Return what can be read of these packages, by names without links to directories in them."""
    found = set()
    for path in output("dpkg-query", "-L", *packages).splitlines():
        directory, name = os.path.split(path)
        real = str(Path(os.path.realpath(directory), name))
        if name not in ("", ".") and os.path.lexists(real):
            mode = os.lstat(real).st_mode
            if stat.S_ISDIR(mode) or stat.S_ISLNK(mode) or os.access(real, os.R_OK):
                found.add(real)
    return found


def size_of(files: set[str]) -> int:
    """Return how many bytes the regular ones have."""
    found = [os.lstat(file) for file in files]
    return sum(one.st_size for one in found if stat.S_ISREG(one.st_mode))


class Hashed:
    """A file to write on, which hashes what goes by."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256, self.size = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        """Write and hash."""
        self.sha256.update(data)
        self.size += len(data)
        return self.file.write(data)


def add_layer(layout: Path, files: set[str], *, last: bool) -> tuple[dict, str]:
    """Return the descriptor of a layer with these files, and its diff ID."""
    words = ["zstd", "-q", "-3"] if last and shutil.which("zstd") else ["gzip", "-1", "-n"]
    blob = layout / "layer"
    with (
        blob.open("wb") as out,
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=out) as compressor,
    ):
        packed = Hashed(compressor.stdin)
        with tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for file in sorted(files):
                tar.add(file, recursive=False, filter=whole_seconds)
    if compressor.returncode:
        sys.exit(f"{words[0]} ended with status {compressor.returncode}")
    with blob.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    descriptor = place(blob, sha256, f"{OCI}.layer.v1.tar+{words[0]}")
    print(f"{descriptor['digest'][:19]}...  {packed.size:>9} bytes of tar, {words[0]}", flush=True)
    return descriptor, f"sha256:{packed.sha256.hexdigest()}"


def whole_seconds(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Have times as docker and buildkit write them."""
    info.mtime = int(info.mtime)
    return info


def add_json(layout: Path, media_type: str, value: dict) -> dict:
    """Return the descriptor of a blob that is this JSON."""
    data = json.dumps(value).encode()
    (layout / "json").write_bytes(data)
    return place(layout / "json", hashlib.sha256(data).hexdigest(), media_type)


def place(file: Path, sha256: str, media_type: str) -> dict:
    """Make the file a blob; return its descriptor."""
    blob = file.rename(file.parent / "blobs/sha256" / sha256)
    return {"mediaType": media_type, "digest": f"sha256:{sha256}", "size": blob.stat().st_size}


def output(*command: str) -> str:
    """Return what a program says."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
