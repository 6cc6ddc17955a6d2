"""Images signed again, and by several at once."""

import json
import sys
from dataclasses import replace

import pytest
from container_images import (
    push_image,
    tars,
)
from helpers import run
from helpers_pkcs7 import signer_of
from pki import DAY, NOW, make_intermediate, make_leaf, make_root
from real_registries import REAL_REGISTRIES
from signed_homes import DM_VERITY_TYPES, RECIPE, envelope_of, homes, referrers, sign

from dmsign_fast.envelope.notary import sign_manifest
from dmsign_fast.envelope.pkcs7 import verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.manifest import make_manifest
from dmsign_fast.pipeline.artifact import (
    NOTARY_TYPE,
    make_notary,
    read_dm_verity,
)


@homes
def test_signing_again_adds_nothing_but_by_force(kind, make_home, leaf):
    home = make_home(kind)
    image = push_image(home.store, "v1", tars(1))
    (first,) = sign(home, leaf, "v1")
    before = referrers(home, image)
    contents = None if kind in REAL_REGISTRIES else home.contents
    for _ in range(2):
        (again,) = sign(home, leaf, "v1")
        assert again == replace(first, added=(), layers=again.layers, seconds=again.seconds)
        assert [one.root_hash for one in again.layers] == [one.root_hash for one in first.layers]
        assert referrers(home, image) == before
        assert contents is None or home.contents == contents
    (forced,) = sign(home, leaf, "v1", force=True)
    assert len(forced.added) == 2
    assert {kind: len(found) for kind, found in referrers(home, image).items()} == {
        DM_VERITY_TYPES[0]: 2,
        NOTARY_TYPE: 2,
    }


@homes
def test_certificates_themselves_are_compared(kind, make_home):
    """Others of the key, with the same issuer and serial number, were signed with before."""
    home, root = make_home(kind), make_root()
    image = push_image(home.store, "v1", tars(1))
    former, now = (make_leaf(root, serial=5, end=NOW + days * DAY) for days in (20, 30))
    sign(home, former, "v1")
    sign(home, now, "v1")
    sign(home, now, "v1")
    found = {kind: len(one) for kind, one in referrers(home, image).items()}
    assert found == {DM_VERITY_TYPES[0]: 2, NOTARY_TYPE: 2}


