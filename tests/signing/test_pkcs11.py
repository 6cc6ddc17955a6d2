"""Keys and certificates on PKCS#11 tokens, here SoftHSM 2, and commands that sign with them."""

import os

import pkcs11
import pytest
from asn1crypto.core import PrintableString
from container_images import push_image, tars
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key
from helpers import cli, dmsign, noise, write
from notation import SCOPE, Notation
from pkcs11 import Attribute, KeyType
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters
from pki import (
    Entity,
    make_entity,
    make_expired_leaf,
    make_intermediate,
    make_leaf,
    make_root,
    pem,
)
from signing.softhsm import LEAF, PIN, ROOT, WITH_PIN, softhsm, works

from dmsign_fast.envelope.pkcs7 import verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import SigningError
from dmsign_fast.oci.layout import Layout
from dmsign_fast.signing.providers import KeyOptions, open_signer
from dmsign_fast.signing.scheme import SCHEMES, Family


def test_too_many_keys(token):
    token.put(make_leaf(name="other"), b"\2", "key")
    with pytest.raises(SigningError, match=r"2 private keys .*:object=key;id=%01, .*;id=%02$"):
        open_signer(token.uri("object=key"), WITH_PIN)
    assert works(open_signer(token.uri("object=key;id=%01"), WITH_PIN))


def test_a_key_that_is_made_on_the_token(hsm):
    token = hsm.token("born")
    with token.opened() as session:
        parameters = session.create_domain_parameters(
            KeyType.EC,
            {Attribute.EC_PARAMS: encode_named_curve_parameters("secp384r1")},
            local=True,
        )
        public, _ = parameters.generate_keypair(store=True, id=b"\7", label="born")
        key = load_der_public_key(encode_ec_public_key(public))
    issuer = make_root()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string("CN=Born"))
        .issuer_name(issuer.certificate.subject)
        .public_key(key)
        .serial_number(7)
        .not_valid_before(LEAF.certificate.not_valid_before_utc)
        .not_valid_after(LEAF.certificate.not_valid_after_utc)
        .sign(issuer.key, issuer.certificate.signature_hash_algorithm)
    )
    born = Entity(None, certificate, issuer.chain)
    token.put(born, b"\7", "born", "certificate")
    signer = open_signer(token.uri("object=born"), WITH_PIN)
    assert signer.key_spec == "EC-384"
    assert works(signer, born)


def test_the_chain_is_what_the_token_has_of_it(token):
    stranger = make_root("Stranger")
    token.put(stranger, b"\2", "stranger", "certificate")
    assert open_signer(token.uri(), WITH_PIN).certificate_chain == LEAF.chain[:1]
    for above in LEAF.chain[:0:-1]:
        token.put(Entity(None, above), b"", "above", "certificate")
    assert open_signer(token.uri(), WITH_PIN).certificate_chain == LEAF.chain


def test_certificates_of_a_file(hsm, tmp_path):
    token = hsm.token("bare")
    token.put(LEAF, b"\1", "key", "private", "public")
    with pytest.raises(SigningError, match=r"token bare: it has no certificate .*id=%01; give -"):
        open_signer(token.uri(), WITH_PIN)
    files = LEAF.write(tmp_path)
    signer = open_signer(token.uri(), KeyOptions(secret=lambda what: PIN, certificates=files.chain))
    assert signer.certificate_chain == LEAF.chain
    assert works(signer)


@pytest.mark.parametrize("spec", ["EC-521", "RSA-2048"])
def test_no_public_key_object(hsm, spec, tmp_path):
    """RSA private keys show their modulus, EC ones no point: the certificate has to say."""
    token = hsm.token("private")
    leaf, other = make_leaf(key=spec), make_leaf(name="other", key=spec)
    token.put(leaf, b"\1", "key", "private", "certificate")
    assert works(open_signer(token.uri(), WITH_PIN), leaf)
    options = KeyOptions(secret=lambda what: PIN, certificates=leaf.write(tmp_path).chain)
    assert works(open_signer(token.uri(), options), leaf)
    other.write(tmp_path)
    with pytest.raises(SigningError, match=r"wrong key for|not a .* signature by the key of its"):
        works(open_signer(token.uri(), options), other)


def test_the_wrong_certificate(hsm, tmp_path):
    token = hsm.token("wrong")
    token.put(LEAF, b"\1", "key", "private", "public")
    other = make_leaf(name="other")
    token.put(other, b"\1", "key", "certificate")
    with pytest.raises(SigningError, match="CN=other has the key's id and is of another key"):
        open_signer(token.uri(), WITH_PIN)
    file = write(tmp_path / "other.pem", pem(other.certificate))
    options = KeyOptions(secret=lambda what: PIN, certificates=file)
    with pytest.raises(SigningError, match=r"other.pem: wrong key for the certificate"):
        open_signer(token.uri(), options)


def test_certificates_that_must_not_sign(hsm):
    token = hsm.token("expired")
    expired = make_expired_leaf(ROOT, name=LEAF.certificate.subject.rfc4514_string()[3:])
    token.put(expired, b"\1", "key")
    with pytest.raises(SigningError, match=r"token expired: the certificate .* expired"):
        open_signer(token.uri(), WITH_PIN)
    token.put(make_leaf(ROOT), b"\1", "renewed", "certificate")
    with pytest.raises(SigningError, match=r"2 certificates of this key, .*serial .*; give --cert"):
        open_signer(token.uri(), WITH_PIN)


