"""Changes of the list of keys: all else in the file stays, and none is lost."""

import json
import threading
from pathlib import Path

import pytest
from pki import make_leaf, make_root

from dmsign_fast.errors import FormatError, ParameterError, SigningError, StorageError
from dmsign_fast.trust.keys import (
    LocalKey,
    PluginKey,
    change_signing_keys,
    checked_local_key,
    load_signing_keys,
)

A = LocalKey("a", Path("/a.key"), Path("/a.crt"))
B = PluginKey("b", "kms", "id", {"x": "1"})


def change(config, function):
    return change_signing_keys(config, function)[1]


def written(config):
    return json.loads((config / "signingkeys.json").read_text())


def test_the_first_key_makes_file_and_directory(tmp_path):
    config = tmp_path / "new/notation"
    change(config, lambda keys: keys.with_key(A))
    assert written(config) == {"keys": [{"name": "a", "keyPath": "/a.key", "certPath": "/a.crt"}]}
    assert load_signing_keys(config).keys == {"a": A}


def test_a_plugin_has_its_configuration_if_any(tmp_path):
    change(tmp_path, lambda keys: keys.with_key(B).with_key(PluginKey("c", "kms", "2")))
    assert load_signing_keys(tmp_path).get("b") == B
    assert written(tmp_path)["keys"] == [
        {"name": "b", "id": "id", "pluginName": "kms", "pluginConfig": {"x": "1"}},
        {"name": "c", "id": "2", "pluginName": "kms"},
    ]


def test_the_default_comes_and_goes_with_its_key(tmp_path):
    assert change(tmp_path, lambda keys: keys.with_key(A).with_key(B)).default is None
    assert change(tmp_path, lambda keys: keys.with_default("a")).default == "a"
    assert change(tmp_path, lambda keys: keys.without(["b"])).default == "a"
    assert change(tmp_path, lambda keys: keys.with_key(B, default=True)).default == "b"
    assert change(tmp_path, lambda keys: keys.without(["b"])).default is None
    assert "default" not in written(tmp_path)


def test_what_is_not_known_stays_and_so_does_the_order(tmp_path):
    before = {
        "future": [1, {"é": None}],
        "default": "z",
        "keys": [
            {"tags": ["x"], "name": "z", "keyPath": "k", "certPath": "c", "more": {}},
            {"name": "y", "id": "i", "pluginName": "p", "pluginConfig": {}},
        ],
        "last": 2,
    }
    (tmp_path / "signingkeys.json").write_text(json.dumps(before))
    change(tmp_path, lambda keys: keys.with_key(A, default=True))
    after = written(tmp_path)
    assert list(after) == list(before)
    assert after["keys"][:2] == before["keys"]
    assert list(after["keys"][0]) == list(before["keys"][0])
    change(tmp_path, lambda keys: keys.without(["a"]))
    assert written(tmp_path) == {name: before[name] for name in before if name != "default"}


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda keys: keys.with_key(A), "has a key 'a' already"),
        (lambda keys: keys.with_key(LocalKey("", A.key, A.certificates)), "needs a name"),
        (lambda keys: keys.with_key(PluginKey("c", "kms", "")), "an id"),
        (lambda keys: keys.with_key(PluginKey("c", "", "id")), "none is empty"),
        (lambda keys: keys.with_key(LocalKey("c", Path("\udcff"), Path("/c"))), "UTF-8"),
        (lambda keys: keys.with_default("c"), "has no key 'c'"),
        (lambda keys: keys.without(["a", "c"]), "has no key 'c'"),
    ],
)
def test_refusals_change_nothing(tmp_path, function, says):
    change(tmp_path, lambda keys: keys.with_key(A, default=True))
    before = (tmp_path / "signingkeys.json").read_bytes()
    with pytest.raises(ParameterError, match=says):
        change_signing_keys(tmp_path, function)
    assert (tmp_path / "signingkeys.json").read_bytes() == before


def test_a_malformed_list_is_not_written_over(tmp_path):
    (tmp_path / "signingkeys.json").write_text('{"keys": [{"name": "a"}]}')
    with pytest.raises(FormatError):
        change_signing_keys(tmp_path, lambda keys: keys.with_key(B))
    assert written(tmp_path) == {"keys": [{"name": "a"}]}


def test_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "notation").mkdir()
    (tmp_path / "notation/signingkeys.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(StorageError, match="symbolic link"):
        change_signing_keys(tmp_path / "notation", lambda keys: keys.with_key(A))
    assert not (tmp_path / "elsewhere.json").exists()


def test_keys_that_are_added_at_once_are_all_there(tmp_path):
    names = [f"key{number}" for number in range(24)]
    start = threading.Barrier(len(names))

    def add(name):
        start.wait()
        change_signing_keys(tmp_path, lambda keys: keys.with_key(PluginKey(name, "p", "i")))

    threads = [threading.Thread(target=add, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(load_signing_keys(tmp_path).keys) == sorted(names)
    assert [path.name for path in tmp_path.iterdir()] == ["signingkeys.json"]


def test_a_pair_is_loaded_before_it_is_listed(tmp_path, monkeypatch):
    files = make_leaf(make_root()).write(tmp_path / "one")
    other = make_leaf(make_root(), "Other").write(tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.pem").symlink_to(files.chain)
    found = checked_local_key("a", Path("one/key.pem"), Path("link.pem"))
    assert found == LocalKey("a", tmp_path / "one/key.pem", tmp_path / "link.pem")
    with pytest.raises(SigningError, match="wrong key for the certificate"):
        checked_local_key("a", files.key, other.chain)
