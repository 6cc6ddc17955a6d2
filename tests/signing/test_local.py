import math
import traceback

import pki
import pytest
from asn1crypto import keys as asn1_keys
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from pki import (
    DAY,
    KEY_SPECS,
    NOW,
    Entity,
    der,
    make_expired_leaf,
    make_intermediate,
    make_key,
    make_leaf,
    make_no_signature_leaf,
    make_not_a_ca,
    make_root,
    make_v1_leaf,
    openssl,
    pem,
)

from dmsign_fast.envelope.pkcs7 import sign_root_hash
from dmsign_fast.errors import FormatError, SigningError, StorageError
from dmsign_fast.signing.local import load_local_signer
from dmsign_fast.signing.scheme import KeySpec, pkcs7_scheme
from dmsign_fast.signing.signer import Signer, check_raw_signature

SECRET = b"correct horse battery staple"


@pytest.fixture
def leaf():
    return make_leaf(make_intermediate(make_root()))


def never():
    pytest.fail("the passphrase was asked for")


@pytest.mark.parametrize("spec", KEY_SPECS)
def test_signs_with_each_key_spec(spec, tmp_path):
    files = make_leaf(make_root(), key=spec).write(tmp_path)
    signer: Signer = load_local_signer(files.key, files.chain, never)
    assert signer.key_spec == KeySpec(spec)
    scheme = pkcs7_scheme(signer.key_spec)
    signature = signer.sign(b"message", scheme)
    check_raw_signature(signer.certificate_chain[0], b"message", signature, scheme)


def test_the_chain_may_be_in_any_order_and_in_the_key_file(leaf, tmp_path):
    files = leaf.write(tmp_path)
    files.chain.write_bytes(pem(*leaf.chain[::-1]))
    assert load_local_signer(files.key, files.chain).certificate_chain == leaf.chain
    files.key.write_bytes(pem(*leaf.chain) + leaf.key_pem())
    assert load_local_signer(files.key, files.key).certificate_chain == leaf.chain


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_key_forms(form, encoding, leaf, tmp_path):
    files = leaf.write(tmp_path)
    files.key.write_bytes(leaf.key.private_bytes(encoding, form, NoEncryption()))
    files.chain.write_bytes(der(leaf.certificate))
    signer = load_local_signer(files.key, files.chain, never)
    assert signer.certificate_chain == (leaf.certificate,)


@pytest.mark.parametrize(
    ("encoding", "form"),
    [
        (Encoding.PEM, PrivateFormat.PKCS8),
        (Encoding.DER, PrivateFormat.PKCS8),
        (Encoding.PEM, PrivateFormat.TraditionalOpenSSL),
    ],
)
def test_encrypted_keys(encoding, form, leaf, tmp_path):
    files = leaf.write(tmp_path)
    encrypted = leaf.key.private_bytes(encoding, form, BestAvailableEncryption(SECRET))
    files.key.write_bytes(encrypted)
    assert load_local_signer(files.key, files.chain, lambda: SECRET).key_spec == "EC-256"
    with pytest.raises(SigningError, match=f"{files.key} is encrypted; give its passphrase"):
        load_local_signer(files.key, files.chain)
    for wrong in (b"wrong" + SECRET, b""):
        with pytest.raises(SigningError, match=f"wrong passphrase for {files.key}") as caught:
            load_local_signer(files.key, files.chain, lambda wrong=wrong: wrong)
        shown = "".join(traceback.format_exception(caught.value))
        assert SECRET.decode() not in shown
        assert caught.value.__suppress_context__


def test_nothing_shows_the_key(leaf, tmp_path):
    files = leaf.write(tmp_path)
    signer = load_local_signer(files.key, files.chain)
    assert "key=" not in repr(signer).replace("key_spec=", "")
    assert "PrivateKey" not in repr(signer)


def test_unreadable_files(leaf, tmp_path):
    files = leaf.write(tmp_path)
    with pytest.raises(StorageError, match=r"cannot read .*nothing"):
        load_local_signer(tmp_path / "nothing", files.chain)
    with pytest.raises(StorageError, match=r"cannot read .*nothing"):
        load_local_signer(files.key, tmp_path / "nothing")


def test_not_a_key_and_not_a_certificate(leaf, tmp_path):
    files = leaf.write(tmp_path)
    whole = leaf.key_pem()
    damaged = whole[:60] + b"A" * 20 + whole[80:]
    for data in (b"", b"text", pem(leaf.certificate), damaged, der(leaf.certificate)):
        files.leaf.write_bytes(data)
        with pytest.raises(FormatError, match=f"{files.leaf} is not a private key; give") as caught:
            load_local_signer(files.leaf, files.chain, never)
        assert "\n" not in str(caught.value)
    with pytest.raises(FormatError, match=f"{files.key} is not a certificate"):
        load_local_signer(files.key, files.key)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Ed25519", "no support for a key of the kind .*Ed25519; use one of RSA-2048"),
        ("RSA-1024", "no support for a key of the kind RSA-1024; use one of RSA-2048"),
        ("EC-256K1", "no support for a key of the kind the curve secp256k1; use"),
    ],
)
def test_other_kinds_of_key(kind, message, leaf, tmp_path):
    files = leaf.write(tmp_path)
    files.key.write_bytes(Entity(make_key(kind), leaf.certificate).key_pem())
    with pytest.raises(SigningError, match=message):
        load_local_signer(files.key, files.chain)


