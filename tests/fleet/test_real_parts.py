"""A real registry, a key on a token, and notation as the judge of a fleet."""

import pki
import pytest
from container_images import push_image, tars
from helpers import write
from notation import Notation
from oci.conftest import docker_registry, olareg, real_registry  # noqa: F401
from real_registries import REAL_REGISTRIES
from signing.softhsm import PIN, softhsm

from dmsign_fast.fleet.places import Access
from dmsign_fast.fleet.rows import State
from dmsign_fast.fleet.sign import sign_fleet
from dmsign_fast.fleet.state import FleetState
from dmsign_fast.signing.providers import KeyOptions, open_signer
from fleet.conftest import IMAGES


@pytest.fixture(scope="module")
def owner():
    return pki.make_leaf(pki.make_intermediate(pki.make_root("Token")), key="RSA-2048")


@pytest.mark.parametrize("kind", REAL_REGISTRIES)
def test_a_fleet_signed_by_a_token_is_good_for_notation(
    kind,
    real_registry,  # noqa: F811
    connect,
    owner,
    options,
    threads,
    tmp_path,
):
    host = real_registry(kind)
    contents = tars(5, seed=7)
    for name, layers in IMAGES.items():
        push_image(connect(host, name), "1.0", [contents[number] for number in layers])
    references = [f"{host}/{name}:1.0" for name in IMAGES]
    assert isinstance(options.access, Access)
    with softhsm(tmp_path / "hsm") as hsm:
        token = hsm.token("fleet")
        token.put(owner, b"\1", "signer")
        chain = write(tmp_path / "chain.pem", pki.pem(*owner.chain))
        key = KeyOptions(certificates=chain, secret=lambda _: PIN)
        signer = open_signer(token.uri("object=signer;type=private"), key)
        with FleetState(tmp_path / "run.state") as state:
            sign_fleet(state, references, signer, options, threads)
            assert state.counts().images[State.SIGNED] == len(IMAGES)
    notation = Notation(tmp_path / "home")
    notation.trust(pki.pem(owner.root))
    for reference in references[::2]:
        done = notation("verify", "--insecure-registry", reference)
        assert done.exit_code == 0, done.err
