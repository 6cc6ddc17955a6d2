"""``notation-dmsign``: what it answers to whom, and that a secret is never in it."""

import base64
import json
import os
import re
import subprocess
import sys

import pytest
from helpers import cli, write
from notation import Layout, Notation
from pki import KEY_SPECS, make_intermediate, make_leaf, make_root, pem

from dmsign_fast.signing.certificates import parse_certificate
from dmsign_fast.signing.scheme import (
    SCHEMES,
    Family,
    KeySpec,
    from_fixed_width,
    notary_scheme,
    signature_matches,
)

SECRET = "Pass phrase 42"
MODULE = ("-m", "dmsign_fast.cli.notation_plugin")


@pytest.fixture
def leaf():
    return make_leaf(make_intermediate(make_root()))


def ask(command, request=None, *, program=MODULE, **environment):
    """Return the answer, or the error with its code."""
    done = subprocess.run(
        [sys.executable, *program, *command.split()],
        input=request if isinstance(request, bytes) else json.dumps(request or {}).encode(),
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )
    said, silent = (done.stderr, done.stdout) if done.returncode else (done.stdout, done.stderr)
    assert done.returncode in (0, 1), done
    assert silent == b""
    assert SECRET.encode() not in said
    return json.loads(said)


def request(key_id, config=None, **members):
    known = {"contractVersion": "1.0", "keyId": key_id, "pluginConfig": config or {}}
    return known | members


def signing(key_id, key_spec, scheme, config=None):
    return request(
        key_id,
        config,
        keySpec=key_spec,
        hashAlgorithm=f"SHA-{scheme.digest[3:]}",
        payload=base64.b64encode(b"message").decode(),
    )


def test_metadata():
    said = ask("get-plugin-metadata", b"")
    assert said == ask("get-plugin-metadata", {"pluginConfig": {"a": "b"}})
    assert said["name"] == "dmsign"
    assert said["capabilities"] == ["SIGNATURE_GENERATOR.RAW"]
    assert said["supportedContractVersions"] == ["1.0"]
    # notation compares versions only of this form
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[a-z]+\.\d+)?", said["version"])


@pytest.mark.parametrize("key_spec", ["RSA-2048", "EC-521"])
def test_raw_signatures_in_every_scheme(key_spec, tmp_path):
    leaf = make_leaf(make_root(), key=key_spec)
    files = leaf.write(tmp_path)
    key_id = f"file:{files.key}?cert={files.chain}"
    assert ask("describe-key", request(key_id)) == {"keyId": key_id, "keySpec": key_spec}
    for scheme in SCHEMES:
        if KeySpec(key_spec) not in scheme.key_specs:
            continue
        pkcs1 = scheme.family is Family.RSA_PKCS1
        config = {"signing_scheme": "rsassa-pkcs1-v1_5"} if pkcs1 else {}
        said = ask("generate-signature", signing(key_id, key_spec, scheme, config))
        assert said["keyId"] == key_id
        chain = [parse_certificate(base64.b64decode(one)) for one in said["certificateChain"]]
        assert chain == list(leaf.chain)
        signature = from_fixed_width(base64.b64decode(said["signature"]), scheme)
        assert signature_matches(chain[0], b"message", signature, scheme)
        assert said["signingAlgorithm"].endswith(f"-SHA-{scheme.digest[3:]}")
        assert ("PKCS1" in said["signingAlgorithm"]) == pkcs1


def test_the_contract_has_no_ml_dsa(tmp_path):
    files = make_leaf(name="Next", key="ML-DSA-65").write(tmp_path)
    key_id = f"file:{files.key}?cert={files.chain}"
    assert (
        "no signatures by a key ML-DSA-65" in ask("describe-key", request(key_id))["errorMessage"]
    )


@pytest.mark.parametrize(
    ("command", "change", "code", "words"),
    [
        ("", {}, "VALIDATION_ERROR", "no support for no command"),
        ("verify-signature", {}, "VALIDATION_ERROR", "no support for verify-signature"),
        ("describe-key", b"{", "VALIDATION_ERROR", "the request is not JSON"),
        ("describe-key", {"keyId": None}, "VALIDATION_ERROR", "keyId is missing"),
        ("describe-key", {"keyId": "key.pem"}, "VALIDATION_ERROR", "is not the URI of a key"),
        ("describe-key", {"keyId": "file:/nothing"}, "VALIDATION_ERROR", "cannot read /nothing"),
        ("describe-key", {"keyId": "plugin:dmsign?id=a"}, "VALIDATION_ERROR", "that plugin itself"),
        (
            "describe-key",
            {"contractVersion": "2.0"},
            "UNSUPPORTED_CONTRACT_VERSION",
            "no support for version 2.0",
        ),
        (
            "describe-key",
            {"pluginConfig": {"passphrase": SECRET}},
            "VALIDATION_ERROR",
            "no support for passphrase in the configuration of the plugin; there are cert, pass",
        ),
        ("generate-signature", {"keySpec": "RSA-2048"}, "VALIDATION_ERROR", "the key is EC-256"),
        ("generate-signature", {"hashAlgorithm": "SHA-512"}, "VALIDATION_ERROR", "with SHA-512"),
        ("generate-signature", {"payload": None}, "VALIDATION_ERROR", "payload is not a string"),
        ("generate-signature", {"payload": "*"}, "VALIDATION_ERROR", "payload is not base64"),
        (
            "generate-signature",
            {"pluginConfig": {"signing_scheme": "rsassa-pkcs1-v1_5"}},
            "VALIDATION_ERROR",
            "a key EC-256 does not sign as rsassa-pkcs1-v1_5",
        ),
        (
            "generate-signature",
            {"pluginConfig": {"signing_scheme": "x"}},
            "VALIDATION_ERROR",
            "signing_scheme x is not one of",
        ),
    ],
)
def test_what_is_refused(command, change, code, words, leaf, tmp_path):
    files = leaf.write(tmp_path)
    key_id = f"file:{files.key}?cert={files.chain}"
    whole = signing(key_id, "EC-256", notary_scheme(KeySpec.EC_256))
    said = ask(command, change if isinstance(change, bytes) else whole | change)
    assert said["errorCode"] == code
    assert words in said["errorMessage"]


