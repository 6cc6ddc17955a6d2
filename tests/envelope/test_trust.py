import pytest
from asn1crypto import cms
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.oid import ExtendedKeyUsageOID
from helpers_pkcs7 import ROOT_HASH, sign, verify
from pki import (
    DAY,
    KEY_SPECS,
    NOW,
    Entity,
    der,
    make_entity,
    make_intermediate,
    make_leaf,
    make_not_a_ca,
    make_root,
    make_sha1_leaf,
    make_v1_leaf,
    pem,
)

from dmsign_fast.envelope.linux import root_hash_message
from dmsign_fast.envelope.signed_data import RawSigned, build_signed_data
from dmsign_fast.envelope.trust import (
    TrustAnchors,
    build_path,
    load_trust_anchors,
    signature_problem,
)
from dmsign_fast.errors import (
    FormatError,
    ParameterError,
    SigningError,
    StorageError,
    VerificationError,
)
from dmsign_fast.signing.scheme import KeySpec, pkcs7_scheme


def path_to(entity, *anchors, others=None, at=NOW):
    others = entity.above if others is None else others
    return build_path(entity.certificate, others, TrustAnchors(anchors), at)


def refused(reason, entity, *anchors, **options):
    with pytest.raises(VerificationError, match=reason):
        path_to(entity, *anchors, **options)


def test_load_from_several_files(tmp_path, leaf):
    bundle, single = tmp_path / "bundle", tmp_path / "single"
    bundle.write_bytes(b"# some words\n" + pem(*leaf.chain))
    single.write_bytes(der(leaf.root))
    assert load_trust_anchors(bundle, single).certificates == leaf.chain
    with pytest.raises(ParameterError, match="no trust anchor"):
        load_trust_anchors()
    with pytest.raises(StorageError):
        load_trust_anchors(bundle, tmp_path / "nothing")
    single.write_bytes(b"nothing")
    with pytest.raises(FormatError):
        load_trust_anchors(bundle, single)


def test_the_anchor_may_be_any_certificate_of_the_chain(leaf):
    for length in range(1, 4):
        assert path_to(leaf, leaf.chain[length - 1]) == leaf.chain[:length]
    assert path_to(leaf, leaf.chain[1], others=()) == leaf.chain[:2]
    other = make_root("Other").certificate
    assert path_to(leaf, other, leaf.root) == leaf.chain


def test_a_self_signed_leaf_is_trusted_as_it_is_and_only_then(leaf):
    for alone in (make_leaf(), make_entity("bare"), make_root("CA that signs", usage=None)):
        assert path_to(alone, alone.certificate) == (alone.certificate,)
        refused("is not trusted; you trust CN=Test Root", alone, leaf.root)


def test_missing_wrong_or_impostor_issuers(leaf):
    refused("its issuer CN=Test Intermediate is missing", leaf, leaf.root, others=())
    refused("is not trusted", leaf, make_root("Other").certificate)
    impostor = make_root(key_name="impostor")
    refused("is not trusted", leaf, impostor.certificate)
    fake = make_intermediate(impostor, key_name="fake intermediate")
    refused("is not trusted", leaf, leaf.root, others=(fake.certificate,))


def test_issuers_must_be_cas(root):
    not_ca = make_not_a_ca(root)
    below = make_leaf(not_ca)
    refused("CN=Not A CA issued another and is not a CA", below, root.certificate)
    refused("CN=Not A CA issued another and is not a CA", below, not_ca.certificate)
    bare = make_entity("bare root")
    refused("CN=bare root issued another", make_leaf(bare), bare.certificate)
    no_signing = make_intermediate(root, usage=("crl_sign",))
    refused("lacks keyCertSign", make_leaf(no_signing), root.certificate)
    refused("lacks keyCertSign", make_leaf(no_signing), no_signing.certificate)


