"""Builds ``dmsign_fast._dmsign`` from the folders beside it, whose tests stand outside them.

The declarations come from dmsign.h itself.
"""

from pathlib import Path

from cffi import FFI

CSRC = Path("csrc")

_header = (CSRC / "dmsign.h").read_text()

ffi = FFI()
ffi.cdef(_header.partition("/* cffi: begin */")[2].partition("/* cffi: end */")[0])
ffi.set_source(
    "dmsign_fast._dmsign",
    '#include "dmsign.h"',
    sources=[str(path) for path in sorted(CSRC.glob("*/*.c"))],
    depends=[str(path) for path in sorted(CSRC.glob("**/*.h"))],
    include_dirs=[str(CSRC)],
    extra_compile_args=["-std=c11", "-O2", "-pthread"],
    extra_link_args=["-pthread"],
)
