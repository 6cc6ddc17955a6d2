"""The parts of the work on layers, alone, with the libraries that we use.

usage: python bench/stages.py unpack|unpack-and-digest|digest|convert FILE...

``unpack`` decompresses layers, ``unpack-and-digest`` makes the SHA-256 of both sides beside that;
``digest`` makes it of any files; ``convert`` makes root hashes of tars.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 256 << 10


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            yield piece


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


def _unpack(path: Path, *digests: _Digest) -> str:
    size = 0
    decompressor = _decompressor(path)
    for piece in _pieces(path):
        data = decompressor.decompress(piece)
        size += len(data)
        for digest, what in zip(digests, (piece, data), strict=False):
            digest.update(what)
    if not decompressor.eof:
        message = f"{path}: cut off after {size} bytes, or more than one member"
        raise SystemExit(message)
    return " ".join([str(size), *(digest.hexdigest() for digest in digests)])


def _unpack_and_digest(path: Path) -> str:
    return _unpack(path, _Digest(), _Digest())


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(path):
        digest.update(piece)
    return digest.hexdigest()


def _convert(path: Path) -> str:
    from dmsign_fast.erofs.image_hasher import no_hash_area
    from dmsign_fast.erofs.layer import LayerHasher
    from dmsign_fast.erofs.recipe import Recipe

    hasher = LayerHasher(Recipe.parse("containerd"), threads=1)
    for piece in _pieces(path):
        hasher.update(piece)
    digest = f"sha256:{hashlib.sha256().hexdigest()}"  # for the UUID; any will do
    return hasher.finalize(digest=digest, hash_area=no_hash_area).root_hash.hex()


_STAGES = {
    "unpack": _unpack,
    "unpack-and-digest": _unpack_and_digest,
    "digest": _digest,
    "convert": _convert,
}


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=_STAGES)
    parser.add_argument("file", type=Path, nargs="+")
    args = parser.parse_args()
    for path in args.file:
        print(_STAGES[args.stage](path))


if __name__ == "__main__":
    _main()