def test_what_the_library_does_not_know(leaf, tmp_path):
    """A curve outside its list, in a key and in a certificate, and an old encryption."""
    curve = ("ecparam", "-name", "prime239v1", "-genkey", "-noout", "-out", "odd.key")
    openssl(*curve, cwd=tmp_path)
    certificate = ("req", "-x509", "-new", "-key", "odd.key", "-subj", "/CN=odd", "-out", "odd.pem")
    openssl(*certificate, cwd=tmp_path)
    files = leaf.write(tmp_path)
    with pytest.raises(SigningError, match=r"odd.key: no support for this kind of key"):
        load_local_signer(tmp_path / "odd.key", files.chain)
    with pytest.raises(SigningError, match="wrong key for the certificate"):
        load_local_signer(files.key, tmp_path / "odd.pem")
    old = ("pkcs8", "-topk8", "-v2", "aria-128-cbc", "-passout", "pass:words", "-out", "old.key")
    openssl(*old, "-in", str(files.key), cwd=tmp_path)
    with pytest.raises(SigningError, match=r"an encryption without support; .*openssl pkcs8"):
        load_local_signer(tmp_path / "old.key", files.chain, lambda: b"words")


def test_the_wrong_key_for_the_certificate(leaf, tmp_path):
    files = leaf.write(tmp_path)
    for other in ("EC-256", "EC-384", "RSA-2048"):
        files.key.write_bytes(Entity(make_key(other, "other"), leaf.certificate).key_pem())
        with pytest.raises(SigningError, match=f"{files.chain}: wrong key for the certificate"):
            load_local_signer(files.key, files.chain)


def test_a_key_asked_for_another_scheme(leaf, tmp_path):
    files = leaf.write(tmp_path)
    signer = load_local_signer(files.key, files.chain)
    with pytest.raises(SigningError, match="EC-256 cannot make a ecdsa-sha384"):
        signer.sign(b"message", pkcs7_scheme(KeySpec.EC_384))


def refused_leaves():
    root = make_root()
    yield "expired", make_expired_leaf(root)
    yield "not valid before", make_leaf(root, start=NOW + DAY)
    yield "lacks digitalSignature", make_no_signature_leaf(root)
    yield "not a CA", make_leaf(make_not_a_ca(root))
    yield "X.509 v1", make_v1_leaf(root)
    unrelated = make_root("Unrelated").certificate
    good = make_leaf(root)
    yield "Unrelated is not in the chain", Entity(good.key, good.certificate, (unrelated,))


def test_chains_that_must_not_sign(tmp_path):
    for number, (message, entity) in enumerate(refused_leaves()):
        files = entity.write(tmp_path / str(number))
        with pytest.raises(SigningError, match=f"^{files.chain}: .*{message}"):
            load_local_signer(files.key, files.chain)


def test_the_time_is_a_parameter(tmp_path):
    files = make_expired_leaf(make_root(start=NOW - 20 * DAY)).write(tmp_path)
    assert load_local_signer(files.key, files.chain, at=NOW - 3 * DAY).key_spec == "EC-256"


RSA_NUMBERS = (
    *("modulus", "public_exponent", "private_exponent", "prime1", "prime2"),
    *("exponent1", "exponent2", "coefficient"),
)


@pytest.mark.parametrize("passphrase", [None, SECRET])
@pytest.mark.parametrize("name", RSA_NUMBERS)
def test_an_rsa_key_whose_numbers_do_not_belong_together(name, passphrase, tmp_path):
    entity = make_leaf(make_root(), key="RSA-2048")
    files = entity.write(tmp_path)
    numbers = numbers_of(entity.key)
    numbers[name] += 2
    bad = load_der_private_key(
        asn1_keys.RSAPrivateKey(numbers).dump(), None, unsafe_skip_rsa_key_validation=True
    )
    files.key.write_bytes(Entity(bad, entity.certificate).key_pem(passphrase))
    with pytest.raises(SigningError if passphrase else FormatError):
        load_local_signer(files.key, files.chain, lambda: passphrase)


@pytest.mark.parametrize("other", [lambda _: 0, lambda _: 1, lambda number: -number])
@pytest.mark.parametrize("name", RSA_NUMBERS)
def test_an_rsa_key_with_numbers_that_no_key_has(name, other, tmp_path):
    entity = make_leaf(make_root(), key="RSA-2048")
    files = entity.write(tmp_path)
    numbers = numbers_of(entity.key)
    numbers[name] = other(numbers[name])
    files.key.write_bytes(asn1_keys.RSAPrivateKey(numbers).dump())
    with pytest.raises((FormatError, SigningError)):
        load_local_signer(files.key, files.chain)


def numbers_of(key):
    form = PrivateFormat.TraditionalOpenSSL
    return asn1_keys.RSAPrivateKey.load(
        key.private_bytes(Encoding.DER, form, NoEncryption())
    ).native


def a_key_of_three_primes():
    """As one of two, of which one is a product: its numbers belong together."""
    while True:
        small = [rsa.generate_private_key(65537, 1024).private_numbers().p for _ in range(2)]
        p, q = math.prod(small), rsa.generate_private_key(65537, 2048).private_numbers().p
        if (p * q).bit_length() == 2048 and math.gcd(65537, p - 1) == 1:
            break
    d = pow(65537, -1, math.lcm(p - 1, q - 1))
    numbers = rsa.RSAPrivateNumbers(
        *(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p)), rsa.RSAPublicNumbers(65537, p * q)
    )
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def test_what_a_key_signs_whose_factor_is_not_prime_is_not_used(monkeypatch, tmp_path):
    make = pki.make_key
    bad = a_key_of_three_primes()
    monkeypatch.setattr(
        pki, "make_key", lambda kind, name: bad if kind == "bad" else make(kind, name)
    )
    files = make_leaf(make_root(), key="bad").write(tmp_path)
    signer = load_local_signer(files.key, files.chain)
    with pytest.raises(SigningError, match=r"not a .* signature by the key of its certificate"):
        sign_root_hash(bytes(32), signer)