def test_validity_of_every_certificate_on_the_path(root):
    expired = make_intermediate(root, end=NOW - DAY / 2)
    refused("CN=Test Intermediate expired on", make_leaf(expired), root.certificate)
    refused("CN=Test Intermediate expired on", make_leaf(expired), expired.certificate)
    early = make_intermediate(root, start=NOW + DAY)
    refused("CN=Test Intermediate is not valid before", make_leaf(early), root.certificate)
    refused("CN=Test Signer expired on", make_leaf(root), root.certificate, at=NOW + 99 * DAY)


def test_leaf_rules_hold_for_an_anchor_too(root, tmp_path):
    without = make_leaf(root, usage=("key_agreement",))
    v1 = make_v1_leaf(root)
    for leaf, reason in ((without, "lacks digitalSignature"), (v1, "X.509 v1")):
        refused(reason, leaf, root.certificate)
        refused(reason, leaf, leaf.certificate)


def test_path_length():
    root = make_root(path_length=0)
    assert len(path_to(make_leaf(root), root.certificate)) == 2
    refused("path length", make_leaf(make_intermediate(root)), root.certificate)
    deep = make_root()
    for number in range(8):
        deep = make_intermediate(deep, f"level {number}")
    assert len(path_to(make_leaf(deep), deep.chain[-2])) == 9
    deeper = make_intermediate(deep, "level 8")
    refused("depth", make_leaf(deeper), deep.root)


def test_a_loop_ends():
    one = make_root("one")
    two = make_intermediate(one, "two")
    back = make_intermediate(two, "one")
    leaf = make_leaf(back)
    refused("not trusted", leaf, make_root("Other").certificate, others=leaf.above[:2])


def test_the_web_rules_do_not_apply_and_unknown_critical_extensions_do(root):
    code_signing = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), True)
    issuer = make_intermediate(root, extensions=(code_signing,))
    leaf = make_leaf(issuer, extensions=(code_signing,))
    assert path_to(leaf, root.certificate) == leaf.chain
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    strange = make_leaf(root, extensions=((unknown, True),))
    refused("critical", strange, root.certificate)
    assert path_to(make_leaf(root, extensions=((unknown, False),)), root.certificate)


@pytest.mark.parametrize("key", KEY_SPECS)
def test_issuers_of_every_key_spec(key):
    root = make_root(key=key)
    leaf = make_leaf(root)
    assert path_to(leaf, root.certificate) == leaf.chain
    assert not any(map(signature_problem, leaf.chain))


def test_weak_signatures_of_certificates_are_refused(root_hash, tmp_path):
    root = make_root(key="RSA-2048")
    sha1 = make_sha1_leaf(root)
    refused("not trusted", sha1, root.certificate, at=NOW + DAY)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    for weak in (sha1, make_leaf(root, rsa_padding=pss), make_leaf(make_root(key="Ed25519"))):
        assert "weak or unknown" in signature_problem(weak.certificate)
        with pytest.raises(SigningError, match=r"weak or unknown|does not know"):
            sign(root_hash, weak)
    # Left out of the message it is none of the kernel's business; an anchor needs no vouching.
    bare = sign(root_hash, sha1, certificates=False)
    assert verify(bare, root_hash, sha1.certificate).embedded == 0


def embed(leaf, *others):
    """Return the signature of the leaf with others embedded in place of its chain."""
    return sign(ROOT_HASH, Entity(leaf.key, leaf.certificate, others))


def with_others(leaf, *others):
    """Sign, and put other certificates into the message than those of the chain."""
    message = cms.ContentInfo.load(sign(ROOT_HASH, Entity(leaf.key, leaf.certificate)))
    for one in others:
        choice = cms.CertificateChoices("certificate", asn1_x509.Certificate.load(der(one)))
        message["content"]["certificates"].append(choice)
    return message.dump(force=True)


def with_key_identifier(entity, key):
    """Return a certificate of the entity that has the identifier of another key."""
    return (
        x509.CertificateBuilder(entity.certificate.subject, entity.certificate.subject)
        .public_key(entity.key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key), False)
        .sign(entity.key, hashes.SHA256())
    )


