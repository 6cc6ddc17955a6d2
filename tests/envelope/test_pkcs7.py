"""Signing in one step and in two, and what the verifier refuses besides what openssl can make."""

import dataclasses
import hashlib
import json
from typing import ClassVar

import pytest
from asn1crypto import cms, core
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from helpers_pkcs7 import sign, verify
from pki import (
    DAY,
    KEY_SPECS,
    ML_DSA_SPECS,
    NOW,
    Entity,
    der,
    make_entity,
    make_expired_leaf,
    make_intermediate,
    make_leaf,
    make_no_signature_leaf,
    make_not_a_ca,
    make_root,
    make_v1_leaf,
)

from dmsign_fast.envelope.linux import root_hash_message
from dmsign_fast.envelope.pkcs7 import assemble_root_hash, sign_root_hash
from dmsign_fast.envelope.signed_data import MAX_SIZE, RawSigned, parse_signed_data
from dmsign_fast.errors import FormatError, ParameterError, SigningError, VerificationError
from dmsign_fast.signing.scheme import KeySpec, pkcs7_scheme


@pytest.fixture(scope="module")
def alone():
    """A self-signed signer."""
    return make_leaf()


@pytest.fixture(scope="module")
def signature(alone, root_hash):
    return sign(root_hash, alone)


def test_the_message(root_hash):
    assert root_hash_message(bytes(31) + b"\xab") == b"00" * 31 + b"ab"
    for wrong in (b"", bytes(65)):
        with pytest.raises(ParameterError, match="1 to 64 bytes"):
            root_hash_message(wrong)
    for text in (root_hash.hex().encode(), b"AB" * 32, bytes(range(20)).hex().encode()):
        with pytest.raises(ParameterError, match="hex text already"):
            root_hash_message(text)


@pytest.mark.parametrize("spec", KEY_SPECS + ML_DSA_SPECS)
def test_rsa_is_deterministic_and_every_kind_verifies(spec, root_hash):
    entity = make_leaf(key=spec)
    first, second = sign(root_hash, entity), sign(root_hash, entity)
    assert (first == second) == spec.startswith("RSA")
    assert verify(first, root_hash, entity.certificate).key_spec == spec


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        *(("RSA-2048", 1270), ("RSA-4096", 2038), ("EC-256", 672)),
        *(("ML-DSA-44", 6583), ("ML-DSA-65", 9001), ("ML-DSA-87", 12277)),
    ],
)
def test_sizes_are_near_those_the_kernel_was_seen_to_take(spec, size, root_hash):
    assert abs(len(sign(root_hash, make_leaf(key=spec))) - size) < 120


def test_the_form_of_what_we_write(leaf, root_hash):
    content = cms.ContentInfo.load(sign(root_hash, leaf), strict=True)["content"]
    assert content["version"].native == "v1"
    assert content["encap_content_info"]["content_type"].native == "data"
    assert isinstance(content["encap_content_info"]["content"], core.Void)
    embedded = [one.chosen.dump() for one in content["certificates"]]
    assert embedded == [der(one) for one in leaf.chain]  # the leaf first
    (signer,) = content["signer_infos"]
    assert isinstance(signer["signed_attrs"], core.Void)
    assert signer["sid"].chosen["serial_number"].native == leaf.certificate.serial_number
    rsa = cms.ContentInfo.load(sign(root_hash, make_leaf(key="RSA-2048")))["content"]
    algorithm = rsa["signer_infos"][0]["signature_algorithm"]
    assert algorithm["algorithm"].dotted == "1.2.840.113549.1.1.1"
    assert isinstance(algorithm["parameters"], core.Null)


def test_the_verdict_is_what_json_can_hold(leaf, root_hash):
    verdict = verify(sign(root_hash, leaf), root_hash, leaf.root)
    shown = json.loads(json.dumps(dataclasses.asdict(verdict)))
    assert shown["root_hash"] == root_hash.hex()
    assert shown["scheme"] == "ecdsa-sha256"
    assert [one["subject"] for one in shown["path"]] == [
        "CN=Test Signer",
        "CN=Test Intermediate",
        "CN=Test Root",
    ]
    assert shown["signer"] == shown["path"][0]
    assert shown["signer"]["serial"] == f"{leaf.certificate.serial_number:x}"
    assert shown["signer"]["fingerprint"] == leaf.certificate.fingerprint(hashes.SHA256()).hex()
    assert shown["embedded"] == 3
    assert shown["signed_attributes"] is False
    assert shown["signing_time"] is None


