"""One PKI, and a signature that holds, for all."""

import pytest
from forge import forge_jws
from notation import Layout
from pki import make_intermediate, make_leaf, make_root


@pytest.fixture(scope="session")
def leaf():
    return make_leaf(make_intermediate(make_root()))


@pytest.fixture(scope="module")
def layout(tmp_path_factory, leaf):
    """An image with a signature by the leaf."""
    made = Layout(tmp_path_factory.mktemp("layout") / "oci")
    made.attach(forge_jws(leaf, made.image), "application/jose+json", [])
    return made
