"""Encrypted keys: passphrases come from files, the environment and prompts, and stay secret."""

import os

import pytest
from helpers import cli, dmsign, noise, write
from pki import make_leaf, make_root
from terminal import at_a_terminal

SECRET = "Pass phrase 42 é"
SUFFIXES = {".verity", ".roothash", ".roothash.p7s"}


@pytest.fixture(scope="module")
def leaf():
    return make_leaf(make_root())


@pytest.fixture
def sign(leaf, tmp_path):
    """The arguments of a command that signs with an encrypted key; the data lies alone."""
    files = leaf.write(tmp_path / "pki", SECRET.encode())
    (tmp_path / "images").mkdir()
    data = write(tmp_path / "images" / "data", noise(8192))
    return ("verity", "sign", data, "--key", files.key, "--cert", files.chain)


def made(sign):
    return {path.name.removeprefix("data") for path in sign[2].parent.iterdir()} - {""}


def assert_secret(done):
    for secret in (SECRET, "Pass phrase", SECRET.encode().hex()):
        assert secret not in done.out
        assert secret not in done.err


@pytest.mark.parametrize("text", [SECRET, SECRET + "\n", SECRET + "\nsecond line\n"])
def test_the_first_line_of_a_file(text, sign, tmp_path):
    file = write(tmp_path / "secret", text.encode())
    for more in ((), ("--output", "json"), ("--debug",)):
        done = cli(*sign, "--passphrase-file", file, *more)
        assert done.exit_code == 0, done.err
        assert made(sign) == SUFFIXES
        assert_secret(done)


def test_an_environment_variable(sign):
    done = dmsign(*sign, "--passphrase-env", "SECRET", environment={"SECRET": SECRET})
    assert done.exit_code == 0, done.err
    assert made(sign) == SUFFIXES
    assert_secret(done)


def test_a_prompt_that_does_not_echo(sign):
    exit_code, shown = at_a_terminal(sign, "Passphrase of", SECRET.encode() + b"\n")
    assert exit_code == 0, shown
    assert made(sign) == SUFFIXES
    assert f"Passphrase of {sign[4]}: " in shown
    assert "Pass phrase" not in shown


@pytest.mark.parametrize(
    ("typed", "status"),
    [(b"wrong\n", 5), (b"\n", 5), (b"\x04", 5), (b"\x03", 130)],
    ids=["wrong", "empty", "end of input", "control C"],
)
def test_a_prompt_that_gets_no_passphrase(typed, status, sign):
    exit_code, shown = at_a_terminal(sign, "Passphrase of", typed)
    assert exit_code == status, shown
    assert "Traceback" not in shown
    assert not made(sign)


def test_without_a_terminal_the_message_says_how_to_give_it(sign):
    done = dmsign(*sign)
    assert done.exit_code == 5
    assert "--passphrase-file" in done.err
    assert "--passphrase-env" in done.err
    assert not made(sign)


@pytest.mark.parametrize("text", ["wrong", "", "\n", SECRET + " ", " " + SECRET])
@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_a_wrong_passphrase_signs_nothing_and_is_not_shown(text, debug, sign, tmp_path):
    file = write(tmp_path / "secret", text.encode())
    done = cli(*sign, "--passphrase-file", file, *debug)
    assert done.exit_code == 5
    assert "wrong passphrase" in done.err
    assert not made(sign)
    assert_secret(done)
    assert text.strip() != "wrong" or "passphrase 'wrong'" not in done.err


def test_a_passphrase_of_bytes_that_are_no_text(leaf, tmp_path):
    secret = b"\xff\xfe secret"
    files = leaf.write(tmp_path, secret)
    data = write(tmp_path / "data", noise(8192))
    arguments = ("verity", "sign", data, "--key", files.key, "--cert", files.chain)
    file = write(tmp_path / "secret", secret)
    assert cli(*arguments, "--passphrase-file", file).exit_code == 0
    variable = dmsign(*arguments, "--passphrase-env", "S", environment={"S": os.fsdecode(secret)})
    assert variable.exit_code == 0, variable.err


def test_a_missing_file_or_variable_is_said(sign, tmp_path):
    done = cli(*sign, "--passphrase-file", tmp_path / "missing")
    assert (done.exit_code, "missing" in done.err) == (4, True)
    done = cli(*sign, "--passphrase-env", "DMSIGN_NOT_SET")
    assert (done.exit_code, "DMSIGN_NOT_SET is not set" in done.err) == (5, True)
    assert not made(sign)


def test_a_key_without_encryption_needs_none(leaf, tmp_path):
    files = leaf.write(tmp_path)
    data = write(tmp_path / "data", noise(8192))
    arguments = ("verity", "sign", data, "--key", files.key, "--cert", files.chain)
    assert cli(*arguments, "--passphrase-file", tmp_path / "missing").exit_code == 0
