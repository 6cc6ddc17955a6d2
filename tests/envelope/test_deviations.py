"""Envelopes with one thing wrong each: we refuse them all, and the real notation is asked too.

Each has a signature that is right for its bytes. ``ACCEPTED`` after a case says that notation 1.3.2
takes it, where the specification does not or does not say.
"""

import base64
import json
from dataclasses import dataclass

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku
from forge import ABSENT, CTY, N, b64url, dumps, forge_cose, forge_jws, payload_of
from notation import Layout, accepts
from pki import DAY, NOW, make_entity, make_intermediate, make_leaf, make_root, make_sha1_leaf

from dmsign_fast.envelope.notary import check_envelope, parse_envelope
from dmsign_fast.errors import FormatError, VerificationError

JWS, COSE = "application/jose+json", "application/cose"
ACCEPTED = True

RSA = make_leaf(make_intermediate(make_root()), key="RSA-2048")
EC = make_leaf(make_intermediate(make_root("Other Root"), "Other Intermediate"), "EC Signer")
SCHEME, TIME, EXPIRY = N + "signingScheme", N + "signingTime", N + "expiry"
SOON = f"{NOW + DAY:%Y-%m-%dT%H:%M:%SZ}"
PLUGIN = N + "verificationPlugin"


@dataclass(frozen=True)
class Case:
    name: str
    says: str
    changes: dict
    accepted: bool = False
    entity: object = RSA

    def __str__(self):
        return self.name


def case(name, says, accepted=False, entity=RSA, **changes):
    return Case(name, says, changes, accepted, entity)


def der_signature(raw):
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))


def padded(raw):
    """The same r and s, one byte longer."""
    half = len(raw) // 2
    return raw[:half] + b"\0" + raw[half:]


def repeated(name, value):
    """Put the name once more in front of the others."""
    return lambda data: b"{" + dumps({name: value})[1:-1] + b"," + data[1:]


def other_last_bits(data):
    """Encode so that the bits after the last byte, which no one reads, are not zero."""
    text = b64url(data)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = {0: 1, 2: 2, 3: 4}[len(text) % 4]
    assert spare > 1, "this length has no spare bits"
    return text[:-1] + alphabet[alphabet.index(text[-1]) | spare - 1]


def general(data):
    """The general JSON serialisation, with a list of signatures."""
    flat = json.loads(data)
    return dumps({"payload": flat.pop("payload"), "signatures": [flat]})


def compact(data):
    flat = json.loads(data)
    return ".".join(flat[one] for one in ("protected", "payload", "signature")).encode()


