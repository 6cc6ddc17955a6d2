"""``prepare`` for several keys by the lines of docs/two-steps.md, ML-DSA by OpenSSL 4."""

import json
import os
import shlex
from pathlib import Path

import pytest
from container_images import push_image, tars
from helpers import cli, noise, program, run
from pipeline import conftest as pipeline
from pki import make_leaf, make_root
from test_offline_commands import LINES

make_home = pipeline.make_home
ML_DSA = make_leaf(make_root("ML-DSA root", key="ML-DSA-65"), "Layers", key="ML-DSA-65")
OTHER = make_leaf(make_root("Other root"), "Manifests", key="EC-384")


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Return the options of each key; the files have the names that the documentation has."""
    monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "home/notation"))
    monkeypatch.chdir(tmp_path)
    OTHER.write(tmp_path)  # key.pem, chain.pem and root.pem
    files = ML_DSA.write(tmp_path / "layers")
    for one, name in ((files.key, "ml-dsa.pem"), (files.chain, "ml-dsa-chain.pem")):
        one.rename(tmp_path / name)
    files.root.rename(tmp_path / "ml-dsa-root.pem")
    return {
        "prepare": ("--cert", "ml-dsa-chain.pem", "--manifest-cert", "chain.pem"),
        "sign": (
            *("--key", "ml-dsa.pem", "--cert", "ml-dsa-chain.pem"),
            *("--manifest-key", "key.pem", "--manifest-cert", "chain.pem"),
        ),
    }


@pytest.fixture
def home(make_home):
    return make_home("layout")


def named(home):
    *options, place = home.arguments
    return (*options, f"{place}:v1")


def ok(*arguments):
    done = cli(*arguments)
    assert done.exit_code == 0, done.err
    return done


def ceremony(which, path=None):
    """What the documentation says to do, by the openssl of ``path`` if that is given."""
    first = {"PATH": f"{path}:{os.environ['PATH']}"} if path else {}
    environment = {**os.environ, **first, "HASH": "sha384", "OPENSSL_CONF": "/dev/null"}
    done = run(program("bash"), "-euc", LINES[which], env=environment)
    assert done.exit_code == 0, done.err


def test_the_lines_for_two_keys(home, options, openssl_4_program, tmp_path):
    push_image(home.store, "v1", tars(2))
    done = ok("prepare", *named(home), *options["prepare"], "-o", "to-sign")
    assert "  manifest-*  by the key of manifest-chain.pem" in done.out.splitlines()
    bin_4 = tmp_path / "bin"
    bin_4.mkdir()
    script = bin_4 / "openssl"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, openssl_4_program))} "$@"\n')
    script.chmod(0o755)
    ceremony("ml-dsa", bin_4)
    ceremony("manifest, ec")
    done = ok("attach", "to-sign")
    layers, manifest = (one.certificate.subject.rfc4514_string() for one in (ML_DSA, OTHER))
    first = done.out.splitlines()[0]
    assert first.endswith(f": 2 layers by {layers} and the manifest by {manifest}")
    ok("verify", *named(home), "--trust", "root.pem", "--trust", "ml-dsa-root.pem", "--deep")
    assert "Already signed" in ok("sign", *named(home), *options["sign"]).out


def by_hand(directory):
    """Sign all, whatever openssl there is."""
    keys = {"chain.pem": ML_DSA, "and-chain.pem": OTHER}
    for one in json.loads((directory / "manifest.json").read_text())["to_sign"]:
        key, content = keys[one["certificates"]].key, (directory / one["file"]).read_bytes()
        if one["certificates"] == "chain.pem":
            signature = key.sign(content)
        else:
            from cryptography.hazmat.primitives.asymmetric import ec
            from cryptography.hazmat.primitives.hashes import SHA384

            signature = key.sign(content, ec.ECDSA(SHA384()))
        (directory / one["signature"]).write_bytes(signature)


def test_a_file_of_two_signers(options, tmp_path):
    data = tmp_path / "data"
    data.write_bytes(noise(8192))
    both = ("--cert", "ml-dsa-chain.pem", "--and-cert", "chain.pem")
    ok("verity", "prepare", data, *both, "-o", "to-sign")
    by_hand(tmp_path / "to-sign")
    found = json.loads(ok("verity", "attach", "to-sign", data, "--output", "json").out)
    assert found == {
        "signature_file": f"{data}.roothash.p7s",
        "signer": ML_DSA.certificate.subject.rfc4514_string(),
        "and_signer": OTHER.certificate.subject.rfc4514_string(),
    }
    text = ok("verity", "attach", "to-sign", data).out
    assert f"And signer:     \t{found['and_signer']}" in text
    for root in ("root.pem", "ml-dsa-root.pem"):
        ok(
            *("verity", "verify", data, f"{data}.verity", "--root-hash-file", f"{data}.roothash"),
            *("--signature", f"{data}.roothash.p7s", "--cert", root),
        )
    signed = Path(f"{data}.roothash.p7s").read_bytes()
    record = tmp_path / "to-sign/manifest.json"
    value = json.loads(record.read_text())
    value["to_sign"][1]["certificates"] = "manifest-chain.pem"  # which signs no files
    value["certificates"]["manifest-chain.pem"] = value["certificates"].pop("and-chain.pem")
    record.write_text(json.dumps(value))
    (tmp_path / "to-sign/and-chain.pem").rename(tmp_path / "to-sign/manifest-chain.pem")
    assert cli("verity", "attach", "to-sign", data).exit_code == 5
    assert Path(f"{data}.roothash.p7s").read_bytes() == signed


def test_the_same_certificates_twice(options, tmp_path):
    data = tmp_path / "data"
    data.write_bytes(noise(8192))
    same = ("--cert", "chain.pem", "--and-cert", "chain.pem", "-o", "to-sign")
    done = cli("verity", "prepare", data, *same)
    assert done.exit_code == 2
    assert "the same certificate" in done.err
    assert not (tmp_path / "to-sign").exists()
