"""What each provider calls a scheme or a curve comes from the tables of schemes and keys."""

import pytest

from dmsign_fast.errors import SigningError
from dmsign_fast.signing import aws_kms, azure_kv, pkcs11, plugin_contract
from dmsign_fast.signing.scheme import KEYS, SCHEMES, Family

MAPS = {
    "AWS KMS": aws_kms._ALGORITHMS,
    "Azure Key Vault": azure_kv._ALGORITHMS,
    "PKCS#11, digests": pkcs11._OVER_DIGEST,
    "PKCS#11, messages": pkcs11._OVER_MESSAGE,
    "plugins": plugin_contract._ALGORITHMS,
}


WITH_ML_DSA = {"AWS KMS"}


@pytest.mark.parametrize("provider", MAPS)
def test_every_family_has_a_name_there(provider):
    lacks = set() if provider in WITH_ML_DSA else {Family.ML_DSA}
    assert MAPS[provider].keys() == {scheme.family for scheme in SCHEMES} - lacks


@pytest.mark.parametrize("provider", sorted(MAPS.keys() - WITH_ML_DSA))
def test_others_make_no_ml_dsa(provider):
    scheme = next(one for one in SCHEMES if one.family is Family.ML_DSA)
    with pytest.raises(SigningError, match=f"{provider} makes no ml-dsa-44 signatures"):
        scheme.named(MAPS[provider], provider)


def test_every_curve_has_a_name_there():
    curves = [kind.curve for kind in KEYS.values() if kind.curve]
    assert list(azure_kv._CURVES.values()) == list(pkcs11._CURVES.values()) == curves
    assert list(azure_kv._CURVES) == ["P-256", "P-384", "P-521"]
    assert [one.hex() for one in pkcs11._CURVES] == [
        *("06082a8648ce3d030107", "06052b81040022", "06052b81040023")
    ]


def test_a_family_that_a_provider_does_not_know():
    scheme = next(one for one in SCHEMES if one.family is Family.ECDSA)
    with pytest.raises(SigningError, match="the vault makes no ecdsa-sha256 signatures"):
        scheme.named({Family.RSA_PSS: "PS"}, "the vault")