JWS_CASES = [
    case("alg-other-hash", "not that of a key", protected={"alg": "PS384"}, algorithm="PS384"),
    case("alg-pkcs1", "algorithm 'RS256'", protected={"alg": "RS256"}, algorithm="RS256"),
    case("alg-none", "algorithm 'none'", protected={"alg": "none"}, signature=lambda raw: b""),
    case("alg-of-other-key", "not that of a key", protected={"alg": "ES256"}),
    case("alg-number", "algorithm -37", protected={"alg": -37}),
    case("alg-list", "algorithm", protected={"alg": ["PS256"]}),
    case("alg-absent", "algorithm None", protected={"alg": ABSENT}),
    case("alg-upper-case-twice", "wrong case", protected={"ALG": "PS256"}, accepted=ACCEPTED),
    case("salt-of-0", "not over this content", salt=0, accepted=ACCEPTED),
    case("crit-absent", "no list of critical", protected={"crit": ABSENT}),
    case("crit-empty", "must be", protected={"crit": []}),
    case("crit-text", "no list of critical", protected={"crit": SCHEME}),
    case("crit-number", "no list of critical", protected={"crit": [SCHEME, 1]}),
    case("crit-twice", "more than once", protected={"crit": [SCHEME, SCHEME]}),
    case("crit-not-there", "unknown or absent: x", protected={"crit": [SCHEME, "x"]}),
    case(
        "crit-unknown",
        "unknown or absent: x",
        protected={"crit": [SCHEME, "x"], "x": 1},
        accepted=ACCEPTED,
    ),
    case("crit-alg", "unknown or absent: alg", protected={"crit": [SCHEME, "alg"]}),
    case("crit-signing-time", "unknown or absent", protected={"crit": [SCHEME, TIME]}),
    case("cty-other", "content type", protected={"cty": "application/json"}),
    case("cty-absent", "no text cty", protected={"cty": ABSENT}),
    case(
        "cty-in-upper-case", "wrong case", protected={"cty": ABSENT, "CTY": CTY}, accepted=ACCEPTED
    ),
    case("scheme-other", "signing scheme", protected={SCHEME: "notary.x510"}),
    case("scheme-absent", "no text", protected={SCHEME: ABSENT}),
    case(
        "scheme-authority",
        "signing scheme",
        protected={
            SCHEME: "notary.x509.signingAuthority",
            TIME: ABSENT,
            N + "authenticSigningTime": SOON,
            "crit": [SCHEME, N + "authenticSigningTime"],
        },
    ),
    case("time-absent", "signing time is missing", protected={TIME: ABSENT}),
    case("time-without-zone", "RFC 3339", protected={TIME: "2026-01-01T00:00:00"}),
    case("time-number", "RFC 3339", protected={TIME: 1767225600}),
    case("time-13th-month", "RFC 3339", protected={TIME: "2026-13-01T00:00:00Z"}),
    case("time-with-newline", "RFC 3339", protected={TIME: "2026-01-01T00:00:00Z\n"}),
    case("expiry-not-critical", "must be", protected={EXPIRY: SOON}),
    case("expiry-absent", "absent", protected={"crit": [SCHEME, EXPIRY]}),
    case(
        "expiry-at-signing-time",
        "expires before",
        protected={"crit": [SCHEME, EXPIRY], EXPIRY: f"{NOW:%Y-%m-%dT%H:%M:%SZ}"},
    ),
    case(
        "expiry-in-year-1",
        "expires before",
        protected={EXPIRY: "0001-01-01T00:00:00Z"},
        accepted=ACCEPTED,
    ),
    case("authentic-time", "does not belong", protected={N + "authenticSigningTime": SOON}),
    case("plugin", "unknown or absent", protected={"crit": [SCHEME, PLUGIN], PLUGIN: "x"}),
    case("plugin-not-critical", "are unknown", protected={PLUGIN: "x"}),
    case("reserved-name", "are unknown", protected={N + "new": "x"}, accepted=ACCEPTED),
    case(
        "protected-repeated",
        "more than once",
        protected_bytes=repeated("cty", "x"),
        accepted=ACCEPTED,
    ),
    case("protected-list", "not a JSON object", protected_bytes=lambda data: b"[" + data + b"]"),
    case(
        "protected-latin-1",
        "not UTF-8",
        protected_bytes=lambda data: data[:-1] + b',"x":"\xe9"}',
        accepted=ACCEPTED,
    ),
    case("payload-not-json", "not JSON", payload=b"{"),
    case("payload-empty", "not JSON", payload=b" "),
    case("payload-without-target", "not an OCI descriptor", payload=b"{}"),
    case(
        "base64-padded",
        "base64url",
        encode=lambda data: b64url(data) + "=" * (-len(b64url(data)) % 4),
    ),
    case(
        "base64-with-newline",
        "base64url",
        encode=lambda data: b64url(data) + "\n",
        accepted=ACCEPTED,
    ),
    case("field-unknown", "the fields: more", top={"more": "x"}, accepted=ACCEPTED),
    case("field-payload-absent", "the fields: payload", top={"payload": ABSENT}),
    case("field-repeated", "more than once", text=repeated("signature", "x"), accepted=ACCEPTED),
    case("general-serialisation", "the fields", text=general),
    case("compact-serialisation", "not JSON", text=compact),
    case("bytes-after-the-end", "not JSON", text=lambda data: data + b"{}"),
    case("byte-order-mark", "not JSON", text=lambda data: b"\xef\xbb\xbf" + data),
    case("header-unknown", "unprotected header", header={"kid": "x"}, accepted=ACCEPTED),
    case("header-agent-number", "agent", header={N + "signingAgent": 1}),
    case(
        "header-timestamp-empty",
        "timestamp",
        header={N + "timestampSignature": ""},
        accepted=ACCEPTED,
    ),
    case("chain-absent", "no certificates", header={"x5c": ABSENT}),
    case("chain-empty", "no certificates", chain=()),
    case("chain-text", "no certificates", header={"x5c": "AA=="}),
    case("chain-not-base64", "base64", header={"x5c": ["A"]}),
    case("chain-not-a-certificate", "cannot be parsed", header={"x5c": ["AA=="]}),
    case("signature-empty", "not over this content", signature=lambda raw: b""),
    case("signature-short", "not over this content", signature=lambda raw: raw[:-1]),
    case("signature-long", "not over this content", signature=lambda raw: raw + b"\0"),
    case("signature-der", "not over this content", entity=EC, signature=der_signature),
    case("signature-padded", "not over this content", entity=EC, signature=padded),
]
SHARED = [
    Case("chain-without-root", "self-signed root", {"chain": RSA.chain[:-1]}),
    Case("chain-reversed", "not that of a key", {"chain": RSA.chain[::-1]}),
    Case("chain-out-of-order", "did not issue", {"chain": (RSA.chain[0], *RSA.chain[:0:-1])}),
    Case("chain-root-twice", "not the last", {"chain": (*RSA.chain, RSA.root)}),
    Case("chain-unrelated", "did not issue", {"chain": (RSA.certificate, *EC.above)}),
    Case("chain-of-other-key", "not that of a key", {"chain": EC.chain}),
]


