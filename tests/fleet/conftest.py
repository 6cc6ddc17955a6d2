"""Registries with images that share layers, and workers."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from container_images import push_image, tars
from helpers_pkcs7 import signer_of
from oci.conftest import (  # noqa: F401
    QUICK,
    connect,
    no_logins_of_this_machine,
    serve,
)
from pki import make_intermediate, make_leaf, make_root
from signed_images import RECIPE

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.fleet.engine import Engine
from dmsign_fast.fleet.options import FleetOptions
from dmsign_fast.fleet.places import Access
from dmsign_fast.oci.transport import Connection
from dmsign_fast.pipeline.plan import SignOptions
from dmsign_fast.pipeline.verify_image import VerifyOptions, verify_image
from dmsign_fast.trust.verdict import trust_files

# two of each three are shared with the next image
IMAGES = {"app/a": (0, 1, 2), "app/b": (1, 2, 3), "other/c": (2, 3, 4), "app/d": (0, 1, 2, 3, 4)}


@pytest.fixture(scope="session")
def entity():
    return make_leaf(make_intermediate(make_root("Fleet")))


@pytest.fixture(scope="session")
def key(entity):
    return signer_of(entity)


@pytest.fixture
def threads():
    """Workers that are threads of this process: a Executor like any other."""
    with ThreadPoolExecutor(2) as pool:
        yield Engine(pool, 2, "threads")


@pytest.fixture
def access():
    return Access(Connection(**QUICK | {"settle": 0.05}))


@pytest.fixture
def options(access):
    sign = SignOptions(recipe=RECIPE)
    return FleetOptions(sign=sign, recipes=(RECIPE,), access=access, worker_access=access)


class Catalogue:
    """A registry of the images, and what is there of them."""

    def __init__(self, server, opener):
        self.server, self._connect = server, opener
        contents = tars(5)
        for name, layers in IMAGES.items():
            push_image(self.store(name), "1.0", [contents[number] for number in layers])
        self.references = [f"{server.host}/{name}:1.0" for name in IMAGES]
        server.requests.clear()

    def store(self, name):
        return self._connect(self.server, name)

    def fetched(self):
        """How often each layer's blob was read."""
        manifests = [self.store(name).resolve("1.0") for name in IMAGES]
        digests = {layer.digest for one in manifests for layer in one.layers}
        paths = self.server.paths("GET")
        return {one: sum(path.endswith(one) for path in paths) for one in digests}

    def uploaded(self):
        """How often each blob was sent."""
        queries = [one.query for one in self.server.requests]
        return Counter(query["digest"][0] for query in queries if "digest" in query)

    def referrers(self, name):
        store = self.store(name)
        return store.referrers(store.resolve("1.0").descriptor)

    def verified(self, entity, *, deep=False):
        trust = trust_files(TrustAnchors((entity.root,)))
        wanted = VerifyOptions(trust=trust, recipe=RECIPE, deep=deep)
        return {name: verify_image(self.store(name), "1.0", wanted)[0].verified for name in IMAGES}


@pytest.fixture(params=[True, False], ids=["referrers API", "tag schema"])
def catalogue(request, serve, connect):  # noqa: F811
    return Catalogue(serve(referrers=request.param), connect)


@pytest.fixture
def registry(serve, connect):  # noqa: F811
    """The same images in a registry with the Referrers API."""
    return Catalogue(serve(), connect)


@pytest.fixture
def changed(options):
    """The options with others among those of each image."""
    return lambda **values: replace(options, sign=replace(options.sign, **values))
