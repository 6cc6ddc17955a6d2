"""Signatures that nobody should make, for what Linux says to them beyond tests/kernel/cases.py.

The expected verdicts are those of Linux 7.2.13, which judged these very cases in a virtual machine.
"""

from __future__ import annotations

from datetime import timedelta

import pki
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from helpers import flip
from kernel.images import Images

_PLAIN = ("smime", "-noattr", "-md", "sha256")
_BER = ("cms", "-noattr", "-stream", "-md", "sha256")
_SHA256, _SHA512 = (bytes.fromhex(f"0609608648016503040{one}") for one in ("201", "203"))


def more(images: Images):
    """Yield the cases; what they are to be judged with is in ``images.trusted``."""
    yield from _forms(images)
    yield from _algorithms(images)
    yield from _names(images)
    yield from _chains(images)


def _forms(images: Images):
    yield images.by_openssl("form-keyid", "cms", "-noattr", "-keyid", "-md", "sha256")
    yield images.by_openssl("form-ber", *_BER, expected="EBADMSG")
    other = images.trust("EC-256").write(images.directory / "other")
    second = ("-signer", str(other.leaf), "-inkey", str(other.key))
    yield images.by_openssl("form-two-signers", *_PLAIN, *second)
    kind = ("cms", "-noattr", "-md", "sha256", "-econtent_type", "1.2.840.113549.1.9.16.1.4")
    yield images.by_openssl("form-content-type", *kind, expected="EINVAL")
    with_all = ("smime", "-md", "sha256", "-nodetach")
    yield images.by_openssl("form-capabilities-content", *with_all, expected="EKEYREJECTED")
    attributes = ("cms", "-nosmimecap", "-md", "sha256")
    newline = {"slip": lambda text: text + b"\n", "expected": "EKEYREJECTED"}
    yield images.by_openssl("attributes-newline", *attributes, **newline)
    yield _edited(images, "attributes-repeated", _repeat, "EKEYREJECTED")
    yield _edited(images, "attributes-short-digest", _shorten, "EBADMSG")
    late = images.trusted["late"] = pki.make_leaf(name="Late", start=pki.NOW + 2 * pki.DAY)
    yield images.by_openssl("attributes-time", *attributes, signer=late, expected="EKEYREJECTED")


def _edited(images: Images, name: str, edit, expected: str):
    """Edit the attributes of a signature, which is then not over them: that is looked at later."""
    options = ("cms", "-nosmimecap", "-md", "sha256")
    case = images.by_openssl(name, *options, expected=expected)
    message = cms.ContentInfo.load(case.signature.read_bytes())
    attributes = message["content"]["signer_infos"][0]["signed_attrs"]
    edit(attributes)
    case.signature.write_bytes(message.dump(force=True))
    return case


def _repeat(attributes) -> None:
    attributes.append(attributes[0].copy())


def _shorten(attributes) -> None:
    for one in attributes:
        if one["type"].native == "message_digest":
            one["values"] = [b"short"]


def _algorithms(images: Images):
    yield images.by_openssl("rsa-sha224", "smime", "-noattr", "-md", "sha224")
    pairs = {("EC-256", "sha512"), ("EC-384", "sha256"), ("EC-256", "sha1")}
    for key, digest in sorted(pairs):
        signer = images.trust(key)
        yield images.by_openssl(f"{key}-{digest}", "smime", "-noattr", "-md", digest, signer=signer)
    yield images.by_openssl("md5", "smime", "-noattr", "-md", "md5", expected="ENOPKG")
    case = images.by_openssl("rsa-other-digest", *_PLAIN, expected="EBADMSG")
    contents = case.signature.read_bytes().replace(_SHA256, _SHA512)
    case.signature.write_bytes(contents)
    yield case
    for kind in ("Ed25519", "EC-256K1", "EC-224"):
        stranger = pki.make_leaf(name=f"Embedded {kind}", key=kind).write(images.directory / kind)
        embedded = ("-certfile", str(stranger.leaf))
        yield images.by_openssl(f"embedded-{kind}", *_PLAIN, *embedded, expected="ENOPKG")
    sha1 = pki.make_sha1_leaf(images.directory / "sha1", images.trust("EC-256"))
    files = sha1.write(images.directory / "sha1-files")
    yield images.by_openssl("embedded-sha1", *_PLAIN, "-certfile", str(files.leaf))