def tag(number, value):
    return cbor2.CBORTag(number, value)


def indefinite(data):
    """The same map, of a length that is not told."""
    assert data[0] >> 5 == 5
    return b"\xbf" + data[1:] + b"\xff"


def doubled(data):
    """The same map with content type twice."""
    assert data[0] >> 5 == 5
    return bytes([data[0] + 1]) + data[1:] + cbor2.dumps(3) + cbor2.dumps(CTY)


def label_true(data):
    """The same map, with true in place of the label 1, to which Python holds it equal."""
    assert data[1] == 1
    return data[:1] + b"\xf5" + data[2:]


def wide(data):
    """The same map, with the label 1 in two bytes."""
    assert data[1] == 1
    return data[:1] + b"\x18\x01" + data[2:]


COSE_CASES = [
    case("alg-other-hash", "not that of a key", protected={1: -38}, algorithm="PS384"),
    case("alg-pkcs1", "algorithm -257", protected={1: -257}, algorithm="RS256"),
    case("alg-of-other-key", "not that of a key", protected={1: -7}),
    case("alg-text", "algorithm 'PS256'", protected={1: "PS256"}),
    case("alg-float", "algorithm -37.0|RFC 8949", protected={1: -37.0}),
    case("alg-absent", "algorithm None", protected={1: ABSENT}),
    case("alg-by-name", "by number and by name", protected={"alg": "PS256"}, accepted=ACCEPTED),
    case("salt-of-0", "not over this content", salt=0),
    case("crit-absent", "no list of critical", protected={2: ABSENT}),
    case("crit-empty", "must be|no list", protected={2: []}),
    case("crit-twice", "more than once", protected={2: [SCHEME, SCHEME]}, accepted=ACCEPTED),
    case("crit-not-there", "unknown or absent: x", protected={2: [SCHEME, "x"]}),
    case(
        "crit-unknown",
        "unknown or absent: x",
        protected={2: [SCHEME, "x"], "x": 1},
        accepted=ACCEPTED,
    ),
    case(
        "crit-number",
        "unknown or absent: 99",
        protected={2: [SCHEME, 99], 99: 1},
        accepted=ACCEPTED,
    ),
    case("crit-alg", "unknown or absent: 1", protected={2: [SCHEME, 1]}, accepted=ACCEPTED),
    case(
        "crit-signing-time", "unknown or absent", protected={2: [SCHEME, TIME]}, accepted=ACCEPTED
    ),
    case("cty-other", "content type", protected={3: "application/json"}),
    case("cty-number", "no text cty", protected={3: 50}),
    case("cty-absent", "no text cty", protected={3: ABSENT}),
    case("scheme-other", "signing scheme", protected={SCHEME: "notary.x510"}),
    case("scheme-absent", "no text", protected={SCHEME: ABSENT}),
    case("time-absent", "signing time is missing", protected={TIME: ABSENT}),
    case("time-untagged", "not a time", protected={TIME: 1767225600}),
    case("time-float", "not a time", protected={TIME: tag(1, 1767225600.5)}, accepted=ACCEPTED),
    case("time-text", "not a time", protected={TIME: tag(0, "2026-01-01T00:00:00Z")}),
    case("time-with-tag-0", "not a time", protected={TIME: tag(0, 1767225600)}),
    case("time-too-large", "not a time", protected={TIME: tag(1, 1 << 62)}, accepted=ACCEPTED),
    case("expiry-not-critical", "must be", protected={EXPIRY: tag(1, 2000000000)}),
    case("expiry-before", "expires before", protected={2: [SCHEME, EXPIRY], EXPIRY: tag(1, 1)}),
    case("plugin", "unknown or absent", protected={2: [SCHEME, PLUGIN], PLUGIN: "x"}),
    case("protected-indefinite", "not CBOR", protected_bytes=indefinite),
    case("protected-repeated", "not CBOR", protected_bytes=doubled),
    case("protected-padded", "RFC 8949", protected_bytes=wide, accepted=ACCEPTED),
    case("protected-label-true", "no number and no text", protected_bytes=label_true),
    case("protected-empty", "not CBOR", protected_bytes=lambda data: b""),
    case("protected-list", "not a map", protected_bytes=lambda data: cbor2.dumps([])),
    case("bytes-after-the-end", "RFC 8949", text=lambda data: data + b"\0"),
    case("untagged", "with its tag", tag=None),
    case("tag-98", "with its tag", tag=98),
    case("tagged-twice", "with its tag|four values", text=lambda data: b"\xd2" + data),
    case("three-values", "four values", parts=lambda four: four[:3]),
    case("payload-nil", "four values", parts=lambda four: [*four[:2], None, four[3]]),
    case("payload-text", "four values", parts=lambda four: [*four[:2], four[2].decode(), four[3]]),
    case("payload-not-json", "not JSON", payload=b"{"),
    case("header-unknown", "unprotected header", header={"kid": "x"}, accepted=ACCEPTED),
    case("header-agent-number", "agent", header={N + "signingAgent": 1}, accepted=ACCEPTED),
    case(
        "header-timestamp-text",
        "timestamp",
        header={N + "timestampSignature": "x"},
        accepted=ACCEPTED,
    ),
    case("chain-absent", "no certificates", header={33: ABSENT}),
    case("chain-empty", "no certificates", chain=()),
    case("chain-one-without-array", "no certificates", header={33: b"\x30\x00"}),
    case("chain-protected", "no certificates", header={33: ABSENT}, protected={33: []}),
    case("signature-empty", "not over this content", signature=lambda raw: b""),
    case("signature-der", "not over this content", entity=EC, signature=der_signature),
    case("signature-padded", "not over this content", entity=EC, signature=padded),
]


