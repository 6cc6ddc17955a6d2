"""What a newcomer reads where something is missing, and whether that leads on."""

import json

import pytest
from helpers import cli
from images import push_image
from pki import make_leaf, make_root

from dmsign_fast.oci.layout import Layout


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "notation"))
    return tmp_path / "notation"


@pytest.fixture
def image(tmp_path):
    push_image(Layout.create(tmp_path / "layout"), "v1")
    return ("--oci-layout", f"{tmp_path / 'layout'}:v1")


def test_without_a_default_key_two_commands_are_named_and_lead_on(image):
    done = cli("sign", *image)
    assert done.exit_code == 2
    for command in ("cert generate-test --default NAME", "key add", "key default NAME"):
        assert command in done.err
    assert cli("cert", "generate-test", "--default", "tests").exit_code == 0
    done = cli("sign", *image)
    assert done.exit_code == 0, done.err
    done = cli("sign", *image, "--key", "release")
    assert (done.exit_code, "there is tests: give" in done.err) == (2, True), done.err
    assert "dmsign-fast key add" in done.err


def test_a_policy_for_a_store_that_is_not_there_yet_says_how_to_make_it(config, tmp_path):
    init = ("policy", "init", "--name", "a", "--trust-store", "ca:acme", "--trust-store", "tsa:t")
    init += ("--trusted-identity", "*")
    done = cli(*init)
    assert done.exit_code == 0
    for kind, name in (("ca", "acme"), ("tsa", "t")):
        assert f"dmsign-fast cert add --type {kind} --store {name} FILE" in done.err
    root = make_root().write(tmp_path / "pki").root
    added = cli("cert", "add", "--type", "ca", "--store", "acme", root)
    assert added.exit_code == 0, added.err
    done = cli(*init, "--force")
    assert "--store acme" not in done.err
    assert "--store t FILE" in done.err
    assert cli(*init, "--force", "--quiet").err == ""
    done = cli(*init, "--force", "--output", "json")
    assert json.loads(done.out)["replaced"] is True


@pytest.mark.parametrize(
    ("signed", "verified", "words"),
    [
        (
            "--no-dm-verity",
            (),
            "no dm-verity artifact: sign its layers too, or give --no-dm-verity",
        ),
        (
            "--no-manifest-signature",
            (),
            "has no Notary Project signature: sign its manifest too, or give --no-manifest",
        ),
        (
            "--no-certs",
            ("--artifact", "notation", "--artifact", "osguard"),
            "has no dm-verity artifact of the form osguard: sign it in that form too, with --art",
        ),
    ],
)
def test_a_kind_of_signature_that_is_not_there_is_not_called_invalid(
    signed, verified, words, image, tmp_path
):
    files = make_leaf(make_root()).write(tmp_path / "pki")
    done = cli("sign", *image, "--key", files.key, "--cert", files.chain, signed)
    assert done.exit_code == 0, done.err
    trusted = ("--trust", files.root, "--trust", files.leaf)
    done = cli("verify", *image, *trusted, *verified)
    assert done.exit_code == 1, done
    assert words in done.err
    assert "valid and trusted" not in done.err
    done = cli("verify", *image, *trusted, *(() if signed == "--no-certs" else (signed,)))
    assert done.exit_code == 0, done.err
