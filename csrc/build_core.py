"""Builds ``dmsign_fast._dmsign``; the declarations come from dmsign.h itself."""

from pathlib import Path

from cffi import FFI

CSRC = Path("csrc")
TESTS = ("test_", "fuzz_")
SOURCES = [path for path in sorted(CSRC.glob("*.c")) if not path.name.startswith(TESTS)]

_header = (CSRC / "dmsign.h").read_text()

ffi = FFI()
ffi.cdef(_header.partition("/* cffi: begin */")[2].partition("/* cffi: end */")[0])
ffi.set_source(
    "dmsign_fast._dmsign",
    '#include "dmsign.h"',
    sources=[str(path) for path in SOURCES],
    depends=[str(path) for path in sorted(CSRC.glob("*.h"))],
    include_dirs=[str(CSRC)],
    extra_compile_args=["-std=c11", "-O2", "-pthread"],
    extra_link_args=["-pthread"],
)