OTHER_USAGES = dict.fromkeys(
    (
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)
NOT_CRITICAL = (x509.KeyUsage(digital_signature=True, **OTHER_USAGES), False)


def eku(*usages, critical=False):
    return (x509.ExtendedKeyUsage(list(usages)), critical)


ROOT = make_root()
CERTIFICATES = [
    (
        "leaf-is-ca",
        "is a CA",
        make_entity("ca", ROOT, ca=True, usage=("digital_signature",)),
        False,
    ),
    ("usage-absent", "has no key usage", make_leaf(ROOT, "no usage", usage=None), False),
    (
        "usage-not-critical",
        "is not critical",
        make_leaf(ROOT, "usage", usage=None, extensions=(NOT_CRITICAL,)),
        False,
    ),
    (
        "usage-lacks",
        "lacks digital_signature",
        make_leaf(ROOT, "lacks", usage=("crl_sign",)),
        False,
    ),
    (
        "usage-encipherment",
        "includes key_encipherment",
        make_leaf(ROOT, "more", usage=("digital_signature", "key_encipherment")),
        False,
    ),
    *(
        (
            f"eku-{one._name}",
            f"includes {one._name}",
            make_leaf(ROOT, one._name, extensions=(eku(Eku.CODE_SIGNING, one),)),
            accepted,
        )
        for one, accepted in (
            (Eku.SERVER_AUTH, False),
            (Eku.CLIENT_AUTH, False),
            (Eku.EMAIL_PROTECTION, False),
            (Eku.TIME_STAMPING, False),
            (Eku.OCSP_SIGNING, False),
            (Eku.ANY_EXTENDED_KEY_USAGE, ACCEPTED),
        )
    ),
    (
        "ca-constraints-absent",
        "not a CA",
        make_leaf(make_intermediate(ROOT, "no constraints", ca=None)),
        False,
    ),
    ("ca-false", "not a CA", make_leaf(make_intermediate(ROOT, "false", ca=False)), False),
    (
        "ca-constraints-not-critical",
        "are not critical",
        make_leaf(
            make_intermediate(
                ROOT, "bc", ca=None, extensions=((x509.BasicConstraints(True, None), False),)
            )
        ),
        ACCEPTED,
    ),
    (
        "ca-usage-absent",
        "has no key usage",
        make_leaf(make_intermediate(ROOT, "ku", usage=None)),
        False,
    ),
    (
        "ca-usage-lacks",
        "lacks keyCertSign",
        make_leaf(make_intermediate(ROOT, "ku2", usage=("crl_sign",))),
        False,
    ),
    (
        "ca-path-length",
        "allows 0",
        make_leaf(make_intermediate(make_root("short", path_length=0))),
        False,
    ),
    (
        "ca-key-of-1024-bits",
        "too small",
        make_leaf(make_intermediate(ROOT, "weak", key="RSA-1024")),
        ACCEPTED,
    ),
    (
        "leaf-key-of-2560-bits",
        "no support for a key",
        make_leaf(ROOT, "odd", key="RSA-2560"),
        False,
    ),
    (
        "self-signed-ca",
        "is a CA",
        make_root("alone", usage=("digital_signature", "key_cert_sign")),
        False,
    ),
]


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return Layout(tmp_path_factory.mktemp("layout") / "oci")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("notation")


def judged(home, layout, envelope, media_type, entity, says, accepted):
    with pytest.raises((FormatError, VerificationError), match=says):
        check_envelope(parse_envelope(envelope, media_type), target=layout.image)
    done = accepts(home, layout, envelope, media_type, entity)
    assert (done.exit_code == 0) == accepted, done.err


@pytest.mark.parametrize("case", JWS_CASES, ids=str)
def test_jws(case, home, layout):
    envelope = forge_jws(case.entity, layout.image, **case.changes)
    judged(home, layout, envelope, JWS, case.entity, case.says, case.accepted)


@pytest.mark.parametrize("case", COSE_CASES, ids=str)
def test_cose(case, home, layout):
    envelope = forge_cose(case.entity, layout.image, **case.changes)
    judged(home, layout, envelope, COSE, case.entity, case.says, case.accepted)


@pytest.mark.parametrize(("forge", "media_type"), [(forge_jws, JWS), (forge_cose, COSE)])
@pytest.mark.parametrize("case", SHARED, ids=str)
def test_chains(case, forge, media_type, home, layout):
    envelope = forge(case.entity, layout.image, **case.changes)
    judged(home, layout, envelope, media_type, case.entity, case.says, case.accepted)


@pytest.mark.parametrize(
    ("says", "entity", "accepted"),
    [one[1:] for one in CERTIFICATES],
    ids=[one[0] for one in CERTIFICATES],
)
def test_certificates(says, entity, accepted, home, layout):
    envelope = forge_jws(entity, layout.image)
    judged(home, layout, envelope, JWS, entity, says, accepted)


def test_a_certificate_signed_with_sha1(tmp_path, home, layout):
    leaf = make_sha1_leaf(tmp_path, ROOT)
    judged(home, layout, forge_jws(leaf, layout.image), JWS, leaf, "sha1, which is weak", False)


@pytest.mark.parametrize(
    ("changes", "says", "accepted"),
    [
        ({"digest": f"sha256:{0:064}"}, "its digest is", False),
        ({"size": 1}, "its size is 1", False),
        ({"mediaType": "application/vnd.oci.image.index.v1+json"}, "its mediaType is", False),
        ({"size": "1"}, "not an OCI descriptor", False),
        ({"size": True}, "not an OCI descriptor", False),
        ({"digest": ABSENT}, "not an OCI descriptor", False),
        ({"annotations": {"a": 1}}, "not an OCI descriptor", False),
        ({"annotations": []}, "not an OCI descriptor", False),
    ],
)
def test_other_targets(changes, says, accepted, home, layout):
    envelope = forge_jws(RSA, layout.image, payload=payload_of(layout.image, **changes))
    judged(home, layout, envelope, JWS, RSA, says, accepted)


def test_a_payload_with_two_targets(home, layout):
    payload = repeated("targetArtifact", {"digest": "sha256:0"})(payload_of(layout.image))
    envelope = forge_jws(RSA, layout.image, payload=payload)
    judged(home, layout, envelope, JWS, RSA, "more than once", ACCEPTED)


def test_base64_with_bits_to_spare(home, layout):
    payload = payload_of(layout.image)
    payload += b" " * (-(len(payload) + 1) % 3)  # so that two bits are left over
    envelope = json.loads(forge_jws(RSA, layout.image, payload=payload))
    assert len(envelope["signature"]) % 4 == 2
    envelope["signature"] = other_last_bits(base64.urlsafe_b64decode(envelope["signature"] + "=="))
    judged(home, layout, dumps(envelope), JWS, RSA, "canonical", ACCEPTED)
