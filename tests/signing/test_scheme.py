import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from pki import KEY_SPECS, ML_DSA_SPECS, make_entity, make_key, openssl

from dmsign_fast.errors import ParameterError, SigningError
from dmsign_fast.signing.scheme import (
    KEYS,
    SCHEMES,
    Family,
    KeySpec,
    certificate_key_spec,
    key_spec_of,
    notary_scheme,
    pkcs7_scheme,
    signature_matches,
)


@pytest.mark.parametrize("kind", KEY_SPECS + ML_DSA_SPECS)
def test_key_spec_of_each_kind(kind):
    assert key_spec_of(make_key(kind).public_key()) == KeySpec(kind)


@pytest.mark.parametrize("kind", ["RSA-1024", "RSA-2560", "EC-256K1", "EC-224", "Ed25519"])
def test_other_keys_are_refused_with_what_works(kind):
    with pytest.raises(SigningError, match="RSA-2048, RSA-3072, RSA-4096, EC-256, EC-384, EC-521"):
        key_spec_of(make_key(kind).public_key())


def test_dsa_is_refused():
    with pytest.raises(SigningError, match="kind DSA;"):
        key_spec_of(dsa.generate_private_key(2048).public_key())


def test_the_table_row_by_row():
    defaults = {spec: pkcs7_scheme(spec) for spec in KeySpec}
    assert {spec: (one.family, one.digest) for spec, one in defaults.items()} == {
        KeySpec.RSA_2048: (Family.RSA_PKCS1, "sha256"),
        KeySpec.RSA_3072: (Family.RSA_PKCS1, "sha256"),
        KeySpec.RSA_4096: (Family.RSA_PKCS1, "sha256"),
        KeySpec.EC_256: (Family.ECDSA, "sha256"),
        KeySpec.EC_384: (Family.ECDSA, "sha384"),
        KeySpec.EC_521: (Family.ECDSA, "sha512"),
        KeySpec.ML_DSA_44: (Family.ML_DSA, "sha512"),
        KeySpec.ML_DSA_65: (Family.ML_DSA, "sha512"),
        KeySpec.ML_DSA_87: (Family.ML_DSA, "sha512"),
    }
    assert pkcs7_scheme(KeySpec.RSA_2048, "sha512").name == "rsassa-pkcs1-v1_5-sha512"
    assert str(pkcs7_scheme(KeySpec.EC_521, "sha512")) == "ecdsa-sha512"
    assert str(pkcs7_scheme(KeySpec.ML_DSA_65)) == "ml-dsa-65"
    names = [one.name for one in SCHEMES]
    assert len(set(names)) == len(names)
    assert all(one.hash_algorithm.name == one.digest for one in SCHEMES)


def test_every_key_kind_is_in_the_tables():
    assert set(KEYS) == set(KeySpec)
    assert {spec for one in SCHEMES for spec in one.key_specs} == set(KeySpec)
    for spec, kind in KEYS.items():
        assert kind.has(make_key(spec).public_key())
        assert [other for other in KEYS.values() if other.has(make_key(spec).public_key())] == [
            kind
        ]
        entity = make_entity("kinds", key=spec)
        scheme = pkcs7_scheme(spec) if spec in ML_DSA_SPECS else notary_scheme(spec)
        signature = entity.key.sign(b"message", *scheme.arguments)
        assert signature_matches(entity.certificate, b"message", signature, scheme)
    for scheme in SCHEMES:
        assert scheme.arguments or scheme.family is Family.ML_DSA


@pytest.mark.parametrize("spec", ML_DSA_SPECS)
def test_the_notary_project_has_no_ml_dsa(spec):
    with pytest.raises(SigningError, match=f"no signatures by a key {spec}: .*--manifest-key"):
        notary_scheme(KeySpec(spec))


@pytest.mark.parametrize("text", ["ml-dsa-65", "ML-DSA-65"])
def test_a_kind_of_key_by_its_name(text):
    assert KeySpec.parse(text) is KeySpec.ML_DSA_65
    with pytest.raises(ParameterError, match=r"no key is 'ml-dsa-66': use RSA-2048, .*ML-DSA-87"):
        KeySpec.parse("ml-dsa-66")


