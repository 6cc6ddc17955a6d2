"""SoftHSM 2 for a test, alone and behind faults."""

import shutil

import pytest
from signing.softhsm import LEAF, Token, build_faults, softhsm


@pytest.fixture
def hsm(tmp_path, monkeypatch):
    for name in ("PKCS11_MODULE_PATH", "FAULTS", "FAULTS_KEYED", "FAULTS_MODULE", "FAULTS_LOG"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with softhsm(tmp_path / "softhsm") as hsm:
        yield hsm


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    with softhsm(tmp_path_factory.mktemp("made")) as hsm:
        hsm.token("signing").put(LEAF, b"\1", "key")
    return hsm.directory / "tokens"


@pytest.fixture
def token(hsm, made):
    """A token with one key and its certificate."""
    shutil.copytree(made, hsm.directory / "tokens", dirs_exist_ok=True)
    return Token("signing", hsm.module)


@pytest.fixture(scope="session")
def faults(tmp_path_factory):
    return build_faults(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def faulty(hsm, token, faults):
    return hsm.faulty(token, faults)