def test_in_two_steps(leaf, root_hash):
    raw = leaf.key.sign(root_hash_message(root_hash), ec.ECDSA(hashes.SHA256()))
    scheme = pkcs7_scheme(KeySpec.EC_256)
    made = assemble_root_hash(root_hash, [RawSigned(raw, leaf.chain, scheme)])
    assert verify(made, root_hash, leaf.root).embedded == 3
    bare = assemble_root_hash(root_hash, [RawSigned(raw, leaf.chain, scheme)], certificates=False)
    assert verify(bare, root_hash, leaf.certificate).embedded == 0
    with pytest.raises(SigningError, match="not a ecdsa-sha256 signature"):
        assemble_root_hash(root_hash[::-1], [RawSigned(raw, leaf.chain, scheme)])


def test_a_signer_that_answers_with_pss_is_caught(root_hash):
    entity = make_leaf(key="RSA-2048")

    class PssSigner:
        key_spec = KeySpec.RSA_2048
        certificate_chain = entity.chain

        def sign(self, message, scheme):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
            return entity.key.sign(message, pss, hashes.SHA256())

    with pytest.raises(SigningError, match="not a rsassa-pkcs1-v1_5-sha256 signature"):
        sign_root_hash(root_hash, PssSigner())


def refused_signers(directory):
    root = make_root()
    yield "expired", make_expired_leaf(root)
    yield "not valid before", make_leaf(root, start=NOW + DAY)
    yield "lacks digitalSignature", make_no_signature_leaf(root)
    yield "X.509 v1", make_v1_leaf(root)


def refused_chains():
    root = make_root()
    yield "is not a CA", make_leaf(make_not_a_ca(root))
    yield "is not a CA", make_leaf(make_leaf(root))
    yield "expired", make_leaf(make_intermediate(root, end=NOW - DAY / 2))
    yield "lacks keyCertSign", make_leaf(make_intermediate(root, usage=("crl_sign",)))


def test_no_signature_is_made_by_a_signer_that_must_not(root_hash, tmp_path):
    for reason, entity in (*refused_signers(tmp_path), *refused_chains()):
        for certificates in (True, False):
            with pytest.raises(SigningError, match=reason):
                sign(root_hash, entity, certificates=certificates)
    ed25519 = make_leaf(make_root(key="Ed25519"))
    with pytest.raises(SigningError, match="of a kind that Linux does not know"):
        sign(root_hash, Entity(ed25519.key, ed25519.certificate, ed25519.above))
    too_long = make_leaf(make_intermediate(make_root(path_length=0)))
    with pytest.raises(SigningError, match="path length"):
        sign(root_hash, too_long)
    with pytest.raises(ParameterError, match="sha384"):
        sign(root_hash, make_leaf(), digest="sha384")


def careless(root_hash, entity, **options):
    """Make a signature at a time when all was well."""
    return sign(root_hash, entity, at=NOW - 3 * DAY, **options)


def test_an_expired_certificate_is_refused_wherever_it_is(root_hash):
    start, end = NOW - 9 * DAY, NOW - 2 * DAY
    root = make_root(start=start)
    expired_intermediate = make_leaf(make_intermediate(root, start=start, end=end), start=start)
    for entity, anchor in (
        (make_leaf(root, start=start, end=end), root.certificate),
        (expired_intermediate, root.certificate),
        (expired_intermediate, expired_intermediate.above[0]),
        (old := make_leaf(make_root(start=start, end=end), start=start), old.root),
        (alone := make_leaf(start=start, end=end), alone.certificate),
    ):
        made = careless(root_hash, entity)
        assert verify(made, root_hash, anchor, at=NOW - 3 * DAY)
        with pytest.raises(VerificationError, match="expired on"):
            verify(made, root_hash, anchor)
    future = make_leaf(start=NOW + DAY)
    with pytest.raises(VerificationError, match="not valid before"):
        verify(sign(root_hash, future, at=NOW + 2 * DAY), root_hash, future.certificate)


def test_wrong_key_root_hash_or_trust(signature, alone, leaf, root_hash):
    with pytest.raises(
        VerificationError, match="signed by CN=Test Signer, not trusted; you trust CN=Test Root"
    ):
        verify(signature, root_hash, leaf.root)
    with pytest.raises(VerificationError, match="not over this root hash"):
        verify(signature, root_hash[::-1], alone.certificate)
    bare = sign(root_hash, alone, certificates=False)
    with pytest.raises(VerificationError, match="does not hold the signer's certificate"):
        verify(bare, root_hash, leaf.root)
    # The same name and serial number, and another key: what the kernel calls -EKEYREJECTED.
    twin = make_leaf(key_name="twin", serial=alone.certificate.serial_number)
    with pytest.raises(VerificationError, match="not over this root hash, or not by the key"):
        verify(bare, root_hash, twin.certificate)
    with pytest.raises(VerificationError, match="you trust CN=Test Signer, another with its name"):
        verify(signature, root_hash, twin.certificate)


