"""What strangers write, on a terminal and as JSON."""

import os
import unicodedata

import pytest
from container_images import push_image
from cryptography import x509
from cryptography.x509.oid import NameOID
from forge import forge_jws
from helpers import cli, dmsign
from pki import make_leaf, make_root
from signed_images import (
    BAD,
    LEAF,
    attach_layers,
    attach_notary,
    sign,
    signatures_of,
)
from verify_commands import COMMANDS, as_json, assert_fails, run

from dmsign_fast.oci.layout import Layout

ESCAPE = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202e\u2028"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Signatures with commands for a terminal wherever text can be."""
    store = Layout.create(tmp_path_factory.mktemp("hostile") / "layout")
    push_image(store, "v1")
    (made,) = sign(store, "v1")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"x{ESCAPE}")])
    stranger = make_leaf(make_root("hostile", subject=subject), "leaf", subject=subject)
    image = made.manifest.plain().to_json()
    annotated = image | {"annotations": {f"a_b{ESCAPE}": ESCAPE, "plain_name": "7"}}
    agent = {"io.cncf.notary.signingAgent": ESCAPE}
    attach_notary(store, made.manifest, forge_jws(stranger, annotated, header=agent))
    attach_notary(store, made.manifest, forge_jws(LEAF, image | {"mediaType": ESCAPE}))
    attach_notary(store, made.manifest, forge_jws(LEAF, image, protected={ESCAPE: 1}))

    def change(manifest):
        manifest["annotations"] |= {"dmsign-fast.recipe.name": ESCAPE, ESCAPE: ESCAPE}
        manifest["layers"][0]["annotations"][ESCAPE] = ESCAPE

    attach_layers(store, made.manifest, signatures_of(made, stranger), change)
    # signed by us: one whose root hashes do not fit the layers, so that the recipe is named
    attach_layers(store, made.manifest, signatures_of(made)[::-1], lambda one: _swap(one, change))
    for _, _, make in BAD.values():
        make(store, made.manifest, made)
    return store


def _swap(manifest, change):
    change(manifest)
    digests = [one["annotations"]["io.cncf.notary.layer.digest"] for one in manifest["layers"]]
    for one, digest in zip(manifest["layers"], digests[::-1], strict=True):
        one["annotations"]["io.cncf.notary.layer.digest"] = digest


def assert_harmless(text):
    wrong = {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")}
    assert wrong <= {"\n"}


@pytest.mark.parametrize("command", COMMANDS)
def test_text_of_strangers_is_no_command_to_the_terminal(command, hostile, root):
    options = ("--trust", root, "--deep", "--verbose") if command == "verify" else ()
    done = run(command, hostile, *options)
    assert done.exit_code == 0
    assert_harmless(done.out)
    assert_harmless(done.err)
    if command != "list":
        assert "\\x1b" in done.out
    if command == "inspect":
        assert "plain_name: 7" in done.out
    if command == "verify":
        assert "but of" in done.out or "not that of the layer" in done.out
        lines = [line for line in done.out.splitlines() if line.startswith("Successfully")]
        assert len(lines) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_json_of_strangers_is_json(command, hostile, root):
    options = ("--trust", root, "--deep") if command == "verify" else ()
    done = run(command, hostile, *options, "--output", "json")
    assert done.exit_code == 0
    assert_harmless(done.out)
    (image,) = as_json(done)["images"]
    found = image["referrers" if command != "inspect" else "signatures"]
    assert len(found) >= len(BAD) + 6


def test_errors_are_no_commands_either(signed, root):
    store, _ = signed
    done = cli("verify", "--oci-layout", f"{store.path}\x1b[2J:v1", "--trust", root)
    assert_fails(done, 4, "\\x1b[2J")
    assert_harmless(done.err)


def test_names_that_are_not_text(signed, root, tmp_path):
    store, _ = signed
    name = f"{tmp_path}/{os.fsdecode(bytes([255]))}"
    store.path.rename(name)
    done = dmsign("verify", "--oci-layout", f"{name}:v1", "--trust", root)
    assert done.exit_code == 0, done
    assert f"for {name}@sha256:" in done.out
    done = dmsign("verify", "--oci-layout", f"{name}:v1", "--trust", root, "--output", "json")
    assert as_json(done)["reference"] == f"{name}:v1"
