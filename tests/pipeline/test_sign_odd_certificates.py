"""Certificates that Linux or Go cannot read sign no image, and nothing is pushed."""

import pytest
from container_images import push_image, tars
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from pki import DAY, NOW, Entity, make_expired_leaf, make_leaf, make_root, openssl
from signed_homes import ours, referrers, sign

from dmsign_fast.errors import SigningError

ROOT = make_root()


def odd_names(directory):
    names = x509.SubjectAlternativeName((x509.UniformResourceIdentifier("http://a b"),))
    return make_leaf(ROOT, extensions=((names, False),))


def critical_identifier(directory):
    leaf = make_leaf(ROOT)
    builder = x509.CertificateBuilder(ROOT.certificate.subject, leaf.certificate.subject)
    builder = builder.public_key(leaf.key.public_key()).serial_number(7)
    builder = builder.not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
    for one in leaf.certificate.extensions:
        critical = one.critical or isinstance(one.value, x509.SubjectKeyIdentifier)
        builder = builder.add_extension(one.value, critical)
    algorithm = ROOT.certificate.signature_hash_algorithm
    return Entity(leaf.key, builder.sign(ROOT.key, algorithm), ROOT.chain)


def compressed_point(directory):
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "a", cwd=directory)
    openssl("ec", "-in", "a", "-conv_form", "compressed", "-out", "key", cwd=directory)
    options = ("-addext", "keyUsage=critical,digitalSignature", "-subj", "/CN=Odd", "-out", "made")
    openssl("req", "-x509", "-new", "-key", "key", *options, cwd=directory)
    (certificate,) = x509.load_pem_x509_certificates((directory / "made").read_bytes())
    return Entity(load_pem_private_key((directory / "key").read_bytes(), None), certificate)


@pytest.mark.parametrize("options", [{}, {"dm_verity": False}], ids=["all", "manifest"])
@pytest.mark.parametrize("make", [odd_names, critical_identifier, compressed_point])
@ours
def test_nothing_is_pushed(kind, make, options, make_home, tmp_path):
    home = make_home(kind)
    image = push_image(home.store, "v1", tars(1))
    with pytest.raises(SigningError, match=r"notation|not processed|Linux"):
        sign(home, make(tmp_path), "v1", **options)
    assert referrers(home, image) == {}


@ours
def test_a_certificate_of_a_tls_server_signs_no_layer(kind, make_home):
    """Nor does the layer's work begin."""
    home = make_home(kind)
    image = push_image(home.store, "v1", tars(1))
    usage = x509.ExtendedKeyUsage((ExtendedKeyUsageOID.SERVER_AUTH,))
    server = make_leaf(ROOT, extensions=((usage, False),))
    with pytest.raises(SigningError, match="extended key usage lacks codeSigning"):
        sign(home, server, "v1", manifest_signature=False)
    assert referrers(home, image) == {}


def test_a_chain_that_notary_refuses_is_known_before_any_layer_is_read(make_home, monkeypatch):
    home = make_home("layout")
    push_image(home.store, "v1")
    monkeypatch.setattr("dmsign_fast.pipeline.sign_image.hash_image_layer", None)
    with pytest.raises(SigningError, match=r"cannot sign for the Notary Project: .* expired"):
        sign(home, make_expired_leaf(ROOT))
