"""Root-hash signatures by hand: of all kinds of certificates and messages, and with damage.

What Linux says to each is not written here: the guest says it, and dmsign-fast has to say the same.
All are over one root hash.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pki
from asn1crypto import core
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.asymmetric import rsa
from helpers import noise

from dmsign_fast.verity.format import format_file
from dmsign_fast.verity.params import VerityParams

from .damage import content_of, flip_bytes, swap_values
from .forged_certificates import (
    ASSEMBLIES,
    EDITS,
    RSA_EDITS,
    forge,
    sign_raw,
    without_sign,
    wrap,
)

_SHA256 = bytes.fromhex("300b0609608648016503040201")
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")
_ECDSA = bytes.fromhex("300a06082a8648ce3d040302")
_DATA = bytes.fromhex("06092a864886f70d010701")
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_BLOCKS = 4
_FLIPS = int(os.environ.get("DMSIGN_KERNEL_MUTANTS", "30"))  # of each good signature
_SWAPS, _ENROLLED = 12, 30
_RSA_SIZES = (1024, 1536, 2040, 2047, 2056, 2560, 3072)


@dataclass
class Forms:
    """Signatures by name, and what is enrolled for them, in DER."""

    signatures: dict[str, bytes] = field(default_factory=dict)
    enrolled: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Parts:
    """A message in parts, each of which may be put otherwise."""

    key: object
    certificates: tuple[bytes, ...]  # of the signer first
    message: bytes
    embedded: tuple[bytes, ...] | None = None
    version: bytes = b"\2\1\1"
    digests: bytes = wrap(0x31, _SHA256)
    content: bytes = wrap(0x30, _DATA)
    certificate_tag: int = 0xA0
    lists: bytes = b""
    signer_version: bytes = b"\2\1\1"
    sid: bytes | None = None
    digest: bytes = _SHA256
    attributes: bytes = b""
    algorithm: bytes | None = None
    signature: bytes | None = None
    unsigned: bytes = b""
    signer_tag: int = 0x31
    times: int = 1
    type: bytes = _SIGNED_DATA

    def signer(self) -> bytes:
        """Return the signerInfo."""
        usual = _RSA if isinstance(self.key, rsa.RSAPrivateKey) else _ECDSA
        signature = sign_raw(self.key, self.message) if self.signature is None else self.signature
        return wrap(
            0x30,
            b"".join(
                (
                    self.signer_version,
                    _sid(self.certificates[0]) if self.sid is None else self.sid,
                    self.digest,
                    self.attributes,
                    usual if self.algorithm is None else self.algorithm,
                    wrap(4, signature),
                    self.unsigned,
                )
            ),
        )

    def signed_data(self) -> bytes:
        """Return the content of the SignedData."""
        embedded = self.certificates if self.embedded is None else self.embedded
        certificates = wrap(self.certificate_tag, b"".join(embedded)) if embedded else b""
        signers = wrap(self.signer_tag, self.signer() * self.times)
        parts = (self.version, self.digests, self.content, certificates, self.lists, signers)
        return b"".join(parts)

    def der(self) -> bytes:
        """Return the message."""
        return wrap(0x30, self.type + wrap(0xA0, wrap(0x30, self.signed_data())))


def _sid(certificate: bytes) -> bytes:
    """Return how the signerInfo names the certificate, which may be put together oddly."""
    size = certificate[1]
    at, _ = content_of(certificate, 2 + (size & 0x7F if size > 0x80 else 0))
    values = []
    for _ in range(4):  # version, serial number, algorithm, issuer
        _, stop = content_of(certificate, at)
        values.append(certificate[at:stop])
        at = stop
    return wrap(0x30, values[3] + values[1])


def make_forms(message: bytes) -> Forms:
    """Make all signatures of this message, the hex text of a root hash."""
    maker = _Maker(message)
    maker.certificates()
    maker.keys()
    maker.messages()
    maker.values()
    maker.trust()
    maker.mutants()
    return maker.forms


def write_forms(directory: Path, make: Callable[[bytes], Forms] = make_forms) -> None:
    """Write an image, the signatures of its root hash, and what is to be enrolled for them."""
    directory.mkdir(parents=True)
    data, tree = directory / "data", directory / "data.verity"
    data.write_bytes(noise(_BLOCKS * 4096))
    root_hash = format_file(data, tree, VerityParams(salt=bytes(32))).root_hash.hex()
    (directory / "root-hash").write_text(root_hash)
    sizes = f"4096 4096 {_BLOCKS} 1 sha256 {root_hash} {'00' * 32}"
    (directory / "table").write_text(
        f"0 {_BLOCKS * 8} verity 1 /dev/loop6 /dev/loop7 {sizes} 2 root_hash_sig_key_desc form"
    )
    forms = make(root_hash.encode())
    for folder, files in (("cases", forms.signatures), ("enrolled", forms.enrolled)):
        (directory / folder).mkdir()
        for name, contents in files.items():
            (directory / folder / name).write_bytes(contents)


class _Maker:
    def __init__(self, message: bytes) -> None:
        self.message = message
        self.forms = Forms()
        self.root = pki.make_root("Forms Root")
        self.forms.enrolled["forms-root"] = pki.der(self.root.certificate)
        self.leaf = pki.make_leaf(self.root, "Forms Leaf")
        self.rsa = pki.make_leaf(self.root, "Forms RSA Leaf", key="RSA-2048")
        self.key = self.leaf.key

    def _add(self, name: str, signature: bytes) -> None:
        assert name not in self.forms.signatures
        self.forms.signatures[name] = signature

    def _both_ways(self, name: str, key, below: bytes, alone: bytes) -> None:
        """A certificate below the root comes along; one that signed itself is enrolled."""
        self._add(f"{name}-embedded", Parts(key, (below,), self.message).der())
        self.forms.enrolled[f"forms-{name}"] = alone
        self._add(f"{name}-enrolled", Parts(key, (alone,), self.message, embedded=()).der())

    def certificates(self) -> None:
        for name, edit in EDITS.items():
            key = pki.make_key("EC-256", f"forms {name}")
            self._both_ways(
                f"certificate-{name}",
                key,
                forge(name, key, self.root, edit),
                forge(name, key, None, edit),
            )
        for name, whole in ASSEMBLIES.items():
            key = pki.make_key("EC-256", f"forms {name}")
            below, alone = (forge(name, key, one, whole=whole) for one in (self.root, None))
            self._both_ways(f"certificate-{name}", key, below, alone)

    def keys(self) -> None:
        for name, edit in RSA_EDITS.items():
            key = pki.make_key("RSA-2048", f"forms {name}")
            self._both_ways(
                f"rsa-{name}",
                key,
                forge(f"rsa {name}", key, self.root, edit),
                forge(f"rsa {name}", key, None, edit),
            )
        for size in _RSA_SIZES:
            key = pki.make_key(f"RSA-{size}", "forms")
            name = f"rsa-{size}"
            self._both_ways(name, key, forge(name, key, self.root), forge(name, key, None))
        # of a CA between them
        for size in (2047, 2056):
            ca = pki.make_intermediate(self.root, f"Forms CA {size}", key=f"RSA-{size}")
            below = pki.make_leaf(ca, f"Below {size}")
            chain = tuple(map(pki.der, below.chain))
            self._add(f"rsa-ca-{size}", Parts(below.key, chain, self.message).der())
            self._add(f"rsa-ca-{size}-alone", Parts(below.key, chain[:1], self.message).der())

    def _parts(self, **changes) -> Parts:
        return Parts(self.key, (pki.der(self.leaf.certificate),), self.message, **changes)

    def messages(self) -> None:
        certificate = pki.der(self.leaf.certificate)
        null = b"\5\0"
        forms = {
            "plain": {},
            "version-3": {"version": b"\2\1\3", "signer_version": b"\2\1\3"},
            "version-3-1": {"version": b"\2\1\3"},
            "version-1-3": {"signer_version": b"\2\1\3"},
            "version-2": {"version": b"\2\1\2"},
            "version-two-bytes": {"version": b"\2\2\0\1"},
            "version-constructed": {"version": b"\x22\3\2\1\1"},
            "digests-none": {"digests": b"\x31\0"},
            "digests-sequence": {"digests": wrap(0x30, _SHA256)},
            "digests-two": {"digests": wrap(0x31, _SHA256 * 2)},
            "digests-other": {"digests": wrap(0x31, bytes.fromhex("300b0609608648016503040203"))},
            "digest-null": {"digest": wrap(0x30, _SHA256[2:] + null)},
            "digest-integer": {"digest": wrap(0x30, _SHA256[2:] + b"\2\1\1")},
            "digest-two-parameters": {"digest": wrap(0x30, _SHA256[2:] + null + null)},
            "digest-sha224": {"digest": bytes.fromhex("300b0609608648016503040204")},
            "digest-sm3": {"digest": bytes.fromhex("300a06082a811ccf55018311")},
            "content-empty": {"content": wrap(0x30, _DATA + b"\xa0\0")},
            "content-octets": {"content": wrap(0x30, _DATA + wrap(0xA0, wrap(4, self.message)))},
            "content-signed-data": {"content": wrap(0x30, _SIGNED_DATA)},
            "content-indirect": {"content": wrap(0x30, bytes.fromhex("060a2b060104018237020104"))},
            "type-data": {"type": _DATA},
            "certificates-sequence": {"certificate_tag": 0xA2},
            "certificates-empty": {"embedded": (b"",)},
            "certificates-twice": {"embedded": (certificate, certificate)},
            "certificates-junk": {"embedded": (certificate, null)},
            "certificates-attribute": {"embedded": (certificate, b"\xa1\2\5\0")},
            "certificates-root": {"embedded": (certificate, pki.der(self.root.certificate))},
            "lists-empty": {"lists": b"\xa1\0"},
            "lists-null": {"lists": b"\xa1\2\5\0"},
            "lists-certificate": {"lists": wrap(0xA1, wrap(0x30, certificate))},
            "signers-none": {"times": 0},
            "signers-two": {"times": 2},
            "signers-sequence": {"signer_tag": 0x30},
            "sid-null": {"sid": null},
            "sid-key": {"sid": b"\x80\4abcd"},
            "sid-key-3": {
                "version": b"\2\1\3",
                "signer_version": b"\2\1\3",
                "sid": wrap(0x80, self._key_identifier(self.leaf)),
            },
            "sid-key-3-empty": {
                "version": b"\2\1\3",
                "signer_version": b"\2\1\3",
                "sid": b"\x80\0",
            },
            "algorithm-sha384": {"algorithm": bytes.fromhex("300a06082a8648ce3d040303")},
            "algorithm-rsa": {"algorithm": _RSA},
            "algorithm-null": {"algorithm": wrap(0x30, _ECDSA[2:] + null)},
            "algorithm-unknown": {"algorithm": bytes.fromhex("300406022a03")},
            "algorithm-sha256-rsa": {"algorithm": bytes.fromhex("300d06092a864886f70d01010b0500")},
            "unsigned": {"unsigned": wrap(0xA1, wrap(0x30, b"\6\2\x2a\3" + wrap(0x31, null)))},
            "unsigned-empty": {"unsigned": b"\xa1\0"},
            "unsigned-sequence": {"unsigned": wrap(0xA3, wrap(0x30, b"\6\2\x2a\3\x31\2\5\0"))},
            "no-certificates": {"embedded": ()},
        }
        for name, changes in forms.items():
            self._add(f"form-{name}", self._parts(**changes).der())
        plain = self._parts()
        inner = plain.signed_data()
        self._add("form-bytes-behind", plain.der() + b"\0junk")
        self._add("form-cut", plain.der()[:-1])
        outer = plain.type + wrap(0xA0, wrap(0x30, inner))
        self._add("form-indefinite", b"\x30\x80" + outer + b"\0\0")
        self._add("form-indefinite-without-end", b"\x30\x80" + outer)
        self._add(
            "form-indefinite-inside",
            wrap(0x30, plain.type + b"\xa0\x80" + b"\x30\x80" + inner + b"\0\0\0\0"),
        )
        long = len(outer).to_bytes(2)
        self._add("form-long-length", b"\x30\x83\0" + long + outer)
        self._add("form-primitive-tag", b"\x10" + plain.der()[1:])
        self._add("form-one-more", wrap(0x30, outer + null))
        self._attributes()

    def _key_identifier(self, entity: pki.Entity) -> bytes:
        return asn1_x509.Certificate.load(pki.der(entity.certificate)).key_identifier

    def _attributes(self) -> None:
        digest = hashlib.sha256(self.message).digest()
        kind = wrap(0x30, bytes.fromhex("06092a864886f70d010903") + wrap(0x31, _DATA))
        made = wrap(0x30, bytes.fromhex("06092a864886f70d010904") + wrap(0x31, wrap(4, digest)))
        now = core.UTCTime(pki.NOW).dump()

        def time(value: bytes) -> bytes:
            return wrap(0x30, bytes.fromhex("06092a864886f70d010905") + wrap(0x31, value))

        general = wrap(0x18, f"{pki.NOW:%Y%m%d%H%M%SZ}".encode())
        sets = {
            "plain": kind + made,
            "other-order": made + kind,
            "time": kind + time(now) + made,
            "time-general": kind + time(general) + made,
            "time-general-2050": kind + time(b"\x18\x0f20500101000000Z") + made,
            "time-no-seconds": kind + time(wrap(0x17, now[2:12] + b"Z")) + made,
            "time-as-octets": kind + time(wrap(0x04, now[2:])) + made,
            "time-twice": kind + time(now) * 2 + made,
            "time-two-values": kind + time(now + now) + made,
            "time-no-value": kind + time(b"") + made,
            "time-1990": kind + time(b"\x17\x0d900101000000Z") + made,
            "no-type": made,
            "no-digest": kind,
            "empty": b"",
            "digest-twice": kind + made + made,
            "digest-as-integer": kind + made.replace(b"\4\x20", b"\2\x20"),
            "digest-other": kind + made.replace(digest, bytes(32)),
            "unknown": kind + made + wrap(0x30, b"\6\2\x2a\3" + wrap(0x31, b"\5\0")),
            "unknown-two-values": kind + made + wrap(0x30, b"\6\2\x2a\3" + wrap(0x31, b"\5\0\5\0")),
            "capabilities": kind
            + made
            + wrap(0x30, bytes.fromhex("06092a864886f70d01090f31023000")),
        }
        for name, content in sets.items():
            signature = sign_raw(self.key, wrap(0x31, content))
            changes = {"attributes": wrap(0xA0, content), "signature": signature}
            self._add(f"attributes-{name}", self._parts(**changes).der())
        sequence = wrap(0xA2, wrap(0x30, kind + made))
        self._add("attributes-as-sequence", self._parts(attributes=sequence).der())
        late = wrap(0xA2, wrap(0x30, kind + time(b"\x17\x0d900101000000Z") + made))
        self._add("attributes-as-sequence-time", self._parts(attributes=late).der())

    def values(self) -> None:
        """Signatures as numbers."""
        good = sign_raw(self.key, self.message)
        while good[3] != 33:  # r with a zero in front
            good = sign_raw(self.key, self.message)
        r, s = core.SequenceOf.load(good, spec=core.Integer).native

        def pair(first: bytes, second: bytes, behind: bytes = b"") -> bytes:
            return wrap(0x30, wrap(2, first) + wrap(2, second) + behind)

        def number(value: int) -> bytes:
            return value.to_bytes(value.bit_length() // 8 + 1)

        forms = {
            "other-half": pair(number(r), number(_ORDER - s)),
            "without-sign": without_sign(good),
            "padded": pair(b"\0" * (33 - len(number(r))) + number(r), number(s)),
            "padded-too-long": pair(b"\0" * 8 + number(r), number(s)),
            "r-0": pair(b"\0", number(s)),
            "s-0": pair(number(r), b"\0"),
            "r-empty": pair(b"", number(s)),
            "r-order": pair(number(_ORDER), number(s)),
            "r-plus-order": pair(number(r + _ORDER), number(s)),
            "junk-behind": good + b"junk",
            "junk-inside": pair(number(r), number(s), b"\5\0"),
            "long-length": b"\x30\x81" + good[1:],
            "fixed-width": r.to_bytes(32) + s.to_bytes(32),
            "empty": b"",
            "r-alone": wrap(0x30, wrap(2, number(r))),
        }
        for name, value in forms.items():
            self._add(f"ecdsa-{name}", self._parts(signature=value).der())
        key, certificate = self.rsa.key, (pki.der(self.rsa.certificate),)
        good = sign_raw(key, self.message)
        modulus = key.public_key().public_numbers().n
        forms = {
            "zero-in-front": b"\0" + good,
            "short": good[1:],
            "1": (1).to_bytes(256),
            "0": bytes(256),
            "minus-1": (modulus - 1).to_bytes(256),
            "modulus": modulus.to_bytes(256),
            "ff": b"\xff" * 256,
            "empty": b"",
        }
        for name, value in forms.items():
            self._add(
                f"rsa-value-{name}", Parts(key, certificate, self.message, signature=value).der()
            )

    def trust(self) -> None:
        """Chains, of which other certificates are enrolled than those that come along."""
        old = pki.make_root("Forms Renewed", serial=1001)
        renewed = pki.make_root("Forms Renewed", serial=1002)
        self.forms.enrolled["forms-renewed"] = pki.der(renewed.certificate)
        leaf = pki.make_leaf(old, "Below Renewed")
        der = tuple(map(pki.der, leaf.chain))
        new = pki.make_root("Forms Rollover", key_name="rollover new")
        before = pki.make_root("Forms Rollover", key_name="rollover old")
        over = pki.make_entity(
            "Forms Rollover", before, key_name="rollover new", ca=True, usage=("key_cert_sign",)
        )
        self.forms.enrolled["forms-rollover"] = pki.der(new.certificate)
        rolled = pki.make_leaf(new, "Below Rollover")
        damaged = bytearray(pki.der(self.root.certificate))
        damaged[-1] ^= 1
        chains = {
            "old-root-embedded": (leaf.key, der),
            "old-root-left-out": (leaf.key, der[:1]),
            "both-roots-embedded": (leaf.key, (*der, pki.der(renewed.certificate))),
            "new-root-embedded": (leaf.key, (der[0], pki.der(renewed.certificate))),
            "rollover-embedded": (
                rolled.key,
                (pki.der(rolled.certificate), pki.der(over.certificate)),
            ),
            "rollover-left-out": (rolled.key, (pki.der(rolled.certificate),)),
            "damaged-root": (self.key, (pki.der(self.leaf.certificate), bytes(damaged))),
            "root-first": (self.key, tuple(map(pki.der, self.leaf.chain))),
        }
        for name, (key, chain) in chains.items():
            self._add(f"trust-{name}", Parts(key, chain, self.message).der())
            self._add(
                f"trust-{name}-turned", Parts(key, chain, self.message, embedded=chain[::-1]).der()
            )

    def mutants(self) -> None:
        chain = tuple(map(pki.der, self.rsa.chain))
        goods = {
            "ecdsa": self._parts().der(),
            "ecdsa-bare": self._parts(embedded=()).der(),
            "rsa": Parts(self.rsa.key, chain[:1], self.message).der(),
            "rsa-chain": Parts(self.rsa.key, chain, self.message).der(),
            "attributes": self.forms.signatures["attributes-time"],
        }
        for name, good in goods.items():
            chance = random.Random(name)
            for number in range(_FLIPS):
                self._add(f"mutant-{name}-{number}", flip_bytes(good, chance))
            for number in range(_SWAPS):
                self._add(f"swapped-{name}-{number}", swap_values(good, chance))
        # of one certificate that is enrolled, and signs without being there
        for number in range(_ENROLLED):
            chance = random.Random(number)
            key = pki.make_key("EC-256", f"mutant {number}")
            good = forge(f"mutant {number}", key, None if number % 2 else self.root)
            self.forms.enrolled[f"forms-mutant-{number}"] = flip_bytes(good, chance)
            self._add(
                f"enrolled-mutant-{number}", Parts(key, (good,), self.message, embedded=()).der()
            )
