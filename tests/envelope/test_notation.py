"""Our signatures before the real notation, and its signatures before us."""

import json
from datetime import timedelta

import cbor2
import pytest
from helpers_pkcs7 import signer_of
from notation import Layout, Notation, accepts
from pki import DAY, KEY_SPECS, NOW, make_intermediate, make_leaf, make_root, pem
from tsa import Authority, make_tsa, serve

from dmsign_fast.envelope.media import FORMATS
from dmsign_fast.envelope.notary import (
    check_envelope,
    manifest_annotations,
    parse_envelope,
    sign_manifest,
)
from dmsign_fast.envelope.timestamp import over_http, request_timestamp, verify_timestamp
from dmsign_fast.envelope.trust import TrustAnchors

ALGORITHMS = dict(
    zip(KEY_SPECS, ("PS256", "PS384", "PS512", "ES256", "ES384", "ES512"), strict=True)
)

both = pytest.mark.parametrize("media_type", FORMATS)
every_key = pytest.mark.parametrize("key", KEY_SPECS)


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "oci")


def entity_of(key):
    return make_leaf(make_intermediate(make_root()), f"Signer {key}", key=key)


@both
@every_key
def test_notation_accepts_ours(media_type, key, layout, tmp_path):
    entity = entity_of(key)
    envelope = sign_manifest(
        layout.image,
        signer_of(entity),
        media_type=media_type,
        expiry=NOW + DAY,
        agent="dmsign-fast/test",
        user_metadata={"build": "7", "grüße": "ö <&> \u2028"},
    )
    done = accepts(tmp_path / "home", layout, envelope, media_type, entity)
    assert done.exit_code == 0, done.err
    assert "Successfully verified signature" in done.out
    assert "build" in done.out
    assert "grüße" in done.out
    notation = Notation(tmp_path / "home")
    assert notation.verify(layout, "--user-metadata", "build=7").exit_code == 0
    assert notation.verify(layout, "--user-metadata", "build=8").exit_code == 1


@both
@every_key
def test_we_accept_what_notation_signs(media_type, key, layout, tmp_path):
    entity = entity_of(key)
    notation = Notation(tmp_path / "home")
    notation.use_key(entity)
    options = ("--expiry", "24h", "--user-metadata", "build=7", "--user-metadata", "a=<ö&>")
    done = notation.sign(layout, media_type, *options)
    assert done.exit_code == 0, done.err
    envelope = parse_envelope(*layout.signature())
    check_envelope(envelope, target=layout.image)
    assert envelope.media_type == media_type
    assert envelope.scheme.jose == ALGORITHMS[key]
    assert envelope.user_metadata == {"build": "7", "a": "<ö&>"}
    assert envelope.expiry - envelope.signing_time == timedelta(days=1)
    assert envelope.agent == "notation-go/1.3.2"
    assert envelope.certificate_chain == entity.chain
    assert envelope.extended == {}


def test_path_lengths_that_just_do(layout, tmp_path):
    issuer = make_intermediate(make_root(path_length=1), path_length=0)
    entity = make_leaf(issuer)
    envelope = sign_manifest(layout.image, signer_of(entity), media_type="application/cose")
    done = accepts(tmp_path / "home", layout, envelope, "application/cose", entity)
    assert done.exit_code == 0, done.err


@both
def test_the_annotations_are_those_of_notation(media_type, layout, tmp_path):
    notation = Notation(tmp_path / "home")
    notation.use_key(entity_of("EC-256"))
    assert notation.sign(layout, media_type).exit_code == 0
    index = json.loads((layout.root / "index.json").read_text())
    manifest = json.loads(layout.read(index["manifests"][-1]))
    assert manifest_annotations(parse_envelope(*layout.signature())) == manifest["annotations"]


@both
def test_a_self_signed_certificate_alone(media_type, layout, tmp_path):
    entity = make_leaf()
    envelope = sign_manifest(layout.image, signer_of(entity), media_type=media_type)
    assert accepts(tmp_path / "home", layout, envelope, media_type, entity).exit_code == 0
    notation = Notation(tmp_path / "home")
    notation.use_key(entity)
    assert notation.sign(layout, media_type).exit_code == 0
    assert len(layout.signatures()) == 2
    for signature in layout.signatures():
        check_envelope(parse_envelope(*signature), target=layout.image)


def test_the_protected_header_is_byte_for_byte_that_of_notation(layout, tmp_path):
    entity = entity_of("EC-256")
    notation = Notation(tmp_path / "home")
    notation.use_key(entity)
    for media_type in FORMATS:
        assert notation.sign(layout, media_type, "--expiry", "24h").exit_code == 0
        theirs, _ = layout.signature(media_type)
        found = parse_envelope(theirs, media_type)
        ours = sign_manifest(
            layout.image,
            signer_of(entity),
            media_type=media_type,
            signing_time=found.signing_time,
            expiry=found.expiry,
        )
        if media_type == "application/cose":
            assert cbor2.loads(ours).value[0] == cbor2.loads(theirs).value[0]
        else:
            one, other = json.loads(ours), json.loads(theirs)
            assert one["protected"] == other["protected"]
            assert one["header"]["x5c"] == other["header"]["x5c"]


@both
def test_notation_accepts_our_timestamp(media_type, layout, tmp_path):
    authority = Authority(make_tsa(), tmp_path / "tsa")
    roots = TrustAnchors((authority.entity.root,))
    entity = entity_of("RSA-3072")
    with serve(authority.answer) as url:
        envelope = sign_manifest(
            layout.image,
            signer_of(entity),
            media_type=media_type,
            timestamp=lambda signature: request_timestamp(signature, over_http(url), roots),
        )
    notation = Notation(tmp_path / "home")
    notation.trust(pem(authority.entity.root), store="tsa/test")
    stores = {"trustStores": ["ca:test", "tsa:test"]}
    notation.trust(pem(entity.root), policy=stores)
    layout.attach(envelope, media_type, [])
    done = notation.verify(layout, "--debug")
    assert done.exit_code == 0, done.err
    assert "Timestamp verification: Success" in done.err
    notation.trust(pem(make_root("Nobody").certificate), store="tsa/test", policy=stores)
    assert notation.verify(layout).exit_code == 1


@both
def test_we_accept_a_timestamp_of_notation(media_type, layout, tmp_path):
    authority = Authority(make_tsa(), tmp_path / "tsa")
    (tmp_path / "root.pem").write_bytes(pem(authority.entity.root))
    entity = entity_of("EC-384")
    notation = Notation(tmp_path / "home")
    notation.use_key(entity)
    with serve(authority.answer) as url:
        options = ("--timestamp-url", url, "--timestamp-root-cert", tmp_path / "root.pem")
        done = notation.sign(layout, media_type, *options)
    assert done.exit_code == 0, done.err
    envelope = parse_envelope(*layout.signature())
    check_envelope(envelope, target=layout.image)
    roots = TrustAnchors((authority.entity.root,))
    stamp = verify_timestamp(envelope.timestamp_token, envelope.signature, roots)
    assert stamp.chain == authority.entity.chain
    assert stamp.accuracy == timedelta(seconds=1, microseconds=500100)
    assert abs(stamp.time - envelope.signing_time) < timedelta(minutes=10)
