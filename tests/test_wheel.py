"""What is built and installed: the same bytes wherever it is built, and of pinned versions."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
SHARE = ("man/man1/a.1", "bash-completion/completions/a", "fish/vendor_completions.d/a.fish")


def checkout(directory):
    """What a wheel is made of, without what was built in place."""
    ignore = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__")
    for name in ("src", "csrc"):
        shutil.copytree(HOME / name, directory / name, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(HOME / name, directory)
    for name in SHARE:
        (directory / "share" / name).parent.mkdir(parents=True)
        (directory / "share" / name).write_text(name)
    return directory


def wheel(directory):
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "."]
    subprocess.run(
        [*command, "--no-index", "--quiet", "--wheel-dir", directory / "dist"],
        cwd=checkout(directory),
        env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"},
        check=True,
    )
    (made,) = (directory / "dist").glob("dmsign_fast-*-cp311-abi3-linux_*.whl")
    return made


def test_two_wheels_have_the_same_bytes(tmp_path):
    homes = [tmp_path / "here", tmp_path / "some" / "where" / "else"]
    for home in homes:
        home.mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(wheel, homes)
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as opened:
        names = set(opened.namelist())
    package = {path.relative_to(HOME / "src") for path in HOME.glob("src/dmsign_fast/**/*.py*")}
    wanted = {str(path) for path in package if "__pycache__" not in path.parts}
    wanted |= {"dmsign_fast/py.typed", "dmsign_fast/_dmsign.abi3.so"}
    assert {name for name in names if name.startswith("dmsign_fast/")} == wanted
    installed = {name.partition(".data/data/share/")[2] for name in names}
    assert {name for name in installed if name and not name.endswith("/")} == {*SHARE}


def test_without_a_compiler_the_last_line_says_what_is_needed(tmp_path):
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext"],
        cwd=checkout(tmp_path),
        env=os.environ | {"CC": "no-such-compiler"},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode != 0
    assert "needs a C compiler" in last
    assert "apt-get install gcc libc6-dev python3-dev" in last
    assert "no-such-compiler" in last


@pytest.mark.parametrize("name", ["dev", "release"])
def test_what_is_installed_has_a_hash_and_no_host(name):
    text = (HOME / f".ci/{name}.txt").read_text()
    assert "://" not in text
    packages = re.split(r"\n(?! )", text.strip().replace("\\\n", ""))
    assert len(packages) > 20
    for package in packages:
        assert re.match(r"[\w-]+==[\w.]+ ( *;[^\n]*)?( +--hash=sha256:[0-9a-f]{64})+$", package)


def test_all_that_the_project_names_is_pinned():
    project = tomllib.loads((HOME / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    tests = [*project["project"]["dependencies"], *itertools.chain(*extras.values())]
    for wanted, name in ((tests, "dev"), (project["dependency-groups"]["release"], "release")):
        text = (HOME / f".ci/{name}.txt").read_text()
        names = {re.match(r"[\w.-]+", one)[0].lower().replace(".", "-") for one in wanted}
        for package in names - {"dmsign-fast"}:
            assert f"\n{package}==" in "\n" + text, f"make lock: {package} is not in .ci/{name}.txt"


def test_actions_are_pinned_by_commit():
    used = re.findall(r"uses: (.*)", (HOME / ".github/workflows/ci.yml").read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action)