def _certificate(name: str, issuer: pki.Entity, authority) -> pki.Entity:
    key = pki.make_key("EC-256", name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(pki.NOW - pki.DAY)
        .not_valid_after(pki.NOW + timedelta(days=30))
    )
    if authority:
        builder = builder.add_extension(authority, critical=False)
    certificate = builder.sign(issuer.key, hashes.SHA256())
    return pki.Entity(key, certificate, issuer.chain)


def _authority(issuer: x509.Certificate, *, key: bytes | None, serial: int | None = None):
    name = [x509.DirectoryName(issuer.issuer)]
    return x509.AuthorityKeyIdentifier(key, name, serial or issuer.serial_number)


def _names(images: Images):
    """How a certificate names its issuer: by key identifier, by name and number, both, not."""
    root = images.trusted["names"] = pki.make_root("Trusted Namer")
    own = root.certificate
    identifier = own.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    ways = {
        "none": (None, "ENOKEY"),
        "serial": (_authority(own, key=None), "reads"),
        "both": (_authority(own, key=identifier), "reads"),
        "wrong-key": (_authority(own, key=bytes(20)), "EKEYREJECTED"),
        "wrong-serial": (_authority(own, key=identifier, serial=7), "ENOKEY"),
    }
    for way, (authority, expected) in ways.items():
        signer = _certificate(f"Names {way}", root, authority)
        yield images.by_openssl(f"names-{way}", *_PLAIN, signer=signer, expected=expected)


def _self_named() -> pki.Entity:
    """A self-signed certificate with its own key identifier, and a serial number of another."""
    key = pki.make_key("EC-256", "Halfway")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Halfway")])
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority = x509.AuthorityKeyIdentifier(own.digest, [x509.DirectoryName(name)], 7)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(pki.NOW - pki.DAY)
        .not_valid_after(pki.NOW + pki.DAY)
        .add_extension(own, critical=False)
        .add_extension(authority, critical=False)
    )
    return pki.Entity(key, builder.sign(key, hashes.SHA256()), ())


def _chains(images: Images):
    root = images.trusted["names"]
    # says that the trusted one issued it, and another key did
    thief = pki.make_root("Trusted Namer", key_name="thief")
    identifier = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    authority = x509.AuthorityKeyIdentifier(identifier.value.digest, None, None)
    stolen = _certificate("Stolen", thief, authority)
    yield images.by_openssl("chain-stolen", *_PLAIN, signer=stolen, expected="EKEYREJECTED")
    files = root.write(images.directory / "root")
    embedded = ("-certfile", str(files.leaf))
    expected = "EKEYREJECTED"
    yield images.by_openssl(
        "chain-stolen-root", *_PLAIN, *embedded, signer=stolen, expected=expected
    )
    halfway = {"signer": _self_named(), "expected": "EKEYREJECTED"}
    yield images.by_openssl("chain-names-itself", *_PLAIN, **halfway)
    yield images.by_openssl("chain-root-itself", *_PLAIN, signer=root)
    rsa = pki.make_root("RSA Root", key="RSA-2048")
    leaf = images.trusted["below-rsa"] = pki.make_leaf(rsa, "Below RSA")
    case = images.signed("chain-root-damaged", leaf, expected="EINVAL")
    # the last byte of the root's signature of itself
    at = case.signature.read_bytes().index(pki.der(rsa.certificate))
    flip(case.signature, at + len(pki.der(rsa.certificate)) - 1)
    yield case
