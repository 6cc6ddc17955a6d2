"""AWS KMS by boto3: what is asked of it, and each way in which it does not sign."""

import logging

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from helpers import dmsign, write
from helpers_pkcs7 import ROOT_HASH
from notation import Layout
from pki import ML_DSA_SPECS, make_leaf, make_root, openssl
from signing.kms_server import REGION, SECRET, SESSION, kms

from dmsign_fast.envelope.pkcs7 import sign_root_hash, verify_root_hash
from dmsign_fast.envelope.signed_content import sign_content
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import ParameterError, SigningError
from dmsign_fast.signing import aws_kms
from dmsign_fast.signing.providers import KeyOptions, open_signer
from dmsign_fast.signing.scheme import SCHEMES


@pytest.fixture
def server(monkeypatch, tmp_path):
    with kms(monkeypatch, tmp_path) as server:
        yield server


@pytest.fixture
def entity():
    return make_leaf(make_root())


@pytest.fixture
def arn(server, entity):
    return server.put(entity)


@pytest.fixture
def options(entity, tmp_path):
    return KeyOptions(certificates=entity.write(tmp_path).chain)


def test_ways_to_name_a_key(server, arn, options, monkeypatch):
    server.admin.create_alias(AliasName="alias/release/1", TargetKeyId=arn.rpartition("/")[2])
    alias = arn.rpartition(":")[0] + ":alias/release/1"
    identity = arn.rpartition("/")[2]
    named = (f"aws-kms:{arn}", f"aws-kms:{alias}", f"aws-kms:///{arn}", f"aws-kms://{REGION}/{arn}")
    for uri in (*named, f"aws-kms://{REGION}/{identity}", f"aws-kms://{REGION}/alias/release/1"):
        open_signer(uri, options).sign(b"", SCHEMES[6])
        asked, signed = server.asked[-2:]
        assert asked == {
            "KeyId": uri.removeprefix("aws-kms:").removeprefix(f"//{REGION}/").strip("/")
        }
        assert signed["KeyId"] == arn
    with pytest.raises(SigningError, match=rf"in which region .*aws-kms://REGION/{identity}, or"):
        open_signer(f"aws-kms:///{identity}", options)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    assert open_signer(f"aws-kms:///{identity}", options).key_spec == "EC-256"


@pytest.mark.parametrize(
    "uri",
    [
        "aws-kms:",
        "aws-kms:1234",
        "aws-kms://eu-central-1",
        "aws-kms://eu-central-1/",
        "aws-kms:alias/a",
        "aws-kms:///alias/",
        "aws-kms:///a/b",
        "aws-kms:///a?b=c",
        "aws-kms:arn:aws:kms:eu-central-1:123456789012:secret/1",
        "aws-kms:arn:aws:s3:eu-central-1:123456789012:key/1",
        "aws-kms://us-east-1/arn:aws:kms:eu-central-1:123456789012:key/1",
        "aws-kms:arn:aws:kms:eu-central-1:123456789012:key/1\n",
    ],
)
def test_what_is_not_the_uri_of_a_key(uri):
    with pytest.raises(ParameterError, match="is not aws-kms:ARN or aws-kms://REGION/ID"):
        open_signer(uri)


def test_only_the_digest_leaves(server, arn, options):
    signer = open_signer(f"aws-kms:{arn}", options)
    server.asked.clear()
    signer.sign(b"message" * 1000, SCHEMES[6])
    (asked,) = server.asked
    assert (asked["MessageType"], asked["SigningAlgorithm"]) == ("DIGEST", "ECDSA_SHA_256")
    assert len(asked["Message"]) == 44  # base64 of 32 bytes


@pytest.mark.parametrize("spec", ML_DSA_SPECS)
def test_ml_dsa(spec, server, tmp_path):
    entity = make_leaf(make_root(f"Root {spec}", key=spec), f"Signer {spec}", key=spec)
    options = KeyOptions(certificates=entity.write(tmp_path).chain)
    signer = open_signer(f"aws-kms:{server.put(entity)}", options)
    assert signer.key_spec == spec
    signature = sign_root_hash(ROOT_HASH, signer)
    verdict = verify_root_hash(signature, ROOT_HASH, TrustAnchors((entity.root,)))
    assert verdict.scheme == spec.lower()
    asked = server.asked[-1]
    assert (asked["MessageType"], asked["SigningAlgorithm"]) == ("EXTERNAL_MU", "ML_DSA_SHAKE_256")
    assert len(asked["Message"]) == 88  # base64 of 64 bytes
    policy = b"x" * 30000  # KMS itself would take 4096 bytes
    message = sign_content(policy, signer)
    assert policy in message
    with pytest.raises(SigningError, match="cannot make a rsassa-pkcs1"):
        signer.sign(b"", SCHEMES[0])


