"""Builds ``dmsign_fast._dmsign``; the declarations come from dmsign.h itself."""

from pathlib import Path

from cffi import FFI

CSRC = Path("csrc")
SOURCES = ["sha256.c", "threads.c", "verity_file.c", "verity_tree.c"]
SOURCES += [f"sha256_{isa}.c" for isa in ("armv8", "avx2", "avx512", "portable", "shani")]

_header = (CSRC / "dmsign.h").read_text()

ffi = FFI()
ffi.cdef(_header.partition("/* cffi: begin */")[2].partition("/* cffi: end */")[0])
ffi.set_source(
    "dmsign_fast._dmsign",
    '#include "dmsign.h"',
    sources=[str(CSRC / name) for name in SOURCES],
    depends=[str(path) for path in sorted(CSRC.glob("*.h"))],
    include_dirs=[str(CSRC)],
    extra_compile_args=["-std=c11", "-O2", "-pthread"],
    extra_link_args=["-pthread"],
)
