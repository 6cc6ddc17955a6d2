"""Certificates that no CA should issue, signed all the same: one oddity in each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import pki
from asn1crypto import core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_SKI, _USAGE, _CA, _AKI, _EKU = (f"2.5.29.{number}" for number in (14, 15, 19, 35, 37))


@dataclass
class Body:
    """The part of a certificate that is signed, in pieces of DER; extensions are values by OID."""

    serial: bytes
    algorithm: bytes
    issuer: bytes
    before: bytes
    after: bytes
    subject: bytes
    key: bytes
    version: bytes = b"\xa0\3\2\1\2"
    unique: bytes = b""
    extensions: list[bytes] = field(default_factory=list)

    def der(self) -> bytes:
        """Return all of it."""
        extensions = wrap(0xA3, wrap(0x30, b"".join(self.extensions))) if self.extensions else b""
        validity = wrap(0x30, self.before + self.after)
        head = (self.version, self.serial, self.algorithm, self.issuer, validity, self.subject)
        return wrap(0x30, b"".join((*head, self.key, self.unique, extensions)))

    def add(self, oid: str, value: bytes, *, critical: bytes = b"") -> None:
        """Add an extension behind the others."""
        self.extensions.append(wrap(0x30, _oid(oid) + critical + wrap(4, value)))

    def drop(self, *oids: str) -> None:
        """Leave extensions out."""
        self.extensions = [
            one for one in self.extensions if not any(_oid(oid) in one for oid in oids)
        ]


Edit = Callable[[Body], object]


def wrap(tag: int, content: bytes) -> bytes:
    """Return DER: a tag, the length, the content."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(octets))) + octets + content