def test_a_key_that_is_no_signing_key(root_hash, alone):
    """The signer of another kind than the signature says."""
    reasons = {"RSA-2048": "not by the key of CN=Test Signer", "Ed25519": "Linux cannot load"}
    for kind, reason in reasons.items():
        other = make_entity("Test Signer", key=kind, serial=alone.certificate.serial_number)
        bare = sign(root_hash, alone, certificates=False)
        with pytest.raises(VerificationError, match=reason):
            verify(bare, root_hash, other.certificate)


def changed(signature, change):
    message = cms.ContentInfo.load(signature)
    change(message, message["content"], message["content"]["signer_infos"][0])
    return message.dump()


def set_crls(_message, content, _signer):
    content["crls"] = cms.RevocationInfoChoices([])


def two_digests(_message, content, _signer):
    content["digest_algorithms"] = [{"algorithm": "sha256"}, {"algorithm": "sha1"}]


def no_signer(_message, content, _signer):
    content["signer_infos"] = []


def version_3(_message, content, _signer):
    content["version"] = "v3"


def signer_version_3(_message, content, signer):
    signer["version"] = "v3"


def no_digests(_message, content, _signer):
    content["digest_algorithms"] = []


def parameters(_message, _content, signer):
    signer["signature_algorithm"]["parameters"] = core.Integer(1)


def attribute_certificate(_message, content, _signer):
    other = {"other_cert_format": "1.2.3", "other_cert": core.Integer(1)}
    content["certificates"].append(cms.CertificateChoices("other", other))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_crls, "revocation lists"),
        (two_digests, "digest algorithms"),
        (no_digests, "digest algorithms"),
        (no_signer, "no signer"),
        (version_3, "version 1"),
        (signer_version_3, "issuer and serial number"),
        (parameters, "has parameters"),
        (attribute_certificate, "other than X.509"),
    ],
)
def test_other_forms_of_signed_data_are_refused(change, reason, signature, alone, root_hash):
    with pytest.raises(FormatError, match=reason):
        verify(changed(signature, change), root_hash, alone.certificate)


def test_certificates_are_parsed_whole(signature, alone, root_hash):
    usage, constraints = bytes.fromhex("0603551d0f"), bytes.fromhex("0603551d13")
    twice = signature.replace(usage, constraints)
    assert twice != signature
    with pytest.raises(FormatError, match="a certificate cannot be parsed: Duplicate"):
        verify(twice, root_hash, alone.certificate)


def test_other_messages_are_refused(alone, root_hash):
    data = cms.ContentInfo({"content_type": "data", "content": b"text"})
    for other in (data.dump(), der(alone.certificate), b"\x30\x00", b"\x05\x00", b"\x04\x01a"):
        with pytest.raises(FormatError, match="SignedData"):
            verify(other, root_hash, alone.certificate)


def test_sizes(signature, alone, root_hash):
    with pytest.raises(FormatError, match="empty"):
        verify(b"", root_hash, alone.certificate)
    with pytest.raises(FormatError, match="no more than 32767"):
        verify(signature + bytes(MAX_SIZE), root_hash, alone.certificate)
    with pytest.raises(FormatError, match="1 bytes follow"):
        verify(signature + b"\0", root_hash, alone.certificate)
    with pytest.raises(FormatError, match="indefinite length"):
        verify(b"\x30\x80" + signature[4:] + b"\0\0", root_hash, alone.certificate)


CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
SIGNING_TIME = "1.2.840.113549.1.9.5"
ID_DATA = core.ObjectIdentifier("1.2.840.113549.1.7.1")


class Attribute(core.Sequence):
    """An attribute of any values, those that asn1crypto would not make included."""

    _fields: ClassVar = [("type", core.ObjectIdentifier), ("values", cms.SetOfAny)]


class Attributes(core.SetOf):
    _child_spec = Attribute


def with_attributes(root_hash, entity, changes=None):
    """Sign by way of attributes: the three usual ones, with changes; None leaves one out."""
    digest = hashlib.sha256(root_hash_message(root_hash)).digest()
    values = {
        CONTENT_TYPE: [ID_DATA],
        SIGNING_TIME: [core.UTCTime(NOW)],
        MESSAGE_DIGEST: [core.OctetString(digest)],
        **(changes or {}),
    }
    encoded = Attributes(
        [
            {"type": kind, "values": [core.Any(one) for one in some]}
            for kind, some in values.items()
            if some is not None
        ]
    ).dump()
    raw = entity.key.sign(encoded, ec.ECDSA(hashes.SHA256()))

    def change(_message, _content, signer):
        signer["signed_attrs"] = cms.CMSAttributes.load(encoded)
        signer["signature"] = raw

    return changed(sign(root_hash, entity), change)


