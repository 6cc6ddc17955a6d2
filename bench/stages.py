"""Decompress a layer with the libraries that we use, alone or with the digests of both sides.

usage: python bench/stages.py LAYER [--digest]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

_PIECE = 256 << 10


def _decompressor(path: Path) -> Any:
    if path.suffix == ".gz":
        from isal import igzip_lib

        return igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP)
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdDecompressor()


class _Digest:
    """SHA-256 in a thread of its own, one piece behind."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._hash = hashlib.sha256()
        self._last: Future[None] | None = None

    def update(self, piece: bytes) -> None:
        if self._last:
            self._last.result()
        self._last = self._pool.submit(self._hash.update, piece)

    def hexdigest(self) -> str:
        self._pool.shutdown()
        return self._hash.hexdigest()


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("layer", type=Path)
    parser.add_argument("--digest", action="store_true")
    args = parser.parse_args()
    digests = [_Digest(), _Digest()] if args.digest else []
    size = 0
    decompressor = _decompressor(args.layer)
    with args.layer.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            data = decompressor.decompress(piece)
            size += len(data)
            for digest, what in zip(digests, (piece, data), strict=False):
                digest.update(what)
    if not decompressor.eof:
        message = f"{args.layer}: cut off after {size} bytes, or more than one member"
        raise SystemExit(message)
    print(size, *(digest.hexdigest() for digest in digests))


if __name__ == "__main__":
    _main()
