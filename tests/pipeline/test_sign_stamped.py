"""Signatures with timestamps: signing again adds nothing if there is a good one, and else does."""

import base64
import json

import pytest
from container_images import push_image, tars
from forge import N
from helpers_pkcs7 import signer_of
from pki import DAY, NOW, make_intermediate, make_root
from signed_images import LEAF, attach_notary, remove, sign
from tsa import Authority, forge_token, make_tsa

from dmsign_fast.envelope.notary import parse_envelope, sign_manifest
from dmsign_fast.envelope.timestamp import Timestamper
from dmsign_fast.envelope.trust import TrustAnchors

TSA = make_tsa()
OLD = {"start": NOW - 99 * DAY}
LONG = make_tsa(
    make_intermediate(make_root("Long Root", **OLD), "Long Issuer", **OLD), "Long TSA", **OLD
)
STRANGE = make_tsa(make_root("Strange TSA Root"), "Strange TSA")
JWS = "application/jose+json"


@pytest.fixture
def timestamp(tmp_path):
    authority = Authority(TSA, tmp_path / "tsa")
    return Timestamper(authority.answer, TrustAnchors((TSA.root, LONG.root)))


def stamped(store, image, token_of):
    """Attach what sign makes, with another token; without one None."""
    (made,) = sign(store, "v1")
    manifest = store.fetch_manifest(made.notary)
    envelope = json.loads(b"".join(store.fetch(manifest.layers[0])))
    signature = parse_envelope(json.dumps(envelope).encode(), JWS).signature
    token = token_of(signature)
    if token is not None:
        envelope["header"][N + "timestampSignature"] = base64.b64encode(token).decode()
    remove(store, made.notary)
    attach_notary(store, image.descriptor, json.dumps(envelope).encode())


# how the token is made, and whether it is as good as a new one
TOKENS = {
    "good": (lambda signature: forge_token(TSA, signature), True),
    "none": (lambda _: None, False),
    "junk": (lambda _: b"junk", False),
    "junk in DER": (lambda _: b"\x30\x00", False),
    "over another signature": (lambda signature: forge_token(TSA, signature + b"x"), False),
    "of a strange authority": (lambda signature: forge_token(STRANGE, signature), False),
    "before the certificate": (
        lambda signature: forge_token(LONG, signature, when=NOW - 50 * DAY),
        False,
    ),
    "too inexact": (lambda signature: forge_token(TSA, signature, accuracy=99 * 86400), False),
}


@pytest.mark.parametrize("what", TOKENS)
def test_what_is_there_counts_if_its_timestamp_does(what, home, timestamp):
    token_of, good = TOKENS[what]
    image = push_image(home.store, "v1", tars(1))
    stamped(home.store, image, token_of)
    (signed,) = sign(home.store, "v1", timestamp=timestamp)
    assert [one.digest for one in signed.added] == ([] if good else [signed.notary.digest])
    assert sign(home.store, "v1", timestamp=timestamp)[0].added == ()


def test_without_a_timestamp_none_is_wanted(home, timestamp):
    push_image(home.store, "v1", tars(1))
    (first,) = sign(home.store, "v1", timestamp=timestamp)
    (second,) = sign(home.store, "v1")
    assert [one.digest for one in second.added] == [second.notary.digest]
    assert second.notary.digest != first.notary.digest


def test_a_whole_signature_has_its_token(timestamp):
    image = {"mediaType": "a/b", "digest": f"sha256:{0:064}", "size": 1}
    data = sign_manifest(image, signer_of(LEAF), media_type=JWS, timestamp=timestamp)
    envelope = parse_envelope(data, JWS)
    assert timestamp.verify(envelope.timestamp_token, envelope.signature).chain == TSA.chain
