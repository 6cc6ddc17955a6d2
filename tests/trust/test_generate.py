"""Chains for tests: our verifiers here, and notation in the tests of the commands, take them."""

from datetime import UTC, datetime, timedelta

import pytest
from config_tree import tree
from cryptography import x509
from pki import pem

from dmsign_fast.envelope.chain import Purpose, chain_problem
from dmsign_fast.envelope.linux import certificate_problem
from dmsign_fast.envelope.pkcs7 import sign_root_hash, verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors, signature_problem
from dmsign_fast.errors import DmsignError, ParameterError, VerificationError
from dmsign_fast.signing.certificates import extension, issued
from dmsign_fast.signing.local import load_local_signer
from dmsign_fast.signing.scheme import KeySpec, certificate_key_spec
from dmsign_fast.trust.generate import generate_chain, generate_test
from dmsign_fast.trust.identity import identity_problem, parse_identities
from dmsign_fast.trust.keys import load_signing_keys
from dmsign_fast.trust.store import add_certificates, load_store

DAY = timedelta(days=1)
ROOT_HASH = bytes(range(32))


@pytest.mark.parametrize("key_spec", KeySpec)
def test_a_chain_is_by_the_rules_of_kernel_and_notary(key_spec):
    _, chain = generate_chain("example.com", key_spec, DAY)
    leaf, root = chain
    assert chain_problem(chain, Purpose.CODE_SIGNING) is None
    assert not any(certificate_problem(one) or signature_problem(one) for one in chain)
    assert {certificate_key_spec(one) for one in chain} == {key_spec}
    assert issued(root, leaf)
    named = extension(root, x509.SubjectKeyIdentifier).value.digest
    for one in chain:
        assert extension(one, x509.AuthorityKeyIdentifier).value.key_identifier == named


def test_what_the_certificates_say():
    now = datetime(2026, 5, 4, 3, 2, 1, 999, tzinfo=UTC)
    _, (leaf, root) = generate_chain("example.com", KeySpec.EC_256, 3 * DAY, at=now)
    for one in (leaf, root):
        assert one.not_valid_before_utc == now.replace(microsecond=0)
        assert one.not_valid_after_utc == one.not_valid_before_utc + 3 * DAY
        assert one.version is x509.Version.v3
    names = "CN=example.com{},O=Notary,L=Seattle,ST=WA,C=US"
    assert leaf.subject.rfc4514_string() == names.format("")
    assert root.subject.rfc4514_string() == names.format(" root")

    def said(certificate):
        return {(one.oid._name, one.critical) for one in certificate.extensions}

    both = {
        ("basicConstraints", True),
        ("keyUsage", True),
        ("subjectKeyIdentifier", False),
        ("authorityKeyIdentifier", False),
    }
    assert said(root) == both
    assert said(leaf) == both | {("extendedKeyUsage", False)}
    constraints = extension(root, x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert not extension(leaf, x509.BasicConstraints).value.ca
    usages = [extension(one, x509.KeyUsage).value for one in (leaf, root)]
    assert [(one.digital_signature, one.key_cert_sign) for one in usages] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("key_spec", [KeySpec.RSA_2048, KeySpec.EC_521])
def test_root_hashes_are_verified_against_the_root(tmp_path, key_spec):
    made = generate_test(tmp_path, "test", key_spec, default=True)
    key = load_signing_keys(tmp_path).get()
    assert key == made.key
    signer = load_local_signer(key.key, key.certificates)
    assert signer.certificate_chain == made.chain
    anchors = load_store(tmp_path, "ca", "test")
    assert anchors == TrustAnchors(made.chain[1:])
    signature = sign_root_hash(ROOT_HASH, signer)
    assert len(verify_root_hash(signature, ROOT_HASH, anchors).path) == 2
    other = generate_test(tmp_path, "other", key_spec).chain
    for wrong in (other[1], other[0]):
        with pytest.raises(VerificationError):
            verify_root_hash(signature, ROOT_HASH, TrustAnchors((wrong,)))
    # without certificates a kernel must know the signer's own
    bare = sign_root_hash(ROOT_HASH, signer, certificates=False)
    verify_root_hash(bare, ROOT_HASH, TrustAnchors(made.chain[:1]))
    with pytest.raises(VerificationError):
        verify_root_hash(bare, ROOT_HASH, anchors)


def test_the_identity_of_notations_quickstart_fits():
    _, (leaf, _) = generate_chain("wabbit-networks.io", KeySpec.EC_256, DAY)
    quickstart = "x509.subject: CN=wabbit-networks.io,O=Notary,L=Seattle,ST=WA,C=US"
    assert identity_problem(leaf, parse_identities([quickstart], "test")) is None


def test_roots_of_several_keys_in_one_store(tmp_path):
    for name in ("one", "two"):
        generate_test(tmp_path, name, KeySpec.EC_256, store="tests")
    assert len(load_store(tmp_path, "ca", "tests").certificates) == 2
    keys = load_signing_keys(tmp_path)
    assert (list(keys.keys), keys.default) == (["one", "two"], None)


def taken_key(config):
    (config / "signingkeys.json").write_text(
        '{"keys": [{"name": "test", "pluginName": "p", "id": "i"}]}'
    )


def taken_file(name):
    def take(config):
        (config / name).parent.mkdir()
        (config / name).symlink_to("/nowhere")

    return take


def taken_store(config):
    root = generate_chain("x", KeySpec.EC_256, DAY)[1][1]
    (config / "test.crt").write_bytes(pem(root))
    add_certificates(config, "ca", "test", [config / "test.crt"])


@pytest.mark.parametrize(
    "take",
    [taken_key, taken_file("localkeys/test.key"), taken_file("localkeys/test.crt"), taken_store],
    ids=["key", "key file", "certificate file", "store"],
)
def test_where_the_name_is_taken_nothing_is_written(tmp_path, take):
    take(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(DmsignError, match="already"):
        generate_test(tmp_path, "test", KeySpec.EC_256, default=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "../x"},
        {"name": ".."},
        {"name": ""},
        {"name": "a b"},
        {"name": 60 * "n"},
        {"store": "a/b"},
        {"store": ""},
        {"days": 0},
        {"days": 10**9},
    ],
    ids=str,
)
def test_arguments_out_of_range(tmp_path, wrong):
    arguments = {"name": "test", "key_spec": KeySpec.EC_256} | wrong
    with pytest.raises(ParameterError):
        generate_test(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_the_longest_name(tmp_path):
    made = generate_test(tmp_path, 59 * "n", KeySpec.EC_256)
    assert made.root.exists()
