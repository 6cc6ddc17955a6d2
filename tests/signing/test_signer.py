import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from pki import make_entity

from dmsign_fast.errors import SigningError
from dmsign_fast.signing.scheme import KeySpec, pkcs7_scheme
from dmsign_fast.signing.signer import check_raw_signature


def test_a_provider_that_answers_otherwise_is_found_out():
    entity, other = make_entity("rsa", key="RSA-2048"), make_entity("other", key="RSA-2048")
    scheme = pkcs7_scheme(KeySpec.RSA_2048)
    pkcs1, sha256 = padding.PKCS1v15(), hashes.SHA256()
    check_raw_signature(
        entity.certificate, b"message", entity.key.sign(b"message", pkcs1, sha256), scheme
    )
    pss = padding.PSS(padding.MGF1(sha256), 32)
    wrong = [
        entity.key.sign(b"message", pss, sha256),
        entity.key.sign(b"message", pkcs1, hashes.SHA384()),
        entity.key.sign(b"message\n", pkcs1, sha256),
        other.key.sign(b"message", pkcs1, sha256),
        b"",
    ]
    for signature in wrong:
        with pytest.raises(SigningError, match="is not a rsassa-pkcs1-v1_5-sha256 signature"):
            check_raw_signature(entity.certificate, b"message", signature, scheme)
