"""Trust stores and lists of keys, as notation's configuration has them."""

import json

import pytest
from notation import Layout, Notation
from pki import der, make_intermediate, make_leaf, make_not_a_ca, make_root, pem

from dmsign_fast.envelope.notary import sign_manifest
from dmsign_fast.errors import FormatError, ParameterError, StorageError
from dmsign_fast.signing.local import load_local_signer
from dmsign_fast.trust.keys import LocalKey, PluginKey, load_signing_keys
from dmsign_fast.trust.store import load_store

ROOT = make_root()
INTERMEDIATE = make_intermediate(ROOT)


@pytest.fixture
def store(tmp_path):
    made = tmp_path / "truststore/x509/ca/test"
    made.mkdir(parents=True)
    return made


def test_every_file_counts(store, tmp_path):
    alone = make_leaf(name="alone").certificate
    (store / "a.pem").write_bytes(pem(ROOT.certificate, INTERMEDIATE.certificate))
    (store / "b.crt").write_bytes(der(alone))
    (store / "c.cer").write_bytes(pem(ROOT.certificate))
    found = load_store(tmp_path, "ca", "test").certificates
    assert found == (ROOT.certificate, INTERMEDIATE.certificate, alone)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("leaf.pem", pem(make_leaf(INTERMEDIATE).certificate), "neither a CA nor self-signed"),
        ("not.pem", pem(make_not_a_ca(ROOT).certificate), "neither a CA nor self-signed"),
        ("junk.pem", b"junk", "not a certificate"),
        ("README", b"", "does not belong in a trust store"),
        ("root.PEM", pem(ROOT.certificate), "does not belong in a trust store"),
    ],
)
def test_what_does_not_belong(store, tmp_path, name, data, says):
    (store / "good.pem").write_bytes(pem(ROOT.certificate))
    (store / name).write_bytes(data)
    with pytest.raises((FormatError, StorageError), match=says):
        load_store(tmp_path, "ca", "test")


def test_links_and_directories_are_refused(store, tmp_path):
    (tmp_path / "root.pem").write_bytes(pem(ROOT.certificate))
    (store / "sub").mkdir()
    with pytest.raises(StorageError, match="does not belong"):
        load_store(tmp_path, "ca", "test")
    (store / "sub").rmdir()
    (store / "link.pem").symlink_to(tmp_path / "root.pem")
    with pytest.raises(StorageError, match="does not belong"):
        load_store(tmp_path, "ca", "test")
    (store.parent / "linked").symlink_to(store)
    with pytest.raises(StorageError, match="symbolic link"):
        load_store(tmp_path, "ca", "linked")


def test_a_store_that_is_missing_or_empty(store, tmp_path):
    with pytest.raises(StorageError, match="is empty"):
        load_store(tmp_path, "ca", "test")
    with pytest.raises(StorageError, match="cannot read the trust store"):
        load_store(tmp_path, "ca", "other")


@pytest.mark.parametrize(
    ("kind", "name"), [("x", "test"), ("ca", "../ca/test"), ("ca", ""), ("ca", ".."), ("ca", "a b")]
)
def test_names_that_are_none(tmp_path, store, kind, name):
    with pytest.raises(FormatError, match="is not a trust store"):
        load_store(tmp_path, kind, name)


def test_only_roots_are_trusted_for_timestamps(tmp_path):
    store = tmp_path / "truststore/x509/tsa/test"
    store.mkdir(parents=True)
    (store / "a.pem").write_bytes(pem(ROOT.certificate))
    assert load_store(tmp_path, "tsa", "test").certificates == (ROOT.certificate,)
    (store / "b.pem").write_bytes(pem(INTERMEDIATE.certificate))
    with pytest.raises(FormatError, match="neither a CA nor self-signed"):
        load_store(tmp_path, "tsa", "test")


def test_a_store_and_a_key_that_notation_made(tmp_path):
    """``notation cert generate-test`` writes a key, a certificate, a store and both lists."""
    notation = Notation(tmp_path / "home")
    notation.home.mkdir()
    done = notation("cert", "generate-test", "--default", "example.com")
    assert done.exit_code == 0, done.err
    keys = load_signing_keys(notation.config)
    assert keys.default == "example.com"
    key = keys.get()
    assert key == keys.get("example.com")
    assert isinstance(key, LocalKey)
    signer = load_local_signer(key.key, key.certificates)
    (trusted,) = load_store(notation.config, "ca", "example.com").certificates
    assert signer.certificate_chain == (trusted,)
    layout = Layout(tmp_path / "oci")
    notation.trust(pem(trusted))
    made = sign_manifest(layout.image, signer, media_type="application/cose")
    layout.attach(made, "application/cose", [])
    assert notation.verify(layout).exit_code == 0


def keys_of(directory, document):
    (directory / "signingkeys.json").write_text(json.dumps(document))
    return load_signing_keys(directory)


def test_keys_of_plugins(tmp_path):
    plugin = {
        "name": "kms",
        "pluginName": "azure-kv",
        "id": "https://x",
        "pluginConfig": {"a": "b"},
    }
    local = {"name": "local", "keyPath": "/k", "certPath": "/c"}
    keys = keys_of(tmp_path, {"default": "local", "keys": [plugin, local]})
    assert keys.get("kms") == PluginKey("kms", "azure-kv", "https://x", {"a": "b"})
    assert (str(keys.get().key), str(keys.get().certificates)) == ("/k", "/c")
    with pytest.raises(ParameterError, match="has no key 'x'; there is kms, local"):
        keys.get("x")
    with pytest.raises(ParameterError, match="no default key"):
        keys_of(tmp_path, {"keys": [local]}).get()


def test_without_the_file_there_are_no_keys(tmp_path):
    keys = load_signing_keys(tmp_path)
    assert (keys.keys, keys.default) == ({}, None)
    with pytest.raises(ParameterError, match="there is none"):
        keys.get("x")


@pytest.mark.parametrize(
    "document",
    [
        {"keys": [{"name": "a"}]},
        {"keys": [{"name": "", "keyPath": "k", "certPath": "c"}]},
        {"keys": [{"name": "a", "keyPath": "k", "certPath": 1}]},
        {"keys": [{"name": "a", "pluginName": "p", "id": "i", "pluginConfig": {"a": 1}}]},
        {"keys": 2 * [{"name": "a", "keyPath": "k", "certPath": "c"}]},
        {"default": "b", "keys": [{"name": "a", "keyPath": "k", "certPath": "c"}]},
        {"default": [], "keys": []},
        {"keys": {"a": 1}},
        {"keys": 1},
        [],
    ],
)
def test_lists_that_are_malformed(tmp_path, document):
    with pytest.raises(FormatError, match=r"signingkeys\.json"):
        keys_of(tmp_path, document)
