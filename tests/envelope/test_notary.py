"""What ``sign_manifest`` takes, refuses, and writes."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from forge import forge_jws
from helpers_pkcs7 import signer_of
from pki import DAY, NOW, Entity, make_expired_leaf, make_intermediate, make_leaf, make_root

from dmsign_fast.envelope.media import FORMATS, envelope_for
from dmsign_fast.envelope.notary import check_envelope, parse_envelope, sign_manifest
from dmsign_fast.errors import FormatError, ParameterError, SigningError, VerificationError
from dmsign_fast.signing.scheme import KeySpec, notary_scheme

JWS, COSE = FORMATS
IMAGE = {
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "digest": f"sha256:{7:064x}",
    "size": 1234,
}
LEAF = make_leaf(make_intermediate(make_root()))
RSA = make_leaf(make_intermediate(make_root()), "RSA", key="RSA-2048")
both = pytest.mark.parametrize("media_type", FORMATS)


def sign(media_type=JWS, entity=LEAF, descriptor=IMAGE, **options):
    return sign_manifest(descriptor, signer_of(entity), media_type=media_type, **options)


@dataclass(frozen=True)
class Parrot:
    """A signer that says the same thing again, or whatever it is told."""

    entity: Entity
    says: object

    @property
    def key_spec(self):
        return signer_of(self.entity).key_spec

    @property
    def certificate_chain(self):
        return self.entity.chain

    def sign(self, message, scheme):
        return self.says(message, scheme)


def test_the_registry_lists_both():
    assert list(FORMATS) == ["application/jose+json", "application/cose"]
    assert all(envelope_for(one).media_type == one for one in FORMATS)
    with pytest.raises(ParameterError, match=r"application/jose\+json or application/cose"):
        envelope_for("application/pkcs7-signature")


@both
def test_all_that_goes_in_comes_out(media_type):
    when = datetime(2026, 11, 1, 12, 30, 15, 999999, timezone(timedelta(hours=2)))
    entity = make_leaf(
        make_intermediate(make_root(start=when - 9 * DAY), start=when - 9 * DAY), start=when - DAY
    )
    data = sign(
        media_type,
        entity,
        {**IMAGE, "annotations": {"a": "b"}, "artifactType": "x/y"},
        signing_time=when,
        expiry=when + DAY,
        agent="me/1",
        user_metadata={"c": "d"},
        timestamp=lambda signature: b"over " + signature,
    )
    found = parse_envelope(data, media_type)
    assert found.media_type == media_type
    assert found.signing_time == datetime(2026, 11, 1, 10, 30, 15, tzinfo=UTC)
    assert found.expiry == found.signing_time + DAY
    assert found.target == {**IMAGE, "artifactType": "x/y", "annotations": {"a": "b", "c": "d"}}
    assert found.user_metadata == {"a": "b", "c": "d"}
    assert found.timestamp_token == b"over " + found.signature
    assert found.agent == "me/1"
    assert found.certificate_chain == entity.chain
    assert found.critical == ("io.cncf.notary.signingScheme", "io.cncf.notary.expiry")
    assert found.payload == (
        b'{"targetArtifact":{"annotations":{"a":"b","c":"d"},"artifactType":"x/y","digest":"'
        + IMAGE["digest"].encode()
        + b'","mediaType":"'
        + IMAGE["mediaType"].encode()
        + b'","size":1234}}'
    )
    check_envelope(found, target=IMAGE)
    with pytest.raises(VerificationError, match="another artifact: its size is 1234, not 5"):
        check_envelope(found, target={**IMAGE, "size": 5})


@both
def test_the_same_signature_gives_the_same_bytes(media_type):
    made = {}

    def once(message, scheme):
        return made.setdefault(message, signer_of(RSA).sign(message, scheme))

    options = {"media_type": media_type, "signing_time": NOW, "agent": "me/1"}
    turned = dict(reversed(IMAGE.items()))
    first = sign_manifest(IMAGE, Parrot(RSA, once), **options)
    assert sign_manifest(turned, Parrot(RSA, once), **options) == first
    assert len(made) == 1


@both
def test_without_options_nothing_more_is_written(media_type):
    found = parse_envelope(sign(media_type), media_type)
    assert (found.expiry, found.agent, found.timestamp_token) == (None, None, None)
    assert found.critical == ("io.cncf.notary.signingScheme",)
    assert abs(found.signing_time - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("entity", "says"),
    [
        (Entity(LEAF.key, LEAF.certificate, LEAF.above[:1]), "not a self-signed root"),
        (Entity(LEAF.key, LEAF.certificate), "not a self-signed root"),
        (make_expired_leaf(LEAF_ROOT := make_root()), "expired on"),
        (make_leaf(LEAF_ROOT, "no", usage=("crl_sign",)), "lacks digitalSignature"),
        (make_root("ca", usage=("digital_signature", "key_cert_sign")), "is a CA"),
    ],
    ids=["intermediate-last", "leaf-alone", "expired", "usage", "ca"],
)
def test_a_chain_that_cannot_sign_is_refused_before_the_key_is_asked(entity, says):
    def never(message, scheme):
        raise AssertionError("asked")

    with pytest.raises(SigningError, match=says):
        sign_manifest(IMAGE, Parrot(entity, never), media_type=JWS)


@both
@pytest.mark.parametrize(
    "answer",
    [
        lambda message, scheme: b"",
        lambda message, scheme: RSA.key.sign(message, padding.PKCS1v15(), hashes.SHA256()),
        lambda message, scheme: signer_of(LEAF).sign(message, notary_scheme(KeySpec.EC_256)),
    ],
    ids=["nothing", "PKCS#1 v1.5", "another key"],
)
def test_an_answer_that_does_not_hold_is_refused(media_type, answer):
    with pytest.raises(SigningError, match="is not a rsassa-pss-sha256 signature by the key"):
        sign_manifest(IMAGE, Parrot(RSA, answer), media_type=media_type)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"expiry": NOW - DAY}, ParameterError, "in the past"),
        ({"signing_time": NOW, "expiry": NOW}, ParameterError, "in the past"),
        ({"expiry": datetime(2030, 1, 1)}, ParameterError, "time zone"),
        ({"signing_time": datetime(2026, 1, 1)}, ParameterError, "time zone"),
        ({"signing_time": NOW + 99 * DAY}, SigningError, "expired"),
        ({"user_metadata": {"io.cncf.notary.x": "y"}}, ParameterError, "reserved"),
        ({"user_metadata": {"a": "y"}}, ParameterError, "already"),
        ({"user_metadata": {"b": 1}}, FormatError, "user metadata"),
        ({"descriptor": {}}, FormatError, "not an OCI descriptor"),
        ({"descriptor": {**IMAGE, "digest": "sha256"}}, FormatError, "not an OCI descriptor"),
        ({"descriptor": {**IMAGE, "digest": "sha256:0\n"}}, FormatError, "not an OCI"),
        ({"descriptor": {**IMAGE, "size": -1}}, FormatError, "not an OCI descriptor"),
        ({"descriptor": {**IMAGE, "mediaType": ""}}, FormatError, "not an OCI descriptor"),
        ({"media_type": "text/plain"}, ParameterError, "text/plain"),
        ({"agent": 7}, FormatError, "agent"),
        ({"timestamp": lambda signature: b""}, FormatError, "timestamp"),
    ],
)
def test_arguments_out_of_range(options, error, says):
    with pytest.raises(error, match=says):
        sign(**{"descriptor": {**IMAGE, "annotations": {"a": "b"}}, **options})


def test_fractions_and_offsets_of_times_are_read():
    for text, second in (
        ("2026-11-22T23:59:59.123456789+02:00", datetime(2026, 11, 22, 21, 59, 59, 123456, UTC)),
        ("2026-11-22T00:00:00-01:30", datetime(2026, 11, 22, 1, 30, tzinfo=UTC)),
    ):
        data = forge_jws(LEAF, IMAGE, protected={"io.cncf.notary.signingTime": text})
        assert parse_envelope(data, JWS).signing_time == second


def test_unknown_headers_that_are_not_critical_are_told():
    data = forge_jws(LEAF, IMAGE, protected={"com.example.job": {"id": [1, None]}})
    found = parse_envelope(data, JWS)
    check_envelope(found)
    assert found.extended == {"com.example.job": {"id": [1, None]}}


def test_one_format_is_not_read_as_the_other():
    with pytest.raises(FormatError, match="COSE_Sign1"):
        parse_envelope(sign(JWS), COSE)
    with pytest.raises(FormatError, match="UTF-8"):
        parse_envelope(sign(COSE), JWS)


@both
def test_what_is_too_large_is_not_read(media_type):
    with pytest.raises(FormatError, match="no more than 4194304"):
        parse_envelope(bytes((4 << 20) + 1), media_type)


def test_a_chain_that_is_too_long_is_not_read():
    envelope = json.loads(sign(JWS))
    envelope["header"]["x5c"] *= 6
    with pytest.raises(FormatError, match="more than 16 certificates"):
        parse_envelope(json.dumps(envelope).encode(), JWS)
