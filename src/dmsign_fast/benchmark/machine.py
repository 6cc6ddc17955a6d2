"""The machine that is measured."""

from __future__ import annotations

from pathlib import Path

__all__ = ["cpuinfo"]


def cpuinfo() -> dict[str, str]:
    """/proc/cpuinfo of the first processor; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    fields = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}