def sign_raw(key, message: bytes) -> bytes:
    """Sign with SHA-256, as PKCS#1 v1.5 or ECDSA."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(message, ec.ECDSA(hashes.SHA256()))


def _inner(body: bytes, algorithm: bytes, signature: bytes) -> bytes:
    return body + algorithm + wrap(0x03, b"\0" + signature)


def assemble(body: bytes, algorithm: bytes, signature: bytes) -> bytes:
    """Return a certificate of these parts, as it is usual."""
    return wrap(0x30, _inner(body, algorithm, signature))


def forge(
    name: str, key, issuer: pki.Entity | None, edit: Edit = lambda _: None, whole=None
) -> bytes:
    """Return the DER of a certificate of the key that is edited before its issuer signs it.

    Without an issuer it is signed by the key. ``whole`` puts it together.
    """
    signer = issuer.key if issuer else key
    is_rsa = isinstance(signer, rsa.RSAPrivateKey)
    algorithm = bytes.fromhex(
        "300d06092a864886f70d01010b0500" if is_rsa else "300a06082a8648ce3d040302"
    )
    subject = name_der(name)
    public, above = key.public_key(), signer.public_key()
    body = Body(
        serial=wrap(2, b"\1" + hashlib.sha256(name.encode()).digest()[:8]),
        algorithm=algorithm,
        issuer=issuer.certificate.subject.public_bytes() if issuer else subject,
        before=_time("200101000000Z"),
        after=_time("480101000000Z"),
        subject=subject,
        key=public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    )
    body.add(_CA, b"\x30\0")
    body.add(_USAGE, b"\3\2\7\x80", critical=b"\1\1\xff")
    body.add(_SKI, wrap(4, _identifier(public)))
    body.add(_AKI, wrap(0x30, wrap(0x80, _identifier(above))))
    edit(body)
    made = body.der()
    return (whole or assemble)(made, algorithm, sign_raw(signer, made))


def name_der(name: str) -> bytes:
    """Return a Name that is a common name."""
    return wrap(0x30, wrap(0x31, wrap(0x30, _oid("2.5.4.3") + wrap(0x0C, name.encode()))))


def _identifier(public) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(public).digest


def _time(text: str) -> bytes:
    """Return GeneralizedTime for what begins with a year of four digits."""
    general = len(text) > 13 and text[:2] in ("20", "99") and text[4:6] != "00"
    return wrap(0x18 if general else 0x17, text.encode())


def _oid(dotted: str) -> bytes:
    return core.ObjectIdentifier(dotted).dump()


def without_sign(signature: bytes) -> bytes:
    """Leave out the zero in front of r and s in an ECDSA value; some have none."""
    numbers = core.SequenceOf.load(signature, spec=core.Integer)
    return wrap(0x30, b"".join(wrap(2, one.contents.lstrip(b"\0")) for one in numbers))


def _set(**parts: bytes) -> Edit:
    return lambda body: [setattr(body, name, value) for name, value in parts.items()]


def _times(before: str = "200101000000Z", after: str = "480101000000Z") -> Edit:
    return _set(before=_time(before), after=_time(after))


def _serial(contents: bytes) -> Edit:
    return _set(serial=wrap(2, contents))


def _extension(oid: str, value: bytes, critical: bytes = b"") -> Edit:
    """Put this value in place of the extension, or behind all."""

    def edit(body: Body) -> None:
        body.drop(oid)
        body.add(oid, value, critical=critical)

    return edit


def _again(oid: str, value: bytes) -> Edit:
    return lambda body: body.add(oid, value)


def _without(*oids: str) -> Edit:
    return lambda body: body.drop(*oids)


def _key(change: Callable[[bytes], bytes]) -> Edit:
    """Change the encoding of the key and of its algorithm."""
    return lambda body: setattr(body, "key", change(body.key))


def _replace(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert bytes.fromhex(old) in data
        return data.replace(bytes.fromhex(old), bytes.fromhex(new), 1)

    return change


def _pad_point(info: bytes) -> bytes:
    """Write the coordinates with a zero in front."""
    point = info[-64:]
    return wrap(0x30, info[2:23] + wrap(0x03, b"\0\4\0" + point[:32] + b"\0" + point[32:]))


def _rsa_key(change: Callable[[bytes, bytes], bytes]) -> Callable[[bytes], bytes]:
    """Put another encoding of modulus and exponent, which are given as contents, into the key."""

    def edit(info: bytes) -> bytes:
        parsed = asn1_x509.PublicKeyInfo.load(info)
        key = parsed["public_key"].parsed
        made = change(key["modulus"].contents, key["public_exponent"].contents)
        return wrap(0x30, parsed["algorithm"].dump() + wrap(0x03, b"\0" + made))

    return edit


def _without_parameters(info: bytes) -> bytes:
    parsed = asn1_x509.PublicKeyInfo.load(info)
    algorithm = wrap(0x30, _oid("1.2.840.113549.1.1.1"))
    return wrap(0x30, algorithm + parsed["public_key"].dump())


_NAME = bytes.fromhex("300c310a300806035504030c0141")
_LONG = wrap(0x30, wrap(0x31, wrap(0x30, bytes.fromhex("0603550403") + wrap(0x0C, b"N" * 300))))

EDITS: dict[str, Edit] = {
    "plain": lambda _: None,
    "time-general-2020": _times("20200101000000Z", "20300101000000Z"),
    "time-general-before": _times("20200101000000Z"),
    "time-general-after-2049": _times(after="20491231235959Z"),
    "time-general-after-2050": _times(after="20500101000000Z"),
    "time-9999": _times(after="99991231235959Z"),
    "time-1960": _times("600101000000Z"),
    "time-1970": _times("700101000000Z"),
    "time-1969": _times("691231235959Z"),
    "time-no-seconds": _times("2001010000Z"),
    "time-offset": _times("200101000000+0000"),
    "time-no-zone": _times("200101000000"),
    "time-leap-second": _times(after="481231235960Z"),
    "time-24-hours": _times(after="481231240000Z"),
    "time-25-hours": _times(after="481231250000Z"),
    "time-29-february": _times(after="470229000000Z"),
    "time-29-february-leap": _times(after="480229000000Z"),
    "time-month-13": _times(after="471301000000Z"),
    "time-fraction": _times(after="20500101000000.5Z"),
    "time-letters": _times(after="4712010000aaZ"),
    "serial-0": _serial(b"\0"),
    "serial-negative": _serial(b"\xfb"),
    "serial-padded": _serial(b"\0\0\1"),
    "serial-21-bytes": _serial(b"\x7f" * 21),
    "serial-none": _serial(b""),
    "version-1-with-extensions": _set(version=b"\xa0\3\2\1\0"),
    "version-2": _set(version=b"\xa0\3\2\1\1"),
    "version-4": _set(version=b"\xa0\3\2\1\3"),
    "subject-empty": _set(subject=b"\x30\0"),
    "subject-set-empty": _set(subject=bytes.fromhex("30023100")),
    "subject-long": _set(subject=_LONG),
    "subject-printable": _set(subject=bytes.fromhex("300c310a300806035504031301") + b"A"),
    "usage-empty": _extension(_USAGE, b"\3\1\0"),
    "usage-8-unused": _extension(_USAGE, b"\3\2\x08\x80"),
    "usage-two-bytes": _extension(_USAGE, b"\3\3\7\x80\0"),
    "usage-as-octets": _extension(_USAGE, b"\4\2\7\x80"),
    "usage-no-bytes": _extension(_USAGE, b""),
    "critical-false": _extension(_USAGE, b"\3\2\7\x80", critical=b"\1\1\0"),
    "critical-two-bytes": _extension(_USAGE, b"\3\2\7\x80", critical=b"\1\2\0\0"),
    "usage-twice": _again(_USAGE, b"\3\2\7\x80"),
    "constraints-empty": _extension(_CA, b"\x30\0"),
    "constraints-false": _extension(_CA, b"\x30\3\1\1\0"),
    "constraints-length-only": _extension(_CA, b"\x30\3\2\1\0"),
    "constraints-true": _extension(_CA, b"\x30\3\1\1\xff"),
    "constraints-true-as-1": _extension(_CA, b"\x30\3\1\1\1"),
    "constraints-true-length": _extension(_CA, b"\x30\6\1\1\xff\2\1\0"),
    "constraints-long": _extension(_CA, b"\x30\x81\3\1\1\xff"),
    "constraints-null": _extension(_CA, b"\5\0"),
    "constraints-twice": _again(_CA, b"\x30\0"),
    "constraints-none": _without(_CA),
    "subject-key-1-byte": _extension(_SKI, b"\4\1a"),
    "subject-key-empty": _extension(_SKI, b"\4\0"),
    "subject-key-127": _extension(_SKI, wrap(4, b"k" * 127)),
    "subject-key-200": _extension(_SKI, wrap(4, b"k" * 200)),
    "subject-key-critical": _extension(_SKI, b"\4\4abcd", critical=b"\1\1\xff"),
    "subject-key-bare": _extension(_SKI, b"abcdefgh"),
    "subject-key-none": _without(_SKI),
    "subject-key-twice": _again(_SKI, b"\4\2ab"),
    "authority-empty": _extension(_AKI, b"\x30\0"),
    "authority-null": _extension(_AKI, b"\5\0"),
    "authority-junk-behind": _extension(_AKI, b"\x30\0\5\0"),
    "authority-no-bytes": _extension(_AKI, b""),
    "authority-empty-key": _extension(_AKI, b"\x30\2\x80\0"),
    "authority-uri": _extension(_AKI, b"\x30\6\xa1\4\x86\2a:"),
    "authority-serial-alone": _extension(_AKI, b"\x30\3\x82\1\1"),
    "authority-other-name": _extension(
        _AKI, wrap(0x30, wrap(0xA1, wrap(0xA4, _NAME)) + b"\x82\1\1")
    ),
    "authority-bad-choice": _extension(_AKI, b"\x30\4\xa1\2\x89\0"),
    "authority-none": _without(_AKI),
    "authority-and-subject-key-none": _without(_AKI, _SKI),
    "unknown-critical": _extension("1.3.6.1.4.1.99999.1", b"\5\0", critical=b"\1\1\xff"),
    "unknown-garbage": _extension("1.3.6.1.4.1.99999.1", b"\xff"),
    "extended-usage-server": _extension(_EKU, bytes.fromhex("300a06082b06010505070301")),
    "extended-usage-empty": _extension(_EKU, b"\x30\0"),
    "extensions-none": _set(extensions=[]),
    "alternative-name-space": _extension("2.5.29.17", b"\x30\x0c\x86\x0ahttp://a b"),
    "unique-id": _set(unique=b"\x81\3\0\1\2"),
    "point-padded": _key(_pad_point),
    "point-off-curve": _key(lambda info: info[:-1] + bytes((info[-1] ^ 1,))),
    "point-hybrid": _key(lambda info: info[:-65] + bytes((6 + (info[-1] & 1),)) + info[-64:]),
    "point-compressed": _key(
        lambda info: wrap(
            0x30, info[2:23] + wrap(3, b"\0" + bytes((2 + (info[-1] & 1),)) + info[-64:-32])
        )
    ),
    "key-unused-bits": _key(_replace("03420004", "03420104")),
    "key-null-parameters": _key(
        lambda info: wrap(0x30, bytes.fromhex("300b06072a8648ce3d02010500") + info[23:])
    ),
}
"""Of certificates with a P-256 key, by a P-256 key."""

RSA_EDITS: dict[str, Edit] = {
    "plain": lambda _: None,
    "pss": _key(
        lambda info: info.replace(_oid("1.2.840.113549.1.1.1"), _oid("1.2.840.113549.1.1.10"))
    ),
    "parameters-none": _key(_without_parameters),
    "modulus-negative": _key(
        _rsa_key(lambda n, e: wrap(0x30, wrap(2, n.lstrip(b"\0")) + wrap(2, e)))
    ),
    "exponent-padded": _key(_rsa_key(lambda n, e: wrap(0x30, wrap(2, n) + wrap(2, b"\0\0" + e)))),
    "key-junk-behind": _key(_rsa_key(lambda n, e: wrap(0x30, wrap(2, n) + wrap(2, e)) + b"junk")),
}
"""Of certificates with an RSA-2048 key."""


def _other_algorithm(body: bytes, _: bytes, signature: bytes) -> bytes:
    return assemble(body, wrap(0x30, _oid("1.2.840.10045.4.3.3")), signature)


def _parameters(body: bytes, algorithm: bytes, signature: bytes) -> bytes:
    return assemble(body, wrap(0x30, algorithm[2:] + b"\5\0"), signature)


ASSEMBLIES = {
    "other-algorithm": _other_algorithm,
    "outer-parameters": _parameters,
    "signature-junk-behind": lambda body, algorithm, signature: assemble(
        body, algorithm, signature + b"\0\0"
    ),
    "signature-unused-bits": lambda body, algorithm, signature: wrap(
        0x30, body + algorithm + wrap(0x03, b"\1" + signature)
    ),
    "signature-positive-only": lambda body, algorithm, signature: assemble(
        body, algorithm, without_sign(signature)
    ),
    "indefinite": lambda *parts: b"\x30\x80" + _inner(*parts) + b"\0\0",
    "long-length": lambda *parts: b"\x30\x83\0" + len(_inner(*parts)).to_bytes(2) + _inner(*parts),
    "primitive-tag": lambda *parts: b"\x10" + assemble(*parts)[1:],
    "more-behind": lambda *parts: wrap(0x30, _inner(*parts) + b"\5\0"),
}
"""How its parts become a certificate otherwise."""
