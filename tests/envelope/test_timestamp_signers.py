"""Tokens whose signers are odd: the same verdict as the real notation, and no error but ours."""

import base64
import json
import random

import pytest
from asn1crypto import cms
from asn1crypto import x509 as asn1_x509
from forge import N, forge_jws
from notation import Layout, Notation
from pki import DAY, NOW, der, make_intermediate, make_leaf, make_root, pem
from tsa import forge_token, make_tsa

from dmsign_fast.envelope.notary import parse_envelope
from dmsign_fast.envelope.timestamp import verify_timestamp
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import DmsignError, FormatError, VerificationError

JWS = "application/jose+json"
TSA = make_tsa()
OTHER = make_tsa(make_intermediate(make_root("Other TSA Root"), "Other TSA Issuer"), "Other TSA")
ROOTS = TrustAnchors((TSA.root,))
LEAF = make_leaf(make_intermediate(make_root()))


def with_version(number):
    return lambda infos: [info | {"version": number} for info in infos]


def damaged(info):
    return info | {"signature": bytes(len(info["signature"]))}


def named(entity):
    leaf = asn1_x509.Certificate.load(der(entity.certificate))
    return {"issuer": leaf.issuer, "serial_number": leaf.serial_number}


def of_sid(entity):
    sid = cms.SignerIdentifier("issuer_and_serial_number", named(entity))
    return lambda infos: [info | {"sid": sid} for info in infos]


def by_key(infos):
    return [info | {"sid": cms.SignerIdentifier("subject_key_identifier", b"x")} for info in infos]


def issuer_serial(entity):
    name = named(entity)
    found = {
        "issuer": [asn1_x509.GeneralName("directory_name", name["issuer"])],
        "serial_number": name["serial_number"],
    }
    return lambda identifier: identifier | {"issuer_serial": found}


def signing_time(when):
    value = cms.CMSAttribute({"type": "signing_time", "values": [cms.Time("utc_time", when)]})
    return {"attributes": (value,)}


# what is odd, and whether it counts
CASES = {
    "as usual": ({}, True),
    "signer of version 2": ({"signers": with_version("v2")}, False),
    "signer of version 3": ({"signers": with_version("v3")}, False),
    "signed data of version 1": ({"version": "v1"}, False),
    "a good and a bad signer": ({"signers": lambda one: [*one, damaged(one[0])]}, True),
    "a bad and a good signer": ({"signers": lambda one: [damaged(one[0]), *one]}, True),
    "two bad signers": ({"signers": lambda one: [damaged(one[0]), damaged(one[0])]}, False),
    "no signer": ({"signers": lambda _: []}, False),
    "named by its key": ({"signers": by_key}, False),
    "a good signer, and another named by its key": (
        {"signers": lambda one: [*one, *by_key(one)]},
        False,
    ),
    "named as another": ({"signers": of_sid(OTHER)}, False),
    "named by the attribute": ({"identify": issuer_serial(TSA)}, True),
    "named by the attribute, as another by the signer": (
        {"identify": issuer_serial(TSA), "signers": of_sid(OTHER)},
        True,
    ),
    "named by the attribute as another": ({"identify": issuer_serial(OTHER)}, False),
    "the hash of another": ({"identify": lambda one: one | {"cert_hash": bytes(32)}}, False),
    "no certificate named": ({"identify": lambda _: None}, False),
    "signing time": (signing_time(NOW), True),
    "signing time before the certificates": (signing_time(NOW - 99 * DAY), False),
    "signing time after the certificates": (signing_time(NOW + 99 * DAY), False),
}


@pytest.mark.parametrize("what", CASES)
def test_as_notation(what, tmp_path):
    changes, good = CASES[what]
    layout = Layout(tmp_path / "oci")
    envelope = json.loads(forge_jws(LEAF, layout.image))
    signature = parse_envelope(json.dumps(envelope).encode(), JWS).signature
    embedded = (*TSA.chain, *OTHER.chain)
    token = forge_token(TSA, signature, embedded=embedded, **changes)
    envelope["header"][N + "timestampSignature"] = base64.b64encode(token).decode()
    if good:
        assert verify_timestamp(token, signature, ROOTS).time == NOW
    else:
        with pytest.raises((FormatError, VerificationError)):
            verify_timestamp(token, signature, ROOTS)
    layout.attach(json.dumps(envelope).encode(), JWS, [])
    notation = Notation(tmp_path / "home")
    notation.trust(pem(TSA.root), store="tsa/t")
    notation.trust(pem(LEAF.root), policy={"trustStores": ["ca:test", "tsa:t"]})
    done = notation.verify(layout)
    assert (done.exit_code == 0) == good, done.err


TAGS = bytes([1, 2, 3, 4, 5, 6, 9, 10, 12, 19, 22, 23, 24, 30, 48, 49, 0x80, 0xA0, 0xA1, 0xA3, 0])


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_no_other_error_whatever_the_bytes():
    """Keys of unknown kinds and curves, points off the curve, empty lists: all are in reach."""
    chance = random.Random(1)
    token = forge_token(TSA, b"s")
    ec_tsa = make_tsa(TSA, "EC TSA", key="EC-256")
    tokens = [token, forge_token(TSA, b"s", embedded=[*TSA.chain, ec_tsa.certificate])]
    for _ in range(1500):
        changed = bytearray(chance.choice(tokens))
        for _ in range(chance.choice((1, 1, 2, 3))):
            at = chance.randrange(len(changed))
            changed[at] = chance.choice(TAGS) if chance.random() < 0.5 else chance.randrange(256)
        try:
            verify_timestamp(bytes(changed), b"s", ROOTS)
        except (FormatError, VerificationError):
            continue
        except DmsignError as error:
            raise AssertionError(error) from error
