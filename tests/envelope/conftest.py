"""A PKI and a root hash for all."""

import pytest
from asn1crypto import tsp  # noqa: F401 - adds names to cms, too late once cms was used
from helpers_pkcs7 import ROOT_HASH
from openssl_4 import openssl_4, openssl_4_program  # noqa: F401
from pki import Entity, make_intermediate, make_leaf, make_root


@pytest.fixture(scope="session")
def root_hash() -> bytes:
    return ROOT_HASH


@pytest.fixture(scope="session")
def root() -> Entity:
    return make_root()


@pytest.fixture(scope="session")
def leaf(root) -> Entity:
    return make_leaf(make_intermediate(root))