def test_signed_attributes(alone, root_hash):
    verdict = verify(with_attributes(root_hash, alone), root_hash, alone.certificate)
    assert verdict.signed_attributes
    assert verdict.signing_time == NOW.isoformat()
    no_time = with_attributes(root_hash, alone, {SIGNING_TIME: None})
    assert verify(no_time, root_hash, alone.certificate).signing_time is None
    unknown = with_attributes(root_hash, alone, {"1.2.3.4": [core.Integer(1), core.Integer(2)]})
    assert verify(unknown, root_hash, alone.certificate).signed_attributes


NAIVE = core.GeneralizedTime(contents=b"20300101000000")
YEAR_0 = core.GeneralizedTime(contents=b"00000101000000Z")


@pytest.mark.parametrize(
    ("error", "reason", "changes"),
    [
        (FormatError, "lack contentType or messageDigest", {CONTENT_TYPE: None}),
        (FormatError, "lack contentType or messageDigest", {MESSAGE_DIGEST: None}),
        (FormatError, "is not id-data", {CONTENT_TYPE: [core.ObjectIdentifier("1.2.3")]}),
        (FormatError, "more than one value, or none", {CONTENT_TYPE: [ID_DATA, ID_DATA]}),
        (FormatError, "more than one value, or none", {MESSAGE_DIGEST: []}),
        (FormatError, "not a PKCS#7", {MESSAGE_DIGEST: [core.Integer(1)]}),
        (FormatError, "not a PKCS#7", {CONTENT_TYPE: [core.Integer(1)]}),
        (FormatError, "not in UTC", {SIGNING_TIME: [NAIVE]}),
        (FormatError, "not in UTC", {SIGNING_TIME: [YEAR_0]}),
        (FormatError, "not a PKCS#7", {SIGNING_TIME: [core.UTCTime(contents=b"soon")]}),
        (VerificationError, "S/MIME", {"1.2.840.113549.1.9.15": [core.Null()]}),
        (VerificationError, "Microsoft opus", {"1.3.6.1.4.1.311.2.1.12": [core.Null()]}),
        (VerificationError, "Microsoft statement", {"1.3.6.1.4.1.311.2.1.11": [core.Null()]}),
        (VerificationError, "wrong size", {MESSAGE_DIGEST: [core.OctetString(b"")]}),
        (VerificationError, "not over this root", {MESSAGE_DIGEST: [core.OctetString(bytes(32))]}),
        (VerificationError, "signing time", {SIGNING_TIME: [core.UTCTime(NOW - 30 * DAY)]}),
    ],
)
def test_bad_signed_attributes(error, reason, changes, alone, root_hash):
    with pytest.raises(error, match=reason):
        verify(with_attributes(root_hash, alone, changes), root_hash, alone.certificate)


def test_attributes_cannot_pass_for_the_message(alone, root_hash):
    """A signature over the message stays one over the message when attributes are slipped in."""
    good = cms.ContentInfo.load(with_attributes(root_hash, alone))
    attributes = good["content"]["signer_infos"][0]["signed_attrs"]

    def slip_in(_message, _content, signer):
        signer["signed_attrs"] = attributes.copy()

    with pytest.raises(VerificationError, match="not over this root hash"):
        verify(changed(sign(root_hash, alone), slip_in), root_hash, alone.certificate)

    def strip(_message, _content, signer):
        signer["signed_attrs"] = None

    stripped = changed(good.dump(), strip)
    assert parse_signed_data(stripped).signers[0].attributes is None
    with pytest.raises(VerificationError, match="not over this root hash"):
        verify(stripped, root_hash, alone.certificate)


def test_unsigned_attributes_change_nothing(signature, alone, root_hash):
    def add(_message, _content, signer):
        signer["unsigned_attrs"] = [{"type": "1.2.3.4", "values": [core.Integer(1)]}]

    assert verify(changed(signature, add), root_hash, alone.certificate) == verify(
        signature, root_hash, alone.certificate
    )


def test_the_name_is_compared_byte_by_byte(signature, alone, root_hash):
    utf8, printable = b"\x0c\x0bTest Signer", b"\x13\x0bTest Signer"
    at = signature.rindex(utf8)
    renamed = signature[:at] + printable + signature[at + len(utf8) :]
    with pytest.raises(VerificationError, match="does not hold the signer's certificate"):
        verify(renamed, root_hash, alone.certificate)
