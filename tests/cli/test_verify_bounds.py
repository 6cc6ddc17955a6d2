"""``verify`` where strangers have pushed many signatures, and where the binding is asked for."""

import json

import pytest
from container_images import push_image
from helpers import cli, write
from pki import pem
from signed_images import ROOT, STRANGER, attach_notary, remove, sign

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
    done = run(store, root)
    assert (done.exit_code, done.out.count(": refused")) == (0, 20)
    assert "and 5 more that are refused" in done.out
    done = run(store, root, "--max-signatures", "1")
    assert (done.exit_code, "26 were not looked at: raise --max-signatures" in done.err) == (
        1,
        True,
    )
    assert "and 26 more, not looked at" in done.out
