from datetime import datetime

import pytest
from cryptography import x509
from pki import (
    DAY,
    NOW,
    der,
    make_entity,
    make_intermediate,
    make_key,
    make_leaf,
    make_not_a_ca,
    make_root,
    make_v1_leaf,
    openssl,
    pem,
)

from dmsign_fast.errors import FormatError, ParameterError, SigningError, StorageError
from dmsign_fast.signing import certificates
from dmsign_fast.signing.certificates import (
    check_chain,
    go_problem,
    issuer_problem,
    leaf_problem,
    load_certificates,
    moment,
    name_of,
    order_chain,
    parse_certificate,
)


def test_load_pem_bundle_der_and_a_file_with_the_key_in_it(tmp_path):
    leaf = make_leaf(make_root())
    file = tmp_path / "file"
    file.write_bytes(leaf.key_pem() + pem(*leaf.chain))
    assert load_certificates(file) == leaf.chain
    file.write_bytes(der(leaf.certificate))
    assert load_certificates(file) == (leaf.certificate,)


def test_load_refuses_other_files(tmp_path, monkeypatch):
    file = tmp_path / "file"
    with pytest.raises(StorageError, match=f"cannot read {file}: No such file"):
        load_certificates(file)
    with pytest.raises(StorageError, match="Is a directory"):
        load_certificates(tmp_path)
    leaf = make_leaf()
    whole = der(leaf.certificate)
    for data in (
        b"",
        b"text",
        leaf.key_pem(),
        whole[:-1],
        whole + b"\0",
        pem(leaf.certificate)[:90],
    ):
        file.write_bytes(data)
        with pytest.raises(FormatError, match=f"{file} is not a certificate"):
            load_certificates(file)
    monkeypatch.setattr(certificates, "MAX_FILE_SIZE", len(data) - 1)
    with pytest.raises(FormatError, match="too large"):
        load_certificates(file)


def test_a_certificate_is_parsed_to_its_last_extension():
    leaf = make_leaf()
    good = der(leaf.certificate)
    assert parse_certificate(good) == leaf.certificate
    usage = good.index(bytes.fromhex("0603551d0f0101ff0404"))
    with pytest.raises(FormatError, match="a certificate cannot be parsed"):
        parse_certificate(good[: usage + 10] + b"\x04" + good[usage + 11 :])


def test_a_name_of_an_odd_type_is_refused_as_a_format():
    good = der(make_leaf().certificate)
    at = good.index(b"\x0c\x0bTest Signer")
    with pytest.raises(FormatError, match="cannot be parsed"):
        parse_certificate(good[:at] + b"\x03" + good[at + 1 :])


def test_names_stay_on_one_line():
    assert name_of(make_entity("a\nb\x1b[31m").certificate) == "CN=a\\x0ab\\x1b[31m"
    key = make_key("EC-256")
    nameless = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(0xABC)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .sign(key, make_sha256())
    )
    assert name_of(nameless) == "serial abc"


def make_sha256():
    return make_leaf().certificate.signature_hash_algorithm


def test_moment():
    assert moment(NOW) is NOW
    assert moment(None) >= NOW
    with pytest.raises(ParameterError, match="time zone"):
        moment(datetime(2030, 1, 1))


def test_leaf_rules(tmp_path):
    root = make_root()
    leaf = make_leaf(root, start=NOW - DAY, end=NOW + DAY).certificate
    for at in (NOW - DAY, NOW, NOW + DAY):
        assert leaf_problem(leaf, at) is None
    assert "expired on" in leaf_problem(leaf, NOW + 2 * DAY)
    assert "not valid before" in leaf_problem(leaf, NOW - 2 * DAY)
    assert leaf_problem(make_entity("no extension").certificate, NOW) is None
    assert leaf_problem(make_root(usage=None).certificate, NOW) is None
    without = make_leaf(root, usage=("content_commitment",))
    assert "lacks digitalSignature" in leaf_problem(without.certificate, NOW)
    assert "X.509 v1" in leaf_problem(make_v1_leaf(root).certificate, NOW)


