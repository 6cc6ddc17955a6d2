"""Both ends of what is signed elsewhere, and the ceremony between them."""

import json

from helpers_pkcs7 import signer_of
from signed_homes import RECIPE

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.pipeline.offline import attach_image, prepare_image
from dmsign_fast.pipeline.plan import SignOptions
from dmsign_fast.pipeline.signing_request import SigningRequest
from dmsign_fast.signing.scheme import SCHEMES
from dmsign_fast.trust.verdict import trust_files

BY_NAME = {scheme.name: scheme for scheme in SCHEMES}


def prepare(home, leaf, directory, reference="v1", others=None, **options):
    return prepare_image(
        home.store,
        reference,
        leaf.chain,
        SignOptions(**{"recipe": RECIPE} | options),
        directory,
        reference=f"here:{reference}",
        oci_layout=True,
        others=others or {},
    )


def sign_all(directory, leaf, form=lambda signature, _: signature, chain="chain.pem"):
    """What stands in the place of the ceremony of one key: it knows the directory only."""
    signer = signer_of(leaf)
    for entry in json.loads((directory / "manifest.json").read_text())["to_sign"]:
        if entry["certificates"] != chain:
            continue
        scheme = BY_NAME[entry["scheme"]]
        signature = signer.sign((directory / entry["file"]).read_bytes(), scheme)
        (directory / entry["signature"]).write_bytes(form(signature, scheme))


def attach(home, directory, reference="v1", **options):
    return attach_image(home.store, reference, SigningRequest.read(directory, "image"), **options)


def trusting(leaf):
    return trust_files(TrustAnchors((leaf.root,)))


def record(change):
    def alter(directory):
        path = directory / "manifest.json"
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    return alter
