"""Renews corpus.tar.gz, the seeds of csrc/fuzz_layer.c: `make_corpus.py [DIRECTORY …]`.

It keeps what reaches most with fewest bytes of the directories (build/corpus by default, which `make sanitize`
fills) and of archives of every kind.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tar_maker import Maker

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = Path(__file__).with_name("corpus.tar.gz")


def write_seeds(target: Path, count: int = 300) -> None:
    """Small archives behind the three bytes that choose options and piece size."""
    seed = written = 0
    while written < count:
        tar = Maker(seed).make()
        if len(tar) < 20000:
            (target / f"seed-{seed}").write_bytes(bytes([seed & 7, seed % 5, 85]) + tar)
            written += 1
        seed += 1


def pack(directory: Path) -> None:
    """Always the same bytes for the same files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(directory.iterdir()):
            info = tarfile.TarInfo(path.name)
            info.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(info, file)
    ARCHIVE.write_bytes(gzip.compress(out.getvalue(), mtime=0))


def main(directories: list[str]) -> None:
    with tempfile.TemporaryDirectory() as seeds, tempfile.TemporaryDirectory() as merged:
        write_seeds(Path(seeds))
        sources = [*(directories or [str(ROOT / "build/corpus")]), seeds]
        subprocess.run([ROOT / "build/fuzz_layer", "-merge=1", merged, *sources], check=True)
        pack(Path(merged))
        files = list(Path(merged).iterdir())
        print(f"{len(files)} files, {sum(f.stat().st_size for f in files)} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
