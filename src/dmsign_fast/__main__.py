"""``python -m dmsign_fast``: the command line."""

from dmsign_fast.cli import program

__all__: list[str] = []

if __name__ == "__main__":
    program()
