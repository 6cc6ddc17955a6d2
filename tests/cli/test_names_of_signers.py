"""What a certificate calls its owner cannot write to the terminal, nor lines of its own."""

import pki
import pytest
from helpers import cli, write

NAME = "Mallory\x1b[2J\r\nVerified:       \t9 data blocks\u202eA\u2028"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return pki.make_leaf(pki.make_root(), NAME).write(tmp_path_factory.mktemp("pki"))


def plain(done):
    assert done.exit_code == 0, done.err
    assert "Mallory" in done.out
    for text in (done.out, done.err):
        assert not set(text) & {"\x1b", "\r", "\u202e", "\u2028"}
    assert "\nVerified:       \t9 " not in done.out
    return done.out


def test_verity_sign_and_verify(files, tmp_path):
    data = write(tmp_path / "data", bytes(8192))
    said = plain(cli("verity", "sign", data, "--key", files.key, "--cert", files.chain))
    assert r"Mallory\x1b[2J\x0d\x0aVerified:       \x099 data blocks\u202eA\u2028" in said
    signed = ("--signature", f"{data}.roothash.p7s", "--trust", files.root)
    root_hash = (tmp_path / "data.roothash").read_text()
    plain(cli("verity", "verify", data, f"{data}.verity", root_hash, *signed))
