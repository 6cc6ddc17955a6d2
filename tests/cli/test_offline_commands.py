"""``prepare`` and ``attach`` with the lines of docs/two-steps.md, before the real notation."""

import json
import os
import re
from pathlib import Path

import pytest
from container_images import push_image, push_index, tars
from helpers import cli, program, run, veritysetup, write
from notation import SCOPE, Notation
from pipeline import conftest as pipeline
from pki import KEY_SPECS, make_intermediate, make_leaf, make_root, openssl, pem

make_home = pipeline.make_home
DOCS = Path(__file__).parents[2] / "docs/two-steps.md"
LINES = dict(re.findall(r"```sh\n# ([^\n]*)\n(.*?)```", DOCS.read_text(), re.S))
MEDIA_TYPES = {"jws": "application/jose+json", "cose": "application/cose"}
HASHES = dict(
    zip(KEY_SPECS, ("sha256", "sha384", "sha512", "sha256", "sha384", "sha512"), strict=True)
)


@pytest.fixture(autouse=True)
def no_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "home/notation"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def home(make_home):
    return make_home("layout")


def signer(tmp_path, key):
    leaf = make_leaf(make_intermediate(make_root()), f"Signer {key}", key=key)
    leaf.write(tmp_path)  # key.pem and chain.pem, as the documentation has them
    return leaf


def ceremony(key, how=""):
    """What the documentation says to do, done by a shell that knows the directory only."""
    lines = LINES[f"{key[:3].rstrip('-').lower()}{how}"]
    done = run(program("bash"), "-euc", lines, env={**os.environ, "HASH": HASHES[key]})
    assert done.exit_code == 0, done.err


def ok(*arguments):
    done = cli(*arguments)
    assert done.exit_code == 0, done.err
    return done


def named(home, wanted="v1"):
    *options, place = home.arguments
    return (*options, f"{place}:{wanted}")


def assert_accepted(home, image, leaf, tmp_path, media_type):
    """By us and by notation."""
    done = ok("verify", *named(home), "--trust", "root.pem", "--deep", "--output", "json")
    (verdict,) = json.loads(done.out)["images"]
    (dm_verity,) = [one for one in verdict["referrers"] if one["kind"] == "dm-verity"]
    assert dm_verity["bound"] is True
    assert all(layer["recomputed"] for layer in dm_verity["layers"])
    (notary,) = [one for one in verdict["referrers"] if one["kind"] == "notary"]
    assert notary["signature"]["media_type"] == MEDIA_TYPES[media_type]
    notation = Notation(tmp_path / "home")
    notation.trust(pem(leaf.root))
    reference = f"{home.arguments[-1]}@{image.descriptor.digest}"
    in_layout = "--oci-layout" in home.arguments
    where = ("--oci-layout", "--scope", SCOPE) if in_layout else ("--insecure-registry",)
    found = notation("verify", *where, reference)
    assert found.exit_code == 0, found.err


@pytest.mark.parametrize("media_type", ["jws", "cose"])
@pytest.mark.parametrize("key", KEY_SPECS)
def test_the_lines_for_openssl(key, media_type, home, tmp_path):
    leaf = signer(tmp_path, key)
    image = push_image(home.store, "v1")
    prepare = ("prepare", *named(home), "--cert", "chain.pem", "-o", "to-sign")
    ok(*prepare, "--signature-format", media_type)
    ceremony(key)
    done = ok("attach", "to-sign")
    assert "Successfully signed" in done.out
    assert_accepted(home, image, leaf, tmp_path, media_type)


@pytest.mark.parametrize("key", ["RSA-2048", "RSA-4096", "EC-256", "EC-521"])
def test_the_lines_for_digests(key, make_home, tmp_path):
    home = make_home("docker-registry" if key == "EC-256" else "layout")
    leaf = signer(tmp_path, key)
    image = push_image(home.store, "v1")
    ok("prepare", *named(home), "--cert", "chain.pem", "-o", "to-sign", "--artifact", "osguard")
    ceremony(key, ", digests")
    ok("attach", "to-sign")
    assert_accepted(home, image, leaf, tmp_path, "jws")


def test_every_block_of_the_documentation_is_tried():
    assert LINES.keys() == {"rsa", "ec", "rsa, digests", "ec, digests", "ml-dsa", "manifest, ec"}