def test_embedded_certificates_must_fit_together(leaf):
    unrelated = make_root("Unrelated").certificate
    for others in (leaf.above, leaf.above[::-1], (*leaf.above, unrelated)):
        assert verify(with_others(leaf, *others), ROOT_HASH, leaf.root)
    renamed = make_root("Renamed", key_name="Test Intermediate").certificate
    # the key is that of the issuer, its name is not: Linux goes by the key, and we do not
    with pytest.raises(
        VerificationError,
        match="CN=Test Signer, who is not trusted; you trust CN=Renamed: its issuer",
    ):
        verify(with_others(leaf, renamed), ROOT_HASH, renamed)
    other = with_key_identifier(make_root("Other"), leaf.above[0].public_key())
    with pytest.raises(VerificationError, match="CN=Other did not issue CN=Test Signer"):
        verify(with_others(leaf, other), ROOT_HASH, other)


def test_an_embedded_certificate_that_names_itself_as_issuer_must_be_it(leaf):
    """Linux refuses the whole message, though the certificate is not on the path (tests/kernel)."""
    root = der(leaf.root)
    serial = leaf.root.serial_number.to_bytes((leaf.root.serial_number.bit_length() + 8) // 8)
    damaged = root.replace(serial, serial[:-1] + bytes([serial[-1] ^ 1]), 1)
    assert damaged != root
    with pytest.raises(VerificationError, match="its own key did not sign it"):
        verify(with_others(leaf, x509.load_der_x509_certificate(damaged)), ROOT_HASH, leaf.root)


def test_linux_climbs_to_the_top_and_looks_nowhere_else():
    """With the old root embedded, a renewed one of the same key is not found (tests/kernel)."""
    old, renewed = make_root(), make_root(serial=7)
    leaf = make_leaf(old)
    assert verify(sign(ROOT_HASH, leaf), ROOT_HASH, old.certificate)
    with pytest.raises(VerificationError, match="under CN=Test Root, not trusted; you trust"):
        verify(sign(ROOT_HASH, leaf), ROOT_HASH, renewed.certificate)
    # without the root the issuer's key is found, whichever certificate it is in
    top = with_others(leaf)
    for anchors in ((old,), (renewed,), (old, renewed)):
        assert verify(top, ROOT_HASH, *(one.certificate for one in anchors))


def test_a_rollover_certificate_leads_where_it_says():
    old, new = make_root(key_name="old"), make_root(key_name="new")
    rollover = make_entity("Test Root", old, key_name="new", ca=True, usage=("key_cert_sign",))
    leaf = make_leaf(new)
    made = with_others(leaf, rollover.certificate)
    assert verify(made, ROOT_HASH, old.certificate)
    with pytest.raises(VerificationError, match="issued by CN=Test Root, neither trusted"):
        verify(made, ROOT_HASH, new.certificate)


def test_a_damaged_root_is_not_signed_with(leaf):
    root = bytearray(der(leaf.root))
    root[-1] ^= 1
    damaged = x509.load_der_x509_certificate(bytes(root))
    with pytest.raises(SigningError, match="its own key did not sign it"):
        embed(leaf, leaf.above[0], damaged)


def usage(*kinds):
    return ((x509.ExtendedKeyUsage(kinds), False),)


def test_a_certificate_for_tls_servers_signs_no_layer(root):
    for kinds in (
        (ExtendedKeyUsageOID.CODE_SIGNING,),
        (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CODE_SIGNING),
        (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,),
    ):
        fit = make_leaf(root, extensions=usage(*kinds))
        assert verify(sign(ROOT_HASH, fit), ROOT_HASH, root.certificate)
    server = make_leaf(root, extensions=usage(ExtendedKeyUsageOID.SERVER_AUTH))
    with pytest.raises(SigningError, match="CN=Test Signer is not for signing code"):
        sign(ROOT_HASH, server)
    scheme = pkcs7_scheme(KeySpec.EC_256)
    raw = server.key.sign(root_hash_message(ROOT_HASH), ec.ECDSA(scheme.hash_algorithm))
    made = build_signed_data([RawSigned(raw, server.chain, scheme)], certificates=True)
    for anchor in server.chain:
        with pytest.raises(VerificationError, match="extended key usage lacks codeSigning"):
            verify(made, ROOT_HASH, anchor)
