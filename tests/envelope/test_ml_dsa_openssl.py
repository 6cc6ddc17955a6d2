"""OpenSSL 4 on ML-DSA: it takes what we make, and we take what it makes.

OpenSSL 3.5 and 3.6 have ML-DSA too, but not in CMS without signed attributes.
"""

import pytest
from helpers_pkcs7 import ROOT_HASH, sign, signer_of, verify
from pki import ML_DSA_SPECS, make_leaf, make_root, pem

from dmsign_fast.envelope.linux import root_hash_message

MESSAGE = root_hash_message(ROOT_HASH)
RSA = make_leaf(name="Beside", key="RSA-2048")
every_spec = pytest.mark.parametrize("spec", ML_DSA_SPECS)


def is_good(openssl, directory, signature, message, *trusted):
    (directory / "signature").write_bytes(signature)
    (directory / "message").write_bytes(message)
    (directory / "trusted").write_bytes(pem(*trusted))
    done = openssl(
        directory,
        *("cms", "-verify", "-binary", "-inform", "DER", "-in", "signature", "-content"),
        *("message", "-CAfile", "trusted", "-partial_chain", "-purpose", "any", "-out", "out"),
    )
    return done.returncode == 0


@every_spec
def test_it_takes_what_we_make(spec, openssl_4, tmp_path):
    alone = make_leaf(name=f"Alone {spec}", key=spec)
    below = make_leaf(make_root(f"Root {spec}", key=spec), f"Below {spec}", key=spec)
    for signature, *trusted in (
        (sign(ROOT_HASH, alone), alone.certificate),
        (sign(ROOT_HASH, below), below.root),
        (
            sign(ROOT_HASH, alone, and_by=[signer_of(RSA)]),
            alone.certificate,
            RSA.certificate,
        ),
    ):
        assert is_good(openssl_4, tmp_path, signature, MESSAGE, *trusted)
        assert not is_good(openssl_4, tmp_path, signature, MESSAGE.upper(), *trusted)


@every_spec
def test_we_take_what_it_makes(spec, openssl_4, tmp_path):
    leaf = make_leaf(name=f"Alone {spec}", key=spec)
    files = leaf.write(tmp_path)
    (tmp_path / "message").write_bytes(MESSAGE)
    made = openssl_4(
        tmp_path,
        *("cms", "-sign", "-noattr", "-binary", "-md", "sha512", "-in", "message"),
        *("-signer", files.leaf, "-inkey", files.key, "-outform", "DER", "-out", "made"),
    )
    assert made.returncode == 0, made.stderr
    theirs = (tmp_path / "made").read_bytes()
    assert verify(theirs, ROOT_HASH, leaf.certificate).scheme == spec.lower()
    # ours has NULL behind the digest, in both places
    assert len(sign(ROOT_HASH, leaf)) == len(theirs) + 4


@every_spec
def test_its_raw_signature_is_the_answer_to_prepare(spec, openssl_4, tmp_path):
    leaf = make_leaf(name=f"Alone {spec}", key=spec)
    key = leaf.write(tmp_path).key
    (tmp_path / "message").write_bytes(MESSAGE)
    words = ("pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", "message", "-out", "answer")
    assert openssl_4(tmp_path, *words).returncode == 0
    leaf.certificate.public_key().verify((tmp_path / "answer").read_bytes(), MESSAGE)
