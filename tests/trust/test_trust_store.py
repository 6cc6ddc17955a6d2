"""Trust stores and lists of keys, as notation's configuration has them."""

import json

import pytest
from config_tree import tree
from notation import Layout, Notation
from pki import der, make_intermediate, make_leaf, make_not_a_ca, make_root, pem

from dmsign_fast.envelope.notary import sign_manifest
from dmsign_fast.errors import FormatError, ParameterError, StorageError
from dmsign_fast.signing.local import load_local_signer
from dmsign_fast.trust.keys import LocalKey, PluginKey, load_signing_keys
from dmsign_fast.trust.store import (
    add_certificates,
    delete_certificates,
    list_stores,
    load_file,
    load_store,
)

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


def given(tmp_path, **contents):
    """Write files to add to a store, outside the configuration, and return their paths."""
    (tmp_path / "given").mkdir(exist_ok=True)
    paths = [tmp_path / "given" / name.replace("_", ".") for name in contents]
    for path, data in zip(paths, contents.values(), strict=True):
        path.write_bytes(data)
    return paths


ALONE = make_leaf(name="alone").certificate


@pytest.mark.parametrize("kind", ["ca", "signingAuthority"])
def test_what_is_added_is_trusted(tmp_path, kind):
    config = tmp_path / "notation"
    key = make_root("Key").key_pem()
    paths = given(
        tmp_path,
        bundle_pem=b"# a comment\n" + pem(ROOT.certificate) + key + pem(INTERMEDIATE.certificate),
        alone_cer=der(ALONE),
    )
    added = add_certificates(config, kind, "new", paths)
    assert [one.name for one in added] == ["bundle.pem", "alone.cer"]
    expected = {ROOT.certificate, INTERMEDIATE.certificate, ALONE}
    assert set(load_store(config, kind, "new").certificates) == expected
    files = {name: found for name, found in tree(config).items() if found[1] is not None}
    assert files == {
        f"truststore/x509/{kind}/new/bundle.pem": (
            "0o600",
            pem(ROOT.certificate, INTERMEDIATE.certificate),
        ),
        f"truststore/x509/{kind}/new/alone.cer": ("0o600", pem(ALONE)),
    }


@pytest.mark.parametrize(
    ("kind", "name", "files", "says"),
    [
        ("ca", "x", {"leaf_pem": pem(make_leaf(INTERMEDIATE).certificate)}, "neither a CA nor"),
        ("ca", "x", {"not_pem": pem(make_not_a_ca(ROOT).certificate)}, "neither a CA nor"),
        ("ca", "x", {"a_pem": pem(ROOT.certificate, make_leaf(ROOT).certificate)}, "neither"),
        ("tsa", "x", {"a_pem": pem(INTERMEDIATE.certificate)}, "neither a CA nor"),
        ("ca", "x", {"junk_pem": b"junk"}, "not a certificate"),
        ("ca", "x", {"a_txt": pem(ALONE)}, "rename it"),
        ("ca", "x", {"a_PEM": pem(ALONE)}, "rename it"),
        ("ca", "x", {"old_pem": pem(ALONE)}, "has a file old.pem already"),
        ("ca", "x", {"new_pem": pem(ALONE, ROOT.certificate)}, "old.pem has the certificate"),
        ("ca", "y", {"a_pem": pem(ALONE), "b_crt": der(ALONE)}, "a.pem has the certificate"),
        ("ca", "../x", {"a_pem": pem(ALONE)}, "is not a trust store"),
        ("ca", "..", {"a_pem": pem(ALONE)}, "is not a trust store"),
        ("CA", "x", {"a_pem": pem(ALONE)}, "is not a trust store"),
    ],
)
def test_what_is_not_added_and_nothing_beside_it(tmp_path, kind, name, files, says):
    config = tmp_path / "notation"
    add_certificates(config, "ca", "x", given(tmp_path, old_pem=pem(ROOT.certificate)))
    before = tree(config)
    good = given(tmp_path, good_pem=pem(make_root("Good").certificate))
    with pytest.raises((FormatError, ParameterError), match=says):
        add_certificates(config, kind, name, [*good, *given(tmp_path, **files)])
    assert tree(config) == before


