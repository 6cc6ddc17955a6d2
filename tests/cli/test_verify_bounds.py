"""``verify`` where strangers have pushed many signatures, and where the binding is asked for."""

import json

import pytest
from a_plugin import AUTHORITY, ENVELOPE, TRUSTED_IDENTITY, make_plugin, requests
from container_images import push_image
from helpers import cli, write
from notation import SCOPE, Notation
from pki import pem
from signed_images import LEAF, ROOT, STRANGER, attach_notary, remove, sign

from dmsign_fast.oci.layout import Layout


@pytest.fixture
def signed(tmp_path):
    layout = Layout.create(tmp_path / "layout")
    push_image(layout, "v1")
    return layout, sign(layout, "v1")[0]


@pytest.fixture
def root(tmp_path):
    return write(tmp_path / "root.pem", pem(ROOT.certificate))


def run(store, root, *options):
    return cli("verify", "--oci-layout", f"{store.path}:v1", "--trust", root, *options)


def test_the_binding_can_be_asked_for(signed, root):
    store, made = signed
    done = run(store, root, "--require-bound", "--output", "json")
    assert (done.exit_code, json.loads(done.out)["images"][0]["bound"]) == (0, True)
    remove(store, made.notary)
    attach_notary(store, made.manifest)
    done = run(store, root, "--output", "json")
    assert (done.exit_code, json.loads(done.out)["images"][0]["bound"]) == (0, False)
    done = run(store, root, "--require-bound")
    assert (done.exit_code, "no dm-verity artifact" in done.err) == (1, True)
    assert "no signature of the manifest that counts binds the layers" in done.out
    assert run(store, root, "--require-bound", "--no-dm-verity").exit_code == 2


def test_text_does_not_grow_with_strangers(signed, root):
    store, made = signed
    for number in range(25):
        attach_notary(store, made.manifest, entity=STRANGER, user_metadata={"number": str(number)})
    done = run(store, root, "--verbose")
    assert (done.exit_code, done.out.count(": refused")) == (0, 20)
    assert "and 5 more that are refused" in done.out
    done = run(store, root, "--max-signatures", "1")
    assert (done.exit_code, "26 were not looked at: raise --max-signatures" in done.err) == (
        1,
        True,
    )
    assert "and 26 more, not looked at" in done.out


def test_what_a_verification_plugin_is_told(tmp_path, monkeypatch):
    """The plugin that the signature of a trusted authority names."""
    notation = Notation(tmp_path / "home")
    notation.trust(pem(ROOT.certificate), store="signingAuthority/a")
    notation.trust(policy={"trustStores": ["signingAuthority:a"]})
    monkeypatch.setenv("NOTATION_CONFIG", str(notation.config))
    monkeypatch.delenv("NOTATION_LIBEXEC", raising=False)
    home = make_plugin(
        notation.config, LEAF, capabilities=(ENVELOPE, TRUSTED_IDENTITY), wrong=AUTHORITY
    )
    layout = Layout.create(tmp_path / "layout")
    push_image(layout, "v1")
    place = ("--oci-layout", f"{layout.path}:v1", "--no-dm-verity", "--plugin-config", "a=b")
    key = ("--key", "plugin:test?id=x", "--recipe", "containerd")
    assert cli("sign", *place, *key).exit_code == 0
    done = cli("verify", *place, "--scope", SCOPE, "--plugin-timeout", "30", "--verbose")
    assert done.exit_code == 0, done.err
    assert "the plugin test says: well known" in done.out
    (asked,) = requests(home, "verify-signature")
    assert asked["pluginConfig"] == {"a": "b"}