def test_what_it_says(home, tmp_path):
    leaf = signer(tmp_path, "EC-256")
    image = push_image(home.store, "v1", tars(1))
    prepare = ("prepare", *named(home), "--cert", "chain.pem")
    done = ok(*prepare, "-o", "to-sign")
    line, sign, first, second = done.out.splitlines()
    (layer,) = image.layers
    root_hash, digest = line.split()
    assert digest == layer.digest
    assert (tmp_path / "to-sign/root-hash-1.txt").read_text() == root_hash
    assert sign == "Sign in to-sign, each to NAME.sig:"
    assert first == f"  root-hash-1.txt  ecdsa-sha256  the root hash of layer {layer.digest}"
    assert second.startswith("  notary-1.bin  ecdsa-sha256  the Notary Project signature of sha256")
    assert "names a tag" in done.err
    found = json.loads(ok(*prepare, "-o", "again", "--output", "json").out)
    assert found.keys() == {
        *("reference", "directory", "images", "to_sign", "recipe", "bytes", "seconds")
    }
    assert found["directory"] == "again"
    assert [one["file"] for one in found["to_sign"]] == ["root-hash-1.txt", "notary-1.bin"]
    assert found["images"][0]["layers"][0]["root_hash"] == root_hash
    record = json.loads((tmp_path / "again/manifest.json").read_text())
    assert record["to_sign"] == found["to_sign"]
    ceremony("EC-256")
    found = json.loads(ok("attach", "to-sign", "--output", "json").out)
    assert found.keys() == {"reference", "images", "signer"}
    assert found["signer"] == leaf.certificate.subject.rfc4514_string()
    assert len(found["images"][0]["added"]) == 2
    assert "Already signed" in ok("attach", "to-sign").out


def test_an_index_and_another_place(make_home, tmp_path):
    signer(tmp_path, "EC-384")
    home = make_home("layout")
    one, two = (push_image(home.store, contents=tars(1, seed)) for seed in (1, 2))
    index = push_index(home.store, "v1", [(one, "linux/amd64"), (two, "linux/arm64")])
    home.store.tag(index, "moved")
    prepare = ("prepare", *named(home), "--cert", "chain.pem", "-o", "to-sign")
    done = cli(*prepare)
    assert done.exit_code == 2
    assert "--recursive" in done.err
    ok(*prepare, "--recursive")
    ceremony("EC-384")
    home.store.tag(one, "v1")
    done = cli("attach", "to-sign")
    assert done.exit_code == 1
    assert "was moved meanwhile" in done.err
    assert ok("attach", "to-sign", *named(home, "moved")).out.count("Successfully signed") == 3


@pytest.mark.parametrize(
    ("spoil", "exit_code"),
    [
        (lambda path: (path / "notary-1.bin.sig").unlink(), 4),
        (lambda path: write(path / "notary-1.bin.sig", b"no"), 5),
        (lambda path: write(path / "manifest.json", b"{}"), 3),
        (lambda path: write(path / "notary-1.bin", b""), 5),
    ],
)
def test_exit_codes(spoil, exit_code, home, tmp_path):
    signer(tmp_path, "EC-256")
    push_image(home.store, "v1", tars(1))
    ok("prepare", *named(home), "--cert", "chain.pem", "-o", "to-sign")
    ceremony("EC-256")
    before = home.contents
    spoil(tmp_path / "to-sign")
    done = cli("attach", "to-sign")
    assert done.exit_code == exit_code, done.err
    assert "Traceback" not in done.err
    assert home.contents == before
    again = cli("prepare", *named(home), "--cert", "chain.pem", "-o", "to-sign")
    assert again.exit_code == 2
    assert "is not empty" in again.err


# files


@pytest.mark.parametrize("key", ["RSA-3072", "EC-521"])
def test_a_file(key, tmp_path):
    leaf = signer(tmp_path, key)
    data = write(tmp_path / "data.raw", bytes(1 << 20))
    prepared = ok("verity", "prepare", data, "--cert", "chain.pem", "-o", "to-sign")
    root_hash = (tmp_path / "data.roothash").read_text()
    assert root_hash in prepared.out
    assert not (tmp_path / "data.roothash.p7s").exists()
    write(tmp_path / "to-sign/notary-1.bin", b"")  # so that the other loop has something
    ceremony(key)
    done = ok("verity", "attach", "to-sign", data)
    assert f"Signature file: \t{tmp_path}/data.roothash.p7s" in done.out
    assert veritysetup("verify", data, tmp_path / "data.verity", root_hash).exit_code == 0
    signature = ("--signature", "data.roothash.p7s", "--cert", "root.pem")
    ok("verity", "verify", data, tmp_path / "data.verity", root_hash, *signature)
    openssl(
        *("smime", "-verify", "-binary", "-inform", "DER", "-in", "data.roothash.p7s"),
        *("-content", "data.roothash", "-CAfile", "chain.pem", "-purpose", "any"),
        cwd=tmp_path,
    )
    found = ok(
        *("verity", "attach", "to-sign", data, "--signature", "other.p7s", "--output", "json")
    )
    assert json.loads(found.out) == {
        "signature_file": "other.p7s",
        "signer": leaf.certificate.subject.rfc4514_string(),
    }
    assert cli("verity", "attach", "to-sign", "other").exit_code == 4  # which has no root hash
    image = cli("attach", "to-sign")
    assert image.exit_code == 3
