"""Builds ``dmsign_fast._dmsign`` from the folders beside it, whose tests stand outside them.

The declarations come from dmsign.h itself.
"""

import re
import zlib
from pathlib import Path

from cffi import FFI

CSRC = Path("csrc")

_header = (CSRC / "dmsign.h").read_text()

_declarations = _header.partition("/* cffi: begin */")[2].partition("/* cffi: end */")[0]
# By this src/dmsign_fast/_core.py knows a core that was built for other Python files.
_number = zlib.crc32(
    " ".join(re.sub(r"/\*.*?\*/", "", _declarations, flags=re.DOTALL).split()).encode()
)

ffi = FFI()
ffi.cdef(f"#define DMSIGN_DECLARATIONS {_number}\n{_declarations}")
ffi.set_source(
    "dmsign_fast._dmsign",
    f'#include "dmsign.h"\n#define DMSIGN_DECLARATIONS {_number}u',
    sources=[str(path) for path in sorted(CSRC.glob("*/*.c"))],
    depends=[str(path) for path in sorted(CSRC.glob("**/*.h"))],
    include_dirs=[str(CSRC)],
    extra_compile_args=[
        *("-std=c11", "-O2", "-pthread", "-fvisibility=hidden"),
        f"-ffile-prefix-map={Path.cwd()}=.",  # the same bytes wherever it is built
    ],
    extra_link_args=["-pthread"],
)