CHANGED = {
    "another mkfs.erofs": ({"recipe": replace(RECIPE, mkfs_version="1.8.6")}, (2, 2)),
    "another recipe": ({"recipe": Recipe.parse("osguard")}, (2, 2)),
    "another form": ({"forms": ("osguard",)}, (1, 1)),
    "user metadata": ({"user_metadata": {"build": "7"}}, (1, 2)),
    "an expiry": ({"expiry": NOW + DAY}, (1, 2)),
    "another format": ({"media_type": "application/cose"}, (1, 2)),
    "another digest": ({"pkcs7_digest": "sha512"}, (2, 1)),
    "no certificates": ({"certificates": False}, (2, 1)),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_is_asked_for_and_not_there_is_added(what, home):
    leaf = make_leaf(make_root(), key="RSA-2048")
    options, (dm_verity, notary) = CHANGED[what]
    image = push_image(home.store, "v1", tars(1))
    sign(home, leaf)
    for _ in range(2):  # and this once
        sign(home, leaf, **options)
        found = referrers(home, image)
        assert (len(found[DM_VERITY_TYPES[0]]), len(found[NOTARY_TYPE])) == (dm_verity, notary)
    assert ("forms" in options) == (DM_VERITY_TYPES[1] in found)


def test_a_signature_of_the_manifest_that_binds_no_root_hashes_is_not_enough(home, leaf):
    image = push_image(home.store, "v1", tars(1))
    (first,) = sign(home, leaf, dm_verity=False)
    (second,) = sign(home, leaf)
    assert second.added == (second.dm_verity, second.notary)
    (third,) = sign(home, leaf, dm_verity=False)
    assert third.added == ()
    assert third.notary in (first.notary, second.notary)
    assert len(referrers(home, image)[NOTARY_TYPE]) == 2


def test_another_key_adds(home, leaf):
    image = push_image(home.store, "v1", tars(1))
    for number in range(3):
        root = make_root(f"Root {number}")
        sign(home, make_leaf(root, f"Signer {number}"))
        found = referrers(home, image)
        assert [len(one) for one in found.values()] == [number + 1] * 2


def test_another_certificate_of_the_same_key_adds(home, leaf):
    image = push_image(home.store, "v1", tars(1))
    sign(home, leaf)
    sign(home, make_leaf(make_intermediate(make_root()), serial=99))
    assert [len(one) for one in referrers(home, image).values()] == [2, 2]


def test_a_signature_that_expired_is_no_signature(home, leaf, monkeypatch):
    image = push_image(home.store, "v1", tars(1))
    (first,) = sign(home, leaf, dm_verity=False, expiry=NOW + DAY)
    (again,) = sign(home, leaf, dm_verity=False, expiry=NOW + 2 * DAY)
    assert again.notary == first.notary

    class Later(type(NOW)):
        @classmethod
        def now(cls, zone):
            return NOW + 3 * DAY

    monkeypatch.setattr("dmsign_fast.pipeline.already_signed.datetime", Later)
    sign(home, leaf, dm_verity=False, expiry=NOW + 5 * DAY)
    assert len(referrers(home, image)[NOTARY_TYPE]) == 2


def broken(home, image, what):
    """Attach an artifact that looks like a good one, and is not."""
    raw = json.loads(home.store.fetch_manifest(home.store.referrers(image.descriptor)[0]).raw)
    store = home.store
    kind, layers, subject = raw["artifactType"], raw["layers"], image.descriptor
    annotations = raw["annotations"]
    if what == "of another image":
        subject = push_image(store, seed=7).descriptor
    elif what == "with another signature":
        bad = Descriptor.of(b"bad", "application/pkcs7-signature")
        store.push(bad, b"bad")
        layers[0] |= bad.to_json()
    elif what == "with a malformed record":
        annotations["dmsign-fast.recipe.salt"] = "?"
    elif what == "with another root hash":
        layers[0]["annotations"]["io.cncf.notary.dm-verity.root-hash"] = "00" * 32
    else:
        layers = []
    return make_manifest(
        layers=[Descriptor.from_json(one, "layer") for one in layers],
        artifact_type=kind,
        subject=subject,
        annotations=annotations,
    )


@pytest.mark.parametrize(
    "what",
    [
        "of another image",
        "with another signature",
        "with a malformed record",
        "with another root hash",
        "without layers",
    ],
)
def test_what_is_broken_is_not_taken_for_a_signature(what, make_home, leaf):
    home = make_home("tag schema")
    image = push_image(home.store, "v1", tars(1))
    (first,) = sign(home, leaf)
    bad = broken(home, image, what)
    home.store.push(bad.descriptor, bad.raw)
    repository = home.server.repository(home.store.repository)
    tag = image.descriptor.digest.referrers_tag
    _, raw = repository.manifests[repository.tags[tag]]
    index = json.loads(raw)
    index["manifests"] = [
        bad.referrer.to_json(),
        *(one for one in index["manifests"] if one["digest"] != first.dm_verity.digest),
    ]
    raw = json.dumps(index).encode()
    digest = Digest.of(raw)
    repository.manifests[digest] = ("application/vnd.oci.image.index.v1+json", raw)
    repository.tags[tag] = digest
    (again,) = sign(home, leaf)
    assert again.notary == first.notary
    assert again.added == (again.dm_verity,)
    assert again.dm_verity != bad.descriptor


@pytest.mark.parametrize("what", ["over another image", "with another signature"])
def test_what_is_broken_is_not_taken_for_a_signature_of_the_manifest(what, home, leaf):
    """Its manifest says that it is of this image."""
    image = push_image(home.store, "v1", tars(1))
    target = push_image(home.store, seed=7) if what == "over another image" else image
    data = sign_manifest(
        target.descriptor.to_json(), signer_of(leaf), media_type="application/jose+json"
    )
    if target == image:
        value = json.loads(data)
        value["signature"] = value["signature"][:-2] + "AA"
        data = json.dumps(value).encode()
    bad = make_notary(image.descriptor, data, "application/jose+json", leaf.chain, NOW, legacy=True)
    for descriptor, content in bad.blobs:
        home.store.push(descriptor, content)
    home.store.attach([bad.manifest])
    (signed,) = sign(home, leaf)
    assert signed.notary in signed.added
    assert len(referrers(home, image)[NOTARY_TYPE]) == 2


EIGHT = """
import os, sys
place, sys.path[:0] = sys.argv[1], sys.argv[2:]
from pathlib import Path
from helpers_pkcs7 import signer_of
from pki import make_leaf, make_root
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.reference import RegistryReference
from dmsign_fast.oci.registry import Registry
from dmsign_fast.oci.transport import Connection
from dmsign_fast.pipeline.sign_image import SignOptions, sign_image
import cryptography.x509.verification, numpy, oras.provider

root = make_root()
read, write = os.pipe()
children = []
for number in range(8):
    child = os.fork()
    if not child:
        os.close(write)
        if place[0] == "/":
            store = Layout(Path(place))
        else:
            store = Registry(RegistryReference.parse(place), Connection(settle=0.5))
        signer = signer_of(make_leaf(root, f"Signer {number}"))
        os.read(read, 1)  # until all are ready
        with store:
            sign_image(store, "v1", signer, SignOptions(recipe=Recipe.parse("containerd")))
        os._exit(0)
    children.append(child)
os.close(write)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""
PATHS = [path for path in sys.path if path.endswith(("tests", "tests/oci", "envelope", "src"))]


# not olareg: see tests/oci/test_attach.py
@pytest.mark.parametrize("kind", ["layout", "api", "tag schema", "docker-registry"])
def test_eight_signers_at_once_lose_nothing(kind, make_home):
    home = make_home(kind)
    image = push_image(home.store, "v1")
    place = home.arguments[-1]
    done = run(sys.executable, "-c", EIGHT, place, *PATHS)
    assert done.exit_code == 0, done.err
    found = referrers(home, image)
    names = [envelope_of(home, one, image).certificate_chain[0] for one in found[NOTARY_TYPE]]
    assert sorted(one.subject.rfc4514_string() for one in names) == [
        f"CN=Signer {number}" for number in range(8)
    ]
    assert len(found[DM_VERITY_TYPES[0]]) == 8
    keys = set()
    for artifact in found[DM_VERITY_TYPES[0]]:
        digests = [layer.digest for layer in image.layers]
        for one in read_dm_verity(home.store, artifact, digests):
            verdict = verify_root_hash(
                one.signature, one.root_hash, TrustAnchors((names[0], *names[1:]))
            )
            keys.add(verdict.signer.subject)
    assert len(keys) == 8
    assert home.store.resolve("v1") == image
    if home.server:
        assert home.server.complaints == []
