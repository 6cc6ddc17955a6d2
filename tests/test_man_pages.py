"""Manual pages: one for every command, with all that its help has."""

import sys
from pathlib import Path

from cli.test_command_line import COMMANDS, shown
from helpers import run

MAKE = Path(__file__).parents[1] / "docs/man_pages.py"


def test_every_command_has_a_page_with_its_options_and_examples(tmp_path):
    done = run(sys.executable, MAKE, tmp_path)
    assert done.exit_code == 0, done.err
    for name, parser in COMMANDS.items():
        text = (tmp_path / f"dmsign-fast-{name.replace(' ', '-')}.1").read_text()
        title = f"dmsign-fast-{name.replace(' ', '-')}"
        assert text.startswith(f".TH {title.upper()} ".replace("-", "\\-"))
        for option in shown(parser) - {"--help", "-h"}:
            assert option.replace("-", "\\-") in text
        assert ".SH EXAMPLES\n.nf\n  dmsign\\-fast" in text.replace("  sudo ", "  ")
