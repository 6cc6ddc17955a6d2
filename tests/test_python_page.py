"""docs/python.md: every example runs, and every public name has one."""

import doctest
import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import dmsign
from images import layer, push_image
from pki import make_intermediate, make_leaf, make_root
from registry_server import RegistryServer

import dmsign_fast
from dmsign_fast import Layout, ParameterError, Recipe, Registry, VerityParams, hash_layer
from dmsign_fast.pipeline.plan import SignOptions
from dmsign_fast.pipeline.verify_image import VerifyOptions

PAGE = Path(__file__).parent.parent / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
RECIPE = Recipe.parse("containerd")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with the files of the page, a home with a trust policy, and a registry."""
    make_leaf(make_intermediate(make_root())).write(tmp_path)
    push_image(Layout.create(tmp_path / "image"), "1.0")
    (tmp_path / "layer.tar.gz").write_bytes(gzip.compress(layer(50_000)))
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    for name in ("NOTATION_CONFIG", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in home.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    added = dmsign("cert", "add", "--type", "ca", "--store", "page", "root.pem")
    assert added.exit_code == 0, added.err
    words = ("--name", "page", "--trust-store", "ca:page", "--trusted-identity", "*")
    made = dmsign("policy", "init", *words)
    assert made.exit_code == 0, made.err
    with RegistryServer(login="basic") as server:
        server.repository("app")
        with Registry(f"{server.host}/app", credentials=LOGIN) as store:
            push_image(store, "1.0")
        yield server


LOGIN = dmsign_fast.Credentials("alice", "secret")


def test_every_example_runs(place):
    names = {}
    flags = doctest.ELLIPSIS | doctest.REPORT_ONLY_FIRST_FAILURE
    said = []
    for number, block in enumerate(BLOCKS):
        code = block.replace("registry.example", place.host)
        if ">>>" not in code:
            exec(compile(code, f"block {number} of {PAGE}", "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(code, names, f"block {number}", str(PAGE), 0)
        runner = doctest.DocTestRunner(optionflags=flags)
        runner.run(test, out=said.append, clear_globs=False)
        assert test.examples
        assert runner.summarize(verbose=False).failed == 0, "".join(said)
        names = test.globs
    assert len(BLOCKS) > 8
    assert any(seen.method == "PUT" for seen in place.requests)


def test_ten_lines_sign_and_verify():
    code = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(code) <= 10
    assert "sign_image(" in BLOCKS[0]
    assert "verify_image(" in BLOCKS[0]


def test_every_public_name_has_an_example():
    code = "".join(BLOCKS)
    missing = [name for name in dmsign_fast.__all__ if not re.search(rf"\b{name}\b", code)]
    assert missing == []
    assert len(dmsign_fast.__all__) <= 40


def test_the_package_shows_its_names_before_they_are_used():
    script = "import dmsign_fast; print(*dir(dmsign_fast))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert set(dmsign_fast.__all__) <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VerityParams(salt="00"), "the salt is of type str: give bytes"),
        (lambda: VerityParams(salt=5), "the salt is of type int: give bytes"),
        (lambda: VerityParams(data_block_size="4096"), "the data block size is of type str"),
        (lambda: VerityParams(hash_block_size=4096.0), "the hash block size is of type float"),
        (lambda: VerityParams(hash_type="1"), "the hash type is of type str: give 1 or 0"),
        (lambda: VerityParams(b"sha256"), "the hash algorithm is of type bytes: give its name"),
        (lambda: hash_layer(5, RECIPE), "the layer is of type int: give a path"),
        (
            lambda: hash_layer(b"", "containerd"),
            "recipe of hash_layer is of type str: give",
        ),
        (lambda: SignOptions(recipe="containerd"), "recipe of SignOptions is of type str: give a"),
        (lambda: VerifyOptions(recipe=RECIPE, trust="root.pem"), "trust of VerifyOptions is of"),
    ],
)
def test_wrong_types_have_our_message(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_a_salt_that_changes_later_changes_no_parameters():
    salt = bytearray(32)
    params = VerityParams(salt=salt)
    salt[0] = 1
    assert params.salt == bytes(32)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_layer_by_its_path_is_the_layer_as_bytes(tmp_path, kind):
    data = gzip.compress(layer(70_000))
    (tmp_path / "layer").write_bytes(data)
    hashed = hash_layer(kind(tmp_path / "layer"), RECIPE)
    assert hashed.size == len(data)
    assert hashed.image.root_hash == hash_layer([data], RECIPE).image.root_hash
    assert hashed.image.root_hash == hash_layer(data, RECIPE).image.root_hash
