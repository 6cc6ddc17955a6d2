"""docs/security.md has every bound of a layer, with its number."""

import re
from pathlib import Path

from dmsign_fast.erofs import bounds

ROOT = Path(__file__).parents[2]
UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def of_c():
    """The rows of the header, whose values are expressions that Python understands too."""
    text = (ROOT / "csrc/tar/bounds.h").read_text()
    rows = re.findall(r"#define (\w+) (\S.*)", text)
    numbers = ((name, re.sub(r"(?<=\d)u\b|UINT64_C", "", value)) for name, value in rows)
    return {name: eval(value, {"__builtins__": {}}) for name, value in numbers}


def of_python():
    return {name: getattr(bounds, name) for name in bounds.__all__ if name.isupper()}


def of_the_page():
    text = (ROOT / "docs/security.md").read_text()
    rows = re.findall(r"\| `(\w+)` \| ([0-9,]+) ?(\w*) \|", text)
    return {name: int(number.replace(",", "")) * UNITS[unit] for name, number, unit in rows}


def test_the_page_has_every_bound():
    said, known = of_the_page(), of_c() | of_python()
    assert len(known) == 17
    less = {"TAR_MAX_SIZE": 1 << 20}  # as the page says
    assert {name: number - less.get(name, 0) for name, number in said.items()} == known