def test_ml_dsa_that_cryptography_does_not_know(server, tmp_path, monkeypatch):
    entity = make_leaf(make_root(), key="ML-DSA-44")
    arn, files = server.put(entity), entity.write(tmp_path)

    def unknown(_):
        raise UnsupportedAlgorithm("unknown")

    monkeypatch.setattr(aws_kms, "load_der_public_key", unknown)
    monkeypatch.setattr(aws_kms, "ml_dsa_problem", lambda: "pip install it")
    with pytest.raises(SigningError, match="in AWS KMS: pip install it"):
        open_signer(f"aws-kms:{arn}", KeyOptions(certificates=files.chain))


def test_certificates(server, arn, options, tmp_path):
    with pytest.raises(SigningError, match=r"keeps no certificates; give the key's with --cert"):
        open_signer(f"aws-kms:{arn}")
    other = make_leaf(name="Other").write(tmp_path / "other")
    with pytest.raises(SigningError, match=r"chain.pem: wrong key for the certificate"):
        open_signer(f"aws-kms:{arn}", KeyOptions(certificates=other.chain))


@pytest.mark.parametrize("spec", ["RSA_2048", "ECC_NIST_P384"])
def test_a_certificate_for_a_key_that_is_in_kms_only(spec, server, tmp_path):
    """The lines of docs/providers.md."""
    arn, root = server.create(spec), make_root().write(tmp_path)
    public_key = server.admin.get_public_key(KeyId=arn)["PublicKey"]
    write(tmp_path / "key.der", public_key)
    extensions = b"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
    write(tmp_path / "leaf.ext", extensions)
    key = ("-new", "-force_pubkey", "key.der", "-keyform", "DER", "-subj", "/CN=Release signing")
    issuer = ("-CA", str(root.root), "-CAkey", str(root.key), "-days", "365", "-sha256")
    openssl("x509", *key, *issuer, "-extfile", "leaf.ext", "-out", "leaf.pem", cwd=tmp_path)
    chain = (tmp_path / "leaf.pem").read_bytes() + root.root.read_bytes()
    options = KeyOptions(certificates=write(tmp_path / "both.pem", chain))
    sign_root_hash(ROOT_HASH, open_signer(f"aws-kms:{arn}", options))


@pytest.mark.parametrize(
    ("spec", "usage", "message"),
    [
        ("RSA_2048", "ENCRYPT_DECRYPT", "is for ENCRYPT_DECRYPT; use one made for SIGN_VERIFY"),
        ("ECC_NIST_P256", "KEY_AGREEMENT", "is for KEY_AGREEMENT; use one made for SIGN_VERIFY"),
        ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "use an asymmetric key made for SIGN_VERIFY"),
        ("ECC_SECG_P256K1", "SIGN_VERIFY", "in AWS KMS: no support for .*secp256k1; use one of"),
    ],
)
def test_keys_that_cannot_sign(spec, usage, message, server, options):
    arn = server.create(spec, usage)
    with pytest.raises(SigningError, match=message):
        open_signer(f"aws-kms:{arn}", options)


def test_a_key_that_is_disabled_or_going_away(server, arn, options):
    signer = open_signer(f"aws-kms:{arn}", options)
    server.admin.disable_key(KeyId=arn[-36:])
    with pytest.raises(SigningError, match=f"key {arn}: DisabledException: .*; enable the key"):
        signer.sign(b"", SCHEMES[6])
    server.admin.schedule_key_deletion(KeyId=arn[-36:])
    for act in (
        lambda: signer.sign(b"", SCHEMES[6]),
        lambda: open_signer(f"aws-kms:{arn}", options),
    ):
        with pytest.raises(SigningError, match=r"pending deletion.*; .*cancel its deletion"):
            act()


