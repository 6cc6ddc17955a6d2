"""Envelopes with one thing wrong each, and a signature that is right for their bytes."""

import json
import string
from dataclasses import replace

import cbor2
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from deviating_chains import CERTIFICATES, CHAINS
from deviation import COSE, EC, case
from forge import ABSENT, CTY, N, b64url, dumps, payload_of
from pki import DAY, NOW

SCHEME, TIME, EXPIRY = N + "signingScheme", N + "signingTime", N + "expiry"
SOON = f"{NOW + DAY:%Y-%m-%dT%H:%M:%SZ}"
PLUGIN, VERSION = N + "verificationPlugin", N + "verificationPluginMinVersion"
AUTHORITY, AUTHENTIC = "notary.x509.signingAuthority", N + "authenticSigningTime"


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


def spare_bits(data):
    """Encode the signature so that the bits after its last byte, which no one reads, are not 0."""
    flat = json.loads(data)
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    *most, last = flat["signature"]
    assert len(flat["signature"]) % 4 == 2, "four bits are to spare"
    return dumps(flat | {"signature": "".join([*most, alphabet[alphabet.index(last) | 1]])})


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
    case("alg-upper-case-twice", "wrong case", protected={"ALG": "PS256"}),
    case("salt-of-0", "not over this content", salt=0),
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
    ),
    case("crit-alg", "unknown or absent: alg", protected={"crit": [SCHEME, "alg"]}),
    case("crit-signing-time", "unknown or absent", protected={"crit": [SCHEME, TIME]}),
    case("cty-other", "content type", protected={"cty": "application/json"}),
    case("cty-absent", "no text cty", protected={"cty": ABSENT}),
    case("cty-in-upper-case", "wrong case", protected={"cty": ABSENT, "CTY": CTY}),
    case("scheme-other", "signing scheme", protected={SCHEME: "notary.x510"}),
    case("scheme-absent", "no text", protected={SCHEME: ABSENT}),
    case(
        "authority-time-absent",
        "authentic signing time is missing",
        protected={SCHEME: AUTHORITY, TIME: ABSENT},
    ),
    case(
        "authority-time-not-critical",
        "must be",
        protected={SCHEME: AUTHORITY, TIME: ABSENT, AUTHENTIC: SOON},
    ),
    case(
        "authority-with-signing-time",
        "does not belong",
        protected={SCHEME: AUTHORITY, AUTHENTIC: SOON, "crit": [SCHEME, AUTHENTIC]},
    ),
    case(
        "authority-expiry-at-signing-time",
        "expires before",
        protected={
            SCHEME: AUTHORITY,
            TIME: ABSENT,
            AUTHENTIC: SOON,
            EXPIRY: SOON,
            "crit": [SCHEME, AUTHENTIC, EXPIRY],
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
    ),
    case("authentic-time", "does not belong", protected={AUTHENTIC: SOON}),
    *(
        case(f"plugin-{name}", says, protected={"crit": [SCHEME, PLUGIN], PLUGIN: value})
        for name, value, says in (
            ("empty", "", "not the name"),
            ("blank", " ", "not the name"),
            ("number", 1, "not the name"),
            ("list", ["x"], "not the name"),
        )
    ),
    case("plugin-not-critical", "must be", protected={PLUGIN: "x"}),
    case("plugin-absent", "unknown or absent", protected={"crit": [SCHEME, PLUGIN]}),
    case(
        "plugin-version-alone",
        "is of no plugin",
        protected={"crit": [SCHEME, VERSION], VERSION: "1.0.0"},
    ),
    *(
        case(
            f"plugin-version-{name}",
            "not a semantic version",
            protected={"crit": [SCHEME, PLUGIN, VERSION], PLUGIN: "x", VERSION: value},
        )
        for name, value in (("odd", "1.0"), ("zero", "01.0.0"), ("number", 1))
    ),
    case(
        "plugin-and-crit-not-there",
        "unknown or absent: y",
        protected={"crit": [SCHEME, PLUGIN, "y"], PLUGIN: "x"},
    ),
    case(
        "plugin-and-reserved-name",
        "are unknown",
        protected={"crit": [SCHEME, PLUGIN, N + "new"], PLUGIN: "x", N + "new": 1},
    ),
    case("reserved-name", "are unknown", protected={N + "new": "x"}),
    case(
        "protected-repeated",
        "more than once",
        protected_bytes=repeated("cty", "x"),
    ),
    case("protected-list", "not a JSON object", protected_bytes=lambda data: b"[" + data + b"]"),
    case(
        "protected-latin-1",
        "not UTF-8",
        protected_bytes=lambda data: data[:-1] + b',"x":"\xe9"}',
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
    ),
    case("base64-with-spare-bits", "canonical", text=spare_bits),
    case("field-unknown", "missing or unknown: more", top={"more": "x"}),
    case("field-payload-absent", "missing or unknown: payload", top={"payload": ABSENT}),
    case("field-repeated", "more than once", text=repeated("signature", "x")),
    case("general-serialisation", "fields of the JWS", text=general),
    case("compact-serialisation", "not JSON", text=compact),
    case("bytes-after-the-end", "not JSON", text=lambda data: data + b"{}"),
    case("byte-order-mark", "not JSON", text=lambda data: b"\xef\xbb\xbf" + data),
    case("header-unknown", "unprotected header", header={"kid": "x"}),
    case("header-agent-number", "agent", header={N + "signingAgent": 1}),
    case(
        "header-timestamp-empty",
        "timestamp",
        header={N + "timestampSignature": ""},
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
    case("alg-by-name", "by number and by name", protected={"alg": "PS256"}),
    case("salt-of-0", "not over this content", salt=0),
    case("crit-absent", "no list of critical", protected={2: ABSENT}),
    case("crit-empty", "must be|no list", protected={2: []}),
    case("crit-twice", "more than once", protected={2: [SCHEME, SCHEME]}),
    case("crit-not-there", "unknown or absent: x", protected={2: [SCHEME, "x"]}),
    case(
        "crit-unknown",
        "unknown or absent: x",
        protected={2: [SCHEME, "x"], "x": 1},
    ),
    case(
        "crit-number",
        "unknown or absent: 99",
        protected={2: [SCHEME, 99], 99: 1},
    ),
    case("crit-alg", "unknown or absent: 1", protected={2: [SCHEME, 1]}),
    case("crit-signing-time", "unknown or absent", protected={2: [SCHEME, TIME]}),
    case("cty-other", "content type", protected={3: "application/json"}),
    case("cty-number", "no text cty", protected={3: 50}),
    case("cty-absent", "no text cty", protected={3: ABSENT}),
    case("scheme-other", "signing scheme", protected={SCHEME: "notary.x510"}),
    case("scheme-absent", "no text", protected={SCHEME: ABSENT}),
    case("time-absent", "signing time is missing", protected={TIME: ABSENT}),
    case("time-untagged", "not a time", protected={TIME: 1767225600}),
    case("time-float", "not a time", protected={TIME: tag(1, 1767225600.5)}),
    case("time-text", "not a time", protected={TIME: tag(0, "2026-01-01T00:00:00Z")}),
    case("time-with-tag-0", "not a time", protected={TIME: tag(0, 1767225600)}),
    case("time-too-large", "not a time", protected={TIME: tag(1, 1 << 62)}),
    case("expiry-not-critical", "must be", protected={EXPIRY: tag(1, 2000000000)}),
    case("expiry-before", "expires before", protected={2: [SCHEME, EXPIRY], EXPIRY: tag(1, 1)}),
    case("plugin-not-critical", "must be", protected={PLUGIN: "x"}),
    case("plugin-empty", "not the name", protected={2: [SCHEME, PLUGIN], PLUGIN: ""}),
    case(
        "authority-with-signing-time",
        "does not belong",
        protected={SCHEME: AUTHORITY, AUTHENTIC: tag(1, 2000000000), 2: [SCHEME, AUTHENTIC]},
    ),
    case(
        "authority-time-not-critical",
        "must be",
        protected={SCHEME: AUTHORITY, TIME: ABSENT, AUTHENTIC: tag(1, 2000000000)},
    ),
    case("protected-indefinite", "not CBOR", protected_bytes=indefinite),
    case("protected-repeated", "not CBOR", protected_bytes=doubled),
    case("protected-padded", "RFC 8949", protected_bytes=wide),
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
    case("header-unknown", "unprotected header", header={"kid": "x"}),
    case("header-agent-number", "agent", header={N + "signingAgent": 1}),
    case(
        "header-timestamp-text",
        "timestamp",
        header={N + "timestampSignature": "x"},
    ),
    case("chain-absent", "no certificates", header={33: ABSENT}),
    case("chain-empty", "no certificates", chain=()),
    case("chain-one-without-array", "no certificates", header={33: b"\x30\x00"}),
    case("chain-protected", "no certificates", header={33: ABSENT}, protected={33: []}),
    case("signature-empty", "not over this content", signature=lambda raw: b""),
    case("signature-der", "not over this content", entity=EC, signature=der_signature),
    case("signature-padded", "not over this content", entity=EC, signature=padded),
]


def target(name, says="not an OCI descriptor", **changes):
    """A payload that names another artifact, or none."""
    return case(name, says, payload=lambda image: payload_of(image, **changes))


def two_targets(image):
    return repeated("targetArtifact", {"digest": "sha256:0"})(payload_of(image))


PAYLOADS = [
    target("digest-other", "its digest is", digest=f"sha256:{0:064}"),
    target("digest-absent", digest=ABSENT),
    target("size-other", "its size is 1", size=1),
    target("size-text", size="1"),
    target("size-true", size=True),
    target("type-other", "its mediaType is", mediaType="application/vnd.oci.image.index.v1+json"),
    target("annotation-number", annotations={"a": 1}),
    target("annotations-list", annotations=[]),
    case("target-twice", "more than once", payload=two_targets),
]
CASES = {
    "JWS": [*JWS_CASES, *CHAINS],
    "COSE": [replace(one, media_type=COSE) for one in (*COSE_CASES, *CHAINS)],
    "Certificates": CERTIFICATES,
    "Payloads": PAYLOADS,
}
