"""What a configuration directory holds, for tests that compare before and after."""

from __future__ import annotations

import stat
from pathlib import Path


def tree(directory: Path) -> dict[str, tuple[str, object]]:
    """Return every name below, with its mode and its content or the target of a link."""

    def content(path: Path) -> object:
        if path.is_symlink():
            return path.readlink()
        return path.read_bytes() if path.is_file() else None

    return {
        str(path.relative_to(directory)): (oct(stat.S_IMODE(path.lstat().st_mode)), content(path))
        for path in directory.rglob("*")
    }