def test_issuer_rules():
    root = make_root()
    assert issuer_problem(root.certificate) is None
    assert issuer_problem(make_root(usage=None).certificate) is None
    assert "lack CA:TRUE" in issuer_problem(make_not_a_ca(root).certificate)
    assert "lack CA:TRUE" in issuer_problem(make_entity("no extension").certificate)
    only = make_root(usage=("crl_sign",))
    assert "lacks keyCertSign" in issuer_problem(only.certificate)


def test_order_chain():
    root = make_root()
    leaf = make_leaf(make_intermediate(make_intermediate(root, "upper"), "lower"))
    assert len(leaf.chain) == 4
    assert order_chain(leaf.certificate, leaf.chain[::-1]) == leaf.chain
    assert order_chain(leaf.certificate, leaf.chain[:2] * 2) == leaf.chain[:2]
    assert order_chain(leaf.certificate, ()) == (leaf.certificate,)
    unrelated = make_root("Other Root").certificate
    with pytest.raises(SigningError, match="CN=Other Root is not in the chain of CN=Test Signer"):
        order_chain(leaf.certificate, (*leaf.chain, unrelated))
    with pytest.raises(SigningError, match="is not in the chain"):
        order_chain(leaf.certificate, (root.certificate,))
    words = (
        "the key is of CN=Test Root, which issued CN=Test Signer: give the key of CN=Test Signer"
    )
    with pytest.raises(SigningError, match=words):
        order_chain(root.certificate, make_leaf(root).chain)
    impostor = make_root("lower", key_name="impostor").certificate
    with pytest.raises(SigningError, match="is not in the chain"):
        order_chain(leaf.certificate, (impostor,))


def test_check_chain():
    root = make_root()
    check_chain(make_leaf(make_intermediate(root)).chain, NOW)
    with pytest.raises(SigningError, match="no certificate"):
        check_chain((), NOW)
    with pytest.raises(SigningError, match="CN=Not A CA issued another and is not a CA"):
        check_chain(make_leaf(make_not_a_ca(root)).chain, NOW)
    with pytest.raises(SigningError, match="CN=Test Intermediate expired"):
        check_chain(make_leaf(make_intermediate(root, end=NOW - DAY / 2)).chain, NOW)


def named(*names):
    return make_leaf(extensions=((x509.SubjectAlternativeName(names), False),)).certificate


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://example.org/a/b",
        "https://user@example.org:8443/a?b=c#d",
        "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "ldap://[2001:db8::7]/c=GB?objectClass?one",
        "mailto:a@b.example",
        "file:///etc/a%20b",
    ],
)
def test_uris_that_go_reads(uri):
    assert go_problem(named(x509.UniformResourceIdentifier(uri))) is None


@pytest.mark.parametrize(
    "uri", ["http://a b", "http://a/b c", "a", "http://a%zz/", "http://a:b/", ""]
)
def test_uris_that_go_cannot_read(uri):
    assert "no URI: notation cannot" in go_problem(named(x509.UniformResourceIdentifier(uri)))


def test_other_certificates_that_go_reads_or_not():
    assert go_problem(make_leaf().certificate) is None
    assert go_problem(named(x509.DNSName("example.org"), x509.RFC822Name("a@b.example"))) is None
    long = named(x509.UniformResourceIdentifier("http://" + "a" * 20000 + "@" * 20000 + " "))
    assert "no URI" in go_problem(long)


def test_trusted_certificates_of_openssl_are_read(tmp_path):
    leaf = make_leaf(make_root())
    files = leaf.write(tmp_path)
    trusted = ("-trustout", "-addtrust", "codeSigning", "-out", "t")
    openssl("x509", "-in", str(files.leaf), *trusted, cwd=tmp_path)
    bundle = tmp_path / "bundle"
    bundle.write_bytes((tmp_path / "t").read_bytes() + pem(leaf.root))
    assert b"TRUSTED CERTIFICATE" in bundle.read_bytes()
    assert load_certificates(bundle) == leaf.chain
    bundle.write_bytes(b"-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n")
    with pytest.raises(FormatError, match="not a certificate"):
        load_certificates(bundle)
