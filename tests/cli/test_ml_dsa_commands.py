"""ML-DSA on the command line: a key made, root hashes signed, verified and judged."""

import json
from pathlib import Path

import pytest
from helpers import cli, noise
from pki import ML_DSA_SPECS

from dmsign_fast.signing.local import load_local_signer


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Return a key and certificates by spec, as ``cert generate-test`` leaves them."""
    monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "config"))

    def make(spec):
        done = cli("cert", "generate-test", "--key-type", spec.lower(), spec, "--output", "json")
        assert done.exit_code == 0, done
        made = json.loads(done.out)
        return made["key_path"], made["certificate_path"], made["root_path"]

    return make


def verdict_of(data, root):
    done = cli("doctor", "--signature", f"{data}.roothash.p7s", "--cert", root, "--output", "json")
    return json.loads(done.out)


@pytest.mark.parametrize("spec", ML_DSA_SPECS)
def test_signed_and_verified(spec, made, tmp_path):
    key, chain, root = made(spec)
    data = tmp_path / "data"
    data.write_bytes(noise(8192))
    done = cli("verity", "sign", data, "--key", key, "--cert", chain)
    assert done.exit_code == 0, done
    options = (
        *("verity", "verify", data, f"{data}.verity", "--root-hash-file", f"{data}.roothash"),
        *("--signature", f"{data}.roothash.p7s"),
    )
    done = cli(*options, "--cert", root, "--output", "json")
    assert done.exit_code == 0, done
    found = json.loads(done.out)["signature"]
    assert (found["scheme"], found["key_spec"]) == (spec.lower(), spec)
    assert "CONFIG_CRYPTO_MLDSA" in found["needs"]
    assert "built with CONFIG_CRYPTO_MLDSA" in cli(*options, "--cert", root).field("Needs")
    verdict = verdict_of(data, root)
    assert verdict["outcome"] == "accepted"
    assert "CONFIG_CRYPTO_MLDSA" in verdict["needs"]
    text = cli("doctor", "--signature", f"{data}.roothash.p7s", "--cert", root).out
    assert "Needs:          Linux 7.0 or newer, built with CONFIG_CRYPTO_MLDSA" in text
    _, _, other = made("ML-DSA-44" if spec != "ML-DSA-44" else "ML-DSA-87")
    assert cli(*options, "--cert", other).exit_code != 0
    assert verdict_of(data, other)["errno"] == "ENOKEY"


def test_prepared_and_attached(made, tmp_path):

    key, chain, _ = made("ML-DSA-65")
    data, directory = tmp_path / "data", tmp_path / "asked"
    data.write_bytes(noise(8192))
    done = cli("verity", "prepare", data, "--cert", chain, "-o", directory)
    assert done.exit_code == 0, done
    assert "ml-dsa-65" in done.out
    signer = load_local_signer(Path(key), Path(chain))
    (message,) = directory.glob("*.txt")
    signature = signer._key.sign(message.read_bytes())
    message.with_name(f"{message.name}.sig").write_bytes(signature[:-1])
    assert cli("verity", "attach", directory, data).exit_code == 5
    message.with_name(f"{message.name}.sig").write_bytes(signature)
    done = cli("verity", "attach", directory, data)
    assert done.exit_code == 0, done
    assert verdict_of(data, chain)["outcome"] == "accepted"