def test_where_a_passphrase_is(leaf, tmp_path):
    files = leaf.write(tmp_path, SECRET.encode())
    key_id, cert = f"file:{files.key}", {"cert": str(files.chain)}
    secret = write(tmp_path / "secret", SECRET.encode() + b"\n")
    wrong = write(tmp_path / "wrong", b"wrong")
    for config in ({"passphrase_file": str(secret)}, {"passphrase_env": "HIDDEN"}):
        said = ask("describe-key", request(key_id, cert | config), HIDDEN=SECRET)
        assert said["keySpec"] == "EC-256"
    for config, words in (
        ({}, "name passphrase_file or passphrase_env"),
        ({"passphrase_env": "NOT_SET"}, "NOT_SET is not set"),
        ({"passphrase_file": str(wrong)}, "wrong passphrase"),
    ):
        said = ask("describe-key", request(key_id, cert | config))
        assert said["errorCode"] == "ERROR"
        assert words in said["errorMessage"]


@pytest.mark.parametrize("then", ["{'a': 1}", "1 / 0"])
def test_what_libraries_say_does_not_spoil_the_answer(then):
    code = (
        "import os, sys\nfrom dmsign_fast.cli import notation_plugin\n"
        "def noisy(*_):\n"
        "    print('python', flush=True); print('more', file=sys.stderr)\n"
        "    os.system('echo process; echo error >&2'); print('late')\n"
        f"    return {then}\n"
        "notation_plugin._answer = noisy\nsys.exit(notation_plugin.main())"
    )
    said = ask("describe-key", program=("-c", code))
    assert said == {"a": 1} or "please report it: ZeroDivisionError" in said["errorMessage"]


# the real notation


@pytest.fixture
def notation(tmp_path, monkeypatch):
    """notation and our commands with one configuration, and us installed as a plugin."""
    made = Notation(tmp_path / "home")
    made.home.mkdir()
    monkeypatch.setenv("NOTATION_CONFIG", str(made.config))
    monkeypatch.delenv("NOTATION_LIBEXEC", raising=False)
    assert cli("plugin", "install").exit_code == 0
    return made


@pytest.mark.parametrize("key_spec", KEY_SPECS)
def test_notation_signs_with_our_keys(key_spec, notation, tmp_path):
    leaf = make_leaf(make_intermediate(make_root()), key=key_spec)
    files = leaf.write(tmp_path / "a b", SECRET.encode())
    secret = write(tmp_path / "secret", SECRET.encode())
    layout = Layout(tmp_path / "oci")
    key_id = f"file:{tmp_path}/a%20b/key.pem"
    notation.trust(pem(leaf.root))
    options = ("--plugin", "dmsign", "--id", key_id, "--plugin-config", f"cert={files.chain}")
    secret = ("--plugin-config", f"passphrase_file={secret}")
    for media_type in ("application/jose+json", "application/cose"):
        done = notation.sign(layout, media_type, *options, *secret)
        assert done.exit_code == 0, done.err
        assert SECRET not in done.out + done.err
    assert len(layout.signatures()) == 2
    done = notation.verify(layout)
    assert done.exit_code == 0, done.err
    ours = cli(
        *("verify", "--oci-layout", f"{layout.root}:v1", "--no-dm-verity"),
        *("--trust", files.root),
    )
    assert ours.exit_code == 0, ours.err
    refused = notation.sign(layout, "application/cose", *options)
    assert refused.exit_code == 1
    assert "name passphrase_file or passphrase_env" in refused.err


def test_notation_has_us_in_its_list(notation):
    said = notation("plugin", "ls")
    assert said.exit_code == 0, said.err
    (line,) = (line for line in said.out.splitlines() if line.startswith("dmsign "))
    assert line.split()[-2:] == ["[SIGNATURE_GENERATOR.RAW]", "<nil>"]
    path = notation.config / "plugins/dmsign/notation-dmsign"
    again = notation("plugin", "install", "--file", path)
    assert "already exists" in again.err
    assert notation("plugin", "uninstall", "--yes", "dmsign").exit_code == 0
    assert not path.exists()