def test_a_key_kind_that_the_tables_lack_is_an_error(monkeypatch):
    monkeypatch.setattr("dmsign_fast.signing.scheme.SCHEMES", ())
    with pytest.raises(SigningError, match="the Notary Project has no signatures by a key EC-256"):
        notary_scheme(KeySpec.EC_256)
    with pytest.raises(ParameterError, match="no digest"):
        pkcs7_scheme(KeySpec.EC_256)


@pytest.mark.parametrize("form", ["pss", "explicit", "compressed", "hybrid"])
def test_a_key_in_a_form_that_others_cannot_read_is_refused(form, tmp_path):
    make = {
        "pss": ("genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"),
        "explicit": ("ecparam", "-name", "prime256v1", "-genkey", "-param_enc", "explicit"),
    }.get(form, ("ecparam", "-name", "prime256v1", "-genkey"))
    openssl(*make, *(() if form == "pss" else ("-noout",)), "-out", "key", cwd=tmp_path)
    if form in ("compressed", "hybrid"):
        openssl("ec", "-in", "key", "-conv_form", form, "-out", "key", cwd=tmp_path)
    openssl("req", "-x509", "-new", "-key", "key", "-subj", "/CN=Odd", "-out", "made", cwd=tmp_path)
    (certificate,) = x509.load_pem_x509_certificates((tmp_path / "made").read_bytes())
    with pytest.raises(SigningError, match="in a form that Linux or notation cannot read"):
        certificate_key_spec(certificate)


@pytest.mark.parametrize(
    ("spec", "digest", "possible"),
    [
        (KeySpec.RSA_2048, "sha1", "sha256 or sha384 or sha512"),
        (KeySpec.RSA_4096, "md5", "sha256 or sha384 or sha512"),
        (KeySpec.EC_256, "sha384", "sha256"),
        (KeySpec.EC_384, "sha256", "sha384"),
        (KeySpec.EC_521, "", "sha512"),
        (KeySpec.ML_DSA_65, "sha256", "sha512"),
    ],
)
def test_other_pairs_are_refused_with_what_is_possible(spec, digest, possible):
    with pytest.raises(ParameterError, match=f"{spec} signs a root hash with {possible}, not"):
        pkcs7_scheme(spec, digest)


def test_a_signature_matches_only_its_exact_scheme():
    rsa = make_entity("rsa", key="RSA-2048")
    sha256, sha384 = pkcs7_scheme(KeySpec.RSA_2048), pkcs7_scheme(KeySpec.RSA_2048, "sha384")
    signature = rsa.key.sign(b"message", padding.PKCS1v15(), hashes.SHA256())
    assert signature_matches(rsa.certificate, b"message", signature, sha256)
    assert not signature_matches(rsa.certificate, b"message", signature, sha384)
    assert not signature_matches(rsa.certificate, b"Message", signature, sha256)
    assert not signature_matches(rsa.certificate, b"message", signature + b"\0", sha256)
    assert not signature_matches(rsa.certificate, b"message", b"", sha256)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    signature = rsa.key.sign(b"message", pss, hashes.SHA256())
    assert not signature_matches(rsa.certificate, b"message", signature, sha256)
    assert not signature_matches(rsa.certificate, b"message", b"", pkcs7_scheme(KeySpec.EC_256))


def test_ecdsa_is_der_and_not_fixed_width():
    entity = make_entity("ec")
    scheme = pkcs7_scheme(KeySpec.EC_256)
    signature = entity.key.sign(b"message", ec.ECDSA(hashes.SHA256()))
    assert signature_matches(entity.certificate, b"message", signature, scheme)
    r, s = decode_dss_signature(signature)
    fixed = r.to_bytes(32) + s.to_bytes(32)
    assert not signature_matches(entity.certificate, b"message", fixed, scheme)


def test_a_certificate_with_another_key_is_refused():
    with pytest.raises(SigningError, match="Ed25519"):
        certificate_key_spec(make_entity("ed", key="Ed25519").certificate)