def test_a_key_that_is_not_there(server, arn, options):
    for uri in (
        f"aws-kms:{arn}0",
        f"aws-kms://us-east-1/{arn[-36:]}",
        f"aws-kms://{REGION}/alias/a",
    ):
        with pytest.raises(SigningError, match=r"NotFoundException: .*; check the region and"):
            open_signer(uri, options)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("AccessDeniedException", "allow kms:GetPublicKey and kms:Sign"),
        ("ExpiredTokenException", "renew the credentials"),
        ("UnrecognizedClientException", "renew the credentials"),
        ("InvalidSignatureException", "this machine's clock"),
        ("Novelty", "see the documentation"),
    ],
)
def test_refusals_are_not_retried(code, remedy, server, arn, options):
    signer = open_signer(f"aws-kms:{arn}", options)
    server.asked.clear()
    server.faults.append((code, "the reason"))
    with pytest.raises(SigningError, match=f"the key {arn}: {code}: the reason; .*{remedy}"):
        signer.sign(b"", SCHEMES[6])
    assert len(server.asked) == 1


def test_throttling_is_retried_and_not_for_ever(server, arn, options, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    signer = open_signer(f"aws-kms:{arn}", options)
    throttled = ("ThrottlingException", "Rate exceeded")
    server.faults += [throttled]
    assert signer.sign(b"", SCHEMES[6])
    server.faults += [throttled] * 9
    with pytest.raises(SigningError, match="Rate exceeded; try again later"):
        signer.sign(b"", SCHEMES[6])
    assert len(server.faults) == 7


def test_no_credentials_and_no_network(server, arn, options, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")
    with pytest.raises(SigningError, match=r"cannot be asked .*Could not connect to the endpoint"):
        open_signer(f"aws-kms:{arn}", options)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "nowhere")
    with pytest.raises(SigningError, match=r"cannot be asked .*Invalid endpoint: nowhere"):
        open_signer(f"aws-kms:{arn}", options)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", server.url)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SigningError, match=r"AWS KMS cannot be asked .*Partial credentials"):
        open_signer(f"aws-kms:{arn}", options)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SigningError, match="there are no AWS credentials; set AWS_PROFILE"):
        open_signer(f"aws-kms:{arn}", options)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SigningError, match=r"cannot be asked .*nobody"):
        open_signer(f"aws-kms:{arn}", options)


@pytest.mark.parametrize("signature", ["", "AAAA", "MAYCAQECAQE="])
def test_answers_that_are_no_signature(signature, server, arn, options):
    signer = open_signer(f"aws-kms:{arn}", options)
    server.changes["Signature"] = signature
    with pytest.raises(SigningError, match="answer is not a ecdsa-sha256 signature"):
        sign_root_hash(ROOT_HASH, signer)


def test_an_answer_that_is_no_public_key(server, arn, options):
    server.changes["PublicKey"] = "AAAA"
    with pytest.raises(SigningError, match=f"the public key of {arn} in AWS KMS: "):
        open_signer(f"aws-kms:{arn}", options)


def test_nothing_shows_the_secret(server, arn, options, caplog):
    caplog.set_level(logging.INFO)
    signer = open_signer(f"aws-kms:{arn}", options)
    signer.sign(b"", SCHEMES[6])
    assert SECRET not in repr(signer) + caplog.text
    assert SESSION not in repr(signer) + caplog.text


def test_the_command_line(server, tmp_path):
    entity = make_leaf(make_root(), key="RSA-2048")
    arn, chain = server.put(entity), entity.write(tmp_path).chain
    layout = Layout(tmp_path / "oci")
    target = ("sign", "--oci-layout", f"{layout.root}:v1", "--no-dm-verity")
    target += ("--key", f"aws-kms:{arn}")
    refused = dmsign(*target)
    assert (refused.exit_code, refused.out) == (5, "")
    assert "give the key's with --cert" in refused.err
    server.faults.append(("AccessDeniedException", "not you"))
    denied = dmsign(*target, "--cert", chain)
    assert denied.exit_code == 5
    assert "AccessDeniedException: not you; allow kms:GetPublicKey" in denied.err
    assert not layout.signatures()
    done = dmsign(*target, "--cert", chain)
    assert done.exit_code == 0, done.err
    assert layout.signatures()
