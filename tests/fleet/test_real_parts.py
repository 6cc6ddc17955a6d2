"""A real registry, a key on a token, and notation as the judge of a fleet."""

from dataclasses import replace

import pki
import pytest
from container_images import push_image, tars
from helpers import write
from helpers_pkcs7 import signer_of
from notation import Notation
from oci.conftest import docker_registry, olareg, real_registry  # noqa: F401
from real_registries import REAL_REGISTRIES
from signing.softhsm import PIN, softhsm

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.fleet.places import Access
from dmsign_fast.fleet.rows import State
from dmsign_fast.fleet.sign import sign_fleet
from dmsign_fast.fleet.state import FleetState
from dmsign_fast.pipeline.verify_image import VerifyOptions, verify_image
from dmsign_fast.signing.providers import KeyOptions, open_signer
from dmsign_fast.trust.verdict import trust_files
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


@pytest.mark.parametrize("kind", REAL_REGISTRIES)
def test_hash_trees_reach_every_repository(
    kind,
    real_registry,  # noqa: F811
    connect,
    owner,
    options,
    threads,
    tmp_path,
):
    host = real_registry(kind)
    contents = tars(5, seed=8)
    for name, layers in IMAGES.items():
        push_image(connect(host, name), "1.0", [contents[number] for number in layers])
    recipe = Recipe.parse("containerd-tar-index")
    acl = replace(options.sign, recipe=recipe, forms=("acl",))
    with FleetState(tmp_path / "run.state") as state:
        sign_fleet(
            state,
            [f"{host}/{name}:1.0" for name in IMAGES],
            signer_of(owner),
            replace(options, sign=acl, recipes=(recipe,)),
            threads,
        )
        assert state.counts().images[State.SIGNED] == len(IMAGES)
    trust = trust_files(TrustAnchors((owner.root,)))
    wanted = VerifyOptions(trust=trust, recipe=recipe, deep=True, forms=("acl",))
    for name in IMAGES:
        (verdict,) = verify_image(connect(host, name), "1.0", wanted)
        assert verdict.verified