@pytest.mark.parametrize("spec", ["EC-256", "EC-384", "EC-521"])
def test_points_without_their_octet_string(hsm, spec, faults):
    token = hsm.token("points")
    leaf = make_leaf(key=spec)
    token.put(leaf, b"\1", "key")
    faulty = hsm.faulty(token, faults)
    for os.environ["FAULTS"] in ("raw=1", ""):
        assert works(open_signer(faulty.uri(), WITH_PIN), leaf)


@pytest.mark.parametrize("kind", ["RSA-1024", "EC-256K1"])
def test_kinds_of_key_without_support(hsm, kind):
    token = hsm.token("kinds")
    token.put(make_entity("odd", key=kind), b"\1", "key")
    with pytest.raises(SigningError, match=r"no support for .*; use one of RSA-2048"):
        open_signer(token.uri(), WITH_PIN)


def test_edwards_keys_are_without_support(hsm):
    token = hsm.token("edwards")
    with token.opened() as session:
        parameters = session.create_domain_parameters(
            KeyType.EC_EDWARDS,
            {Attribute.EC_PARAMS: PrintableString("edwards25519").dump()},
            local=True,
        )
        parameters.generate_keypair(
            mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN, store=True, id=b"\1"
        )
    with pytest.raises(SigningError, match=r"of the kind EC_EDWARDS; use one of RSA-2048"):
        open_signer(token.uri(), WITH_PIN)


def test_a_key_that_is_not_for_signing(hsm):
    token = hsm.token("decrypts")
    token.put(make_leaf(key="RSA-2048"), b"\1", "key", sign=False)
    with pytest.raises(SigningError, match="id=%01 is not for signing: its CKA_SIGN is false"):
        open_signer(token.uri(), WITH_PIN)


# Mechanisms


@pytest.mark.parametrize(
    ("spec", "family", "only"),
    [
        ("RSA-2048", Family.RSA_PKCS1, "CKM_SHA{}_RSA_PKCS"),
        ("RSA-3072", Family.RSA_PSS, "CKM_SHA{}_RSA_PKCS_PSS"),
    ],
)
def test_a_token_that_must_hash_itself(spec, family, only, tmp_path):
    leaf = make_leaf(key=spec)
    mechanisms = ",".join(only.format(bits) for bits in (256, 384, 512))
    with softhsm(tmp_path / "softhsm", **{"slots.mechanisms": mechanisms}) as hsm:
        token = hsm.token("hashes")
        token.put(leaf, b"\1", "key")
        signer = open_signer(token.uri(), WITH_PIN)
        for scheme in SCHEMES:
            if spec in scheme.key_specs and scheme.family is family:
                signature = signer.sign(b"message" * 1000, scheme)
                leaf.key.public_key().verify(signature, b"message" * 1000, *scheme.arguments)


def test_a_token_that_cannot(tmp_path):
    with softhsm(tmp_path / "softhsm", **{"slots.mechanisms": "CKM_RSA_PKCS"}) as hsm:
        token = hsm.token("cannot")
        token.put(LEAF, b"\1", "key")
        with pytest.raises(SigningError, match="neither CKM_ECDSA nor CKM_ECDSA_SHA256; use"):
            works(open_signer(token.uri(), WITH_PIN))


# The command line


@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_the_command_line(token, tmp_path, debug):
    data = write(tmp_path / "data", noise(8192))
    pin = write(tmp_path / "pin", PIN + b"\n")
    wrong = write(tmp_path / "wrong", b"4711 wrong\n")
    command = ("verity", "sign", data, "--key", token.uri("object=key"), *debug)
    for options, environment in (
        (("--passphrase-file", wrong), {}),
        (("--passphrase-env", "THE_PIN"), {"THE_PIN": "4711 wrong"}),
    ):
        done = dmsign(*command, *options, environment=environment)
        assert done.exit_code == 5
        assert "wrong PIN for the token signing" in done.err
        assert "4711" not in done.out + done.err
        assert bool(debug) == ("Traceback" in done.err)
        assert not list(tmp_path.glob("data.*"))
    done = dmsign(*command, "--passphrase-file", pin)
    assert done.exit_code == 0, done.err
    assert PIN.decode() not in done.out + done.err
    root_hash = bytes.fromhex((tmp_path / "data.roothash").read_text())
    signature = (tmp_path / "data.roothash.p7s").read_bytes()
    verify_root_hash(signature, root_hash, TrustAnchors(LEAF.chain))


@pytest.mark.parametrize("form", ["jws", "cose"])
def test_an_image_before_notation(hsm, form, tmp_path):
    token = hsm.token("images")
    leaf = make_leaf(make_intermediate(ROOT), key="RSA-2048")
    token.put(leaf, b"\1", "key", "private", "public")
    files = leaf.write(tmp_path / "pki")
    store = Layout.create(tmp_path / "oci")
    image = push_image(store, "v1", tars(2))
    command = ("sign", "--oci-layout", f"{tmp_path}/oci:v1", "--signature-format", form)
    key = ("--key", token.uri("object=key"), "--cert", files.chain, "--passphrase-file")
    done = cli(*command, *key, write(tmp_path / "wrong", b"wrong"))
    assert done.exit_code == 5
    assert not store.referrers(image.descriptor)
    done = cli(*command, *key, write(tmp_path / "pin", PIN))
    assert done.exit_code == 0, done.err
    assert len(store.referrers(image.descriptor)) == 2
    (tmp_path / "home").mkdir()
    notation = Notation(tmp_path / "home")
    notation.trust(pem(leaf.root))
    reference = f"{tmp_path}/oci@{image.descriptor.digest}"
    done = notation("verify", "--oci-layout", reference, "--scope", SCOPE)
    assert done.exit_code == 0, done.err
