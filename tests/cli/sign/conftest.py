"""Homes for images, a key, and a configuration of notation of its own."""

import pytest
from notation import Notation
from pipeline import conftest as pipeline
from pki import make_intermediate, make_leaf, make_root

make_home = pipeline.make_home


@pytest.fixture(scope="module")
def leaf():
    return make_leaf(make_intermediate(make_root()))


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    """An empty configuration of notation, and no login."""
    monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "home/notation"))
    for name in ("NOTATION_USERNAME", "NOTATION_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    return Notation(tmp_path / "home")


@pytest.fixture
def home(make_home):
    return make_home("layout")


@pytest.fixture
def key(leaf, tmp_path):
    files = leaf.write(tmp_path / "pki")
    return ("--key", files.key, "--cert", files.chain)