def test_two_files_of_one_name(tmp_path):
    paths = given(tmp_path, a_pem=pem(ALONE))
    (tmp_path / "a.pem").write_bytes(pem(ROOT.certificate))
    with pytest.raises(ParameterError, match=r"has a file a\.pem already"):
        add_certificates(tmp_path / "notation", "ca", "x", [*paths, tmp_path / "a.pem"])
    assert not tree(tmp_path / "notation")


def test_nothing_is_added_to_a_store_that_is_a_link_or_holds_one(store, tmp_path):
    paths = given(tmp_path, a_pem=pem(ALONE))
    (store / "link.pem").symlink_to(paths[0])
    (store.parent / "linked").symlink_to(store)
    before = tree(tmp_path)
    for name, says in (("test", "does not belong"), ("linked", "symbolic link")):
        with pytest.raises(StorageError, match=says):
            add_certificates(tmp_path, "ca", name, paths)
    assert tree(tmp_path) == before


def test_stores_are_listed_by_type_and_name(tmp_path):
    config = tmp_path / "notation"
    assert list_stores(config) == ()
    for kind, name in (("tsa", "b"), ("ca", "b"), ("ca", "a")):
        add_certificates(config, kind, name, given(tmp_path, root_pem=pem(ROOT.certificate)))

    def listed(*wanted):
        return [(one.kind, one.store, one.name) for one in list_stores(config, *wanted)]

    a, b, tsa = (("ca", "a"), ("ca", "b"), ("tsa", "b"))
    assert listed() == [(*one, "root.pem") for one in (a, b, tsa)]
    assert listed("ca") == [(*one, "root.pem") for one in (a, b)]
    assert listed(None, "b") == [(*one, "root.pem") for one in (b, tsa)]
    assert listed("tsa", "b") == [(*tsa, "root.pem")]
    assert listed("tsa", "a") == listed("signingAuthority") == []
    assert load_file(config, "ca", "a", "root.pem").certificates == (ROOT.certificate,)
    for wrong in (("x", None), ("ca", "../ca")):
        with pytest.raises(ParameterError):
            list_stores(config, *wrong)


@pytest.mark.parametrize("file", ["../b/root.pem", "/etc/passwd", ".", "..", ""])
def test_only_names_of_files_in_the_store(tmp_path, file):
    for name in ("a", "b"):
        add_certificates(tmp_path, "ca", name, given(tmp_path, root_pem=pem(ROOT.certificate)))
    before = tree(tmp_path)
    for function in (load_file, delete_certificates):
        with pytest.raises(ParameterError, match="not the name of a file"):
            function(tmp_path, "ca", "a", file)
    assert tree(tmp_path) == before


def test_deleting_one_file_and_all(store, tmp_path):
    outside = given(tmp_path, root_pem=pem(ROOT.certificate))[0]
    (store / "a.pem").write_bytes(pem(ROOT.certificate))
    (store / "junk").write_bytes(b"")
    (store / "link.pem").symlink_to(outside)
    for name in ("junk", "link.pem"):
        assert delete_certificates(tmp_path, "ca", "test", name) == store / name
    assert [path.name for path in store.iterdir()] == ["a.pem"]
    (store / "sub").symlink_to(outside.parent)
    assert delete_certificates(tmp_path, "ca", "test") == store
    assert set(tree(tmp_path / "truststore")) == {"x509", "x509/ca"}
    assert outside.exists()
    for file in (None, "a.pem"):
        with pytest.raises(StorageError, match="cannot delete"):
            delete_certificates(tmp_path, "ca", "test", file)


def test_a_store_that_is_a_link_is_not_deleted(store, tmp_path):
    (store / "a.pem").write_bytes(pem(ROOT.certificate))
    (store.parent / "linked").symlink_to(store)
    before = tree(tmp_path)
    with pytest.raises(StorageError, match="symbolic link"):
        delete_certificates(tmp_path, "ca", "linked")
    assert tree(tmp_path) == before


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
