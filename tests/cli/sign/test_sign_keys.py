"""Keys, their certificates and passphrases, and logins of ``dmsign-fast sign``."""

import io
import json
import sys

import pytest
from container_images import push_image, tars
from helpers import cli, dmsign, write
from pki import make_leaf, make_root
from sign_commands import (
    DM_VERITY,
    NOTARY,
    SECRET,
    assert_fails,
    name,
    types,
)

from dmsign_fast.envelope.signed_data import parse_signed_data


def test_keys_by_their_names(home, leaf, configuration, tmp_path):
    image = push_image(home.store, "v1", tars(1))
    root = make_root()
    other = make_leaf(root, "Other")
    files, more = leaf.write(tmp_path / "one"), other.write(tmp_path / "two")
    keys = [
        {"name": "one", "keyPath": str(files.key), "certPath": str(files.chain)},
        {"name": "two", "keyPath": str(more.key), "certPath": str(more.chain)},
        {"name": "cloud", "id": "https://vault/keys/1", "pluginName": "azure-kv"},
    ]
    configuration.config.mkdir()
    config = configuration.config / "signingkeys.json"
    config.write_text(json.dumps({"default": "two", "keys": keys}))
    subjects = []
    for option in ((), ("--key", "one"), ("--key", "two")):
        done = cli("sign", *name(home), *option, "--output", "json")
        assert done.exit_code == 0, done.err
        subjects.append(json.loads(done.out)["signer"])
    assert subjects == [one.certificate.subject.rfc4514_string() for one in (other, leaf, other)]
    assert len(types(home, image)) == 4
    missing = cli("sign", *name(home), "--key", "cloud")
    assert_fails(missing, 4, "the plugin azure-kv is not installed", "dmsign-fast plugin")
    assert_fails(cli("sign", *name(home), "--key", "three"), 2, "'three'", "one, two, cloud")
    config.write_text(json.dumps({"keys": keys}))
    assert_fails(cli("sign", *name(home)), 2, "no default key", "--key")
    config.unlink()
    assert_fails(cli("sign", *name(home)), 2, "no default key", "--key")
    config.write_text("{")
    assert_fails(cli("sign", *name(home)), 3, "signingkeys.json")


def test_what_root_hash_signatures_are_like(home, tmp_path):
    leaf = make_leaf(make_root(), key="RSA-2048")
    files = leaf.write(tmp_path / "pki")
    image = push_image(home.store, "v1", tars(1))
    arguments = ("sign", *name(home), "--key", files.key, "--cert", files.chain)
    found = []
    for options in ((), ("--digest", "sha512"), ("--no-certs",)):
        done = cli(*arguments, *options, "--output", "json")
        (signed,) = json.loads(done.out)["images"]
        of_digest = {one.digest: one for one in home.store.referrers(image.descriptor)}
        artifact = home.store.fetch_manifest(of_digest[signed["dm_verity_artifact"]])
        parsed = parse_signed_data(home.read(artifact.layers[0]))
        found.append((parsed.signers[0].digest, len(parsed.certificates)))
    assert found == [("sha256", 2), ("sha512", 2), ("sha256", 0)]


def test_a_key_in_a_file_needs_its_certificate(home, leaf, tmp_path):
    files = leaf.write(tmp_path / "pki")
    push_image(home.store, "v1", tars(1))
    assert_fails(cli("sign", *name(home), "--key", files.key), 2, "--cert")
    assert_fails(cli("sign", *name(home), "--cert", files.chain), 2, "--cert needs --key")


def test_a_passphrase_is_in_a_file_or_the_environment(home, leaf, tmp_path):
    files = leaf.write(tmp_path / "pki", SECRET.encode())
    image = push_image(home.store, "v1", tars(1))
    arguments = ("sign", *name(home), "--key", files.key, "--cert", files.chain)
    secret = write(tmp_path / "secret", SECRET.encode() + b"\n")
    runs = [
        cli(*arguments, "--passphrase-file", secret, "--debug"),
        dmsign(*arguments, "--force", "--passphrase-env", "S", environment={"S": SECRET}),
        cli(*arguments, "--passphrase", SECRET),
        cli(*arguments, "--password", SECRET),
        dmsign(*arguments),
        cli(*arguments, "--passphrase-file", write(tmp_path / "wrong", b"wrong")),
    ]
    assert [done.exit_code for done in runs] == [0, 0, 2, 2, 5, 5]
    assert len(types(home, image)) == 4
    for done in (*runs[:2], *runs[4:]):
        assert SECRET not in done.out + done.err
    assert "--passphrase-file" in runs[4].err


# registries


def test_logins(make_home, key, monkeypatch, serve, connect):
    from container_images import Home

    from dmsign_fast.oci.credentials import Credentials

    server = serve(login="basic")
    login = Credentials(username="alice", password="secret")
    home = Home(connect(server, "app/web", login), server)
    image = push_image(home.store, "v1", tars(1))
    before = home.contents
    arguments = ("sign", *name(home), *key)
    assert_fails(cli(*arguments), 6, "wants a user name and password", "dmsign-fast login")
    assert_fails(cli(*arguments, "--username", "alice"), 2, "--username needs --password-stdin")
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert_fails(cli(*arguments, "--username", "alice", "--password-stdin"), 2)
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n"))
    assert_fails(cli(*arguments, "--password-stdin"), 2, "--username")
    monkeypatch.setattr(sys, "stdin", io.StringIO("wrong\n"))
    done = cli(*arguments, "--username", "alice", "--password-stdin")
    assert_fails(done, 6, "401")
    assert "wrong" not in done.err
    assert home.contents == before
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\r\nrest"))
    done = cli(*arguments, "--username", "alice", "--password-stdin")
    assert done.exit_code == 0, done.err
    assert types(home, image) == [NOTARY, DM_VERITY]
    monkeypatch.setenv("NOTATION_PASSWORD", "secret")
    assert cli(*arguments, "--username", "alice").exit_code == 0
    monkeypatch.setenv("NOTATION_USERNAME", "alice")
    assert cli(*arguments).exit_code == 0
    monkeypatch.setenv("NOTATION_USERNAME", "bob")
    assert cli(*arguments).exit_code == 6
    assert cli(*arguments, "--username", "alice").exit_code == 0
    assert len(types(home, image)) == 2


@pytest.mark.parametrize(
    ("command", "further", "only", "said"),
    [
        ("sign", "--and", "--no-dm-verity", "only the manifest"),
        ("sign", "--manifest", "--no-manifest-signature", "only layers"),
        ("prepare", "--and", "--no-dm-verity", "only the manifest"),
        ("prepare", "--manifest", "--no-manifest-signature", "only layers"),
    ],
)
def test_a_key_that_would_sign_nothing(home, leaf, tmp_path, command, further, only, said):
    image = push_image(home.store, "v1", tars(1))
    files = leaf.write(tmp_path / "pki")
    keys = ["--cert", files.chain, f"{further}-cert", files.chain]
    if command == "sign":
        keys += ["--key", files.key, f"{further}-key", files.key]
    else:
        keys += ["-o", tmp_path / "to-sign"]
    assert_fails(cli(command, *name(home), *keys, only), 2, said, "leave out the key")
    assert not types(home, image)
    assert not (tmp_path / "to-sign").exists()
