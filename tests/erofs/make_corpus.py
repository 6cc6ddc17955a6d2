"""Seeds for csrc/fuzz_layer.c: `make_corpus.py DIRECTORY [COUNT]` writes small archives of every kind."""

import sys
from pathlib import Path

from tar_maker import Maker

target, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200
target.mkdir(parents=True, exist_ok=True)
seed = written = 0
while written < count:
    tar = Maker(seed).make()
    if len(tar) < 20000:
        (target / f"seed-{seed}").write_bytes(bytes([seed & 3, seed % 5, 85]) + tar)
        written += 1
    seed += 1
