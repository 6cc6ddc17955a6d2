"""A page as a real browser has it."""

import shutil
import subprocess

import pytest

needs_browser = pytest.mark.skipif(
    not shutil.which("chromium"), reason="optional by the README: no chromium"
)


def dom_of(page, fragment, tmp_path):
    """The page after its script has run, and what it said on its console."""
    done = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--disable-background-networking", "--no-first-run", "--disable-sync"),
            *("--virtual-time-budget=2000", "--enable-logging=stderr", "--v=0"),
            *(f"--user-data-dir={tmp_path}/browser", f"file://{page}{fragment}"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
