"""``python -m dmsign_fast``: the command line."""

import sys

from dmsign_fast.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
