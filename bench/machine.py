"""The machine and the programs on it, by name."""

from __future__ import annotations

import os
import platform
import re
import shutil
import ssl
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inputs import tool

from dmsign_fast.benchmark.machine import cpuinfo

_FEATURES = ("avx2", "avx512f", "sha_ni", "sha2")


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "missing"
    return (done.stdout or done.stderr).partition("\n")[0].strip() or "unknown"


def tsc_hertz() -> float | None:
    """The rate of the time stamp counter.

    On x86 with a constant counter, Linux takes loops_per_jiffy from it, so BogoMIPS is twice its
    MHz. "cpu MHz" is no substitute: outside of virtual machines it follows the core's clock.
    """
    fields = cpuinfo()
    if "constant_tsc" not in fields.get("flags", "").split() or "bogomips" not in fields:
        return None
    return float(fields["bogomips"]) / 2 * 1e6


def core_hertz() -> float | None:
    """The clock of the core, by clock.c; None without a compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not compiler:
        return None
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory, "clock")
        subprocess.run(
            [compiler, "-O2", Path(__file__).with_name("clock.c"), "-o", program], check=True
        )
        return float(subprocess.run([program], capture_output=True, check=True).stdout)


def _caches() -> str:
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (
            (index / name).read_text().strip() for name in ("level", "type", "size")
        )
        found.append(f"L{level}{kind[0].lower() if level == '1' else ''} {size}")
    return ", ".join(found)


def describe() -> dict[str, Any]:
    """For the head of the report."""
    fields = cpuinfo()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    model = fields.get("model name", platform.machine())
    if "cpu family" in fields:
        model += f" (family {fields['cpu family']}, model {fields['model']})"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": model,
        "features": [name for name in _FEATURES if name in flags],
        "cores": len(os.sched_getaffinity(0)),
        "virtual": "hypervisor" in flags,
        "tsc_hertz": tsc_hertz(),
        "caches": _caches(),
        "memory_gib": round(memory / 2**30, 1),
        "load": os.getloadavg()[0],
        "kernel": platform.release(),
        "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "python": platform.python_version(),
        "cryptsetup": _first_line(tool("veritysetup", "cryptsetup-bin"), "--version"),
        "openssl": _first_line(tool("openssl", "openssl"), "version"),
        "openssl_of_hashlib": ssl.OPENSSL_VERSION,
        "compiler": _compiler(),
    }


def _compiler() -> str:
    """What compiled the C core, as it left its name in the module."""
    from dmsign_fast import _dmsign

    binary = Path(_dmsign.__file__ or "").read_bytes()
    names = re.findall(rb"(?:GCC: \([^)\0]*\) [\d.]+|clang version [\d.]+[^\0]{0,40})", binary)
    return ", ".join(sorted({name.decode() for name in names})) or "unknown"
