"""Root-hash signatures with ML-DSA: good ones, and others by hand, for a kernel to judge."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator

import pki
from asn1crypto import core
from cryptography.hazmat.primitives.serialization import Encoding

from dmsign_fast.envelope.pkcs7 import sign_root_hash
from dmsign_fast.signing.local import LocalSigner
from dmsign_fast.signing.scheme import ML_DSA, key_spec_of

from .forged_certificates import wrap
from .signature_forms import Forms, Parts

TRUSTED = ("all", "rsa", "ml-dsa")
"""Whose certificates are enrolled: everyone's, those with RSA keys, those with ML-DSA keys."""

_FLIPS = 8  # of each kind of key
_OIDS = {spec: oid for oid, spec in ML_DSA.items()}
_DIGESTS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha3-256": "2.16.840.1.101.3.4.2.8",
    "shake256": "2.16.840.1.101.3.4.2.12",
}
_SHA512 = "2.16.840.1.101.3.4.2.3"


class Makers:
    """The signers, made once, whoever of them is enrolled."""

    def __init__(self) -> None:
        self.rsa = pki.make_leaf(name="Trusted RSA", key="RSA-2048")
        self.top = pki.make_root("Trusted RSA Root", key="RSA-2048")
        self.alone = {
            one: pki.make_leaf(name=f"Trusted {one}", key=one) for one in pki.ML_DSA_SPECS
        }
        self.roots = {
            one: pki.make_root(f"Trusted Root {one}", key=one) for one in pki.ML_DSA_SPECS
        }
        self._signatures: dict[bytes, dict[str, bytes]] = {}

    def forms(self, trusted: str) -> Callable[[bytes], Forms]:
        """Return what makes the forms of a root hash, in hex, with these enrolled."""
        classic = {"rsa": self.rsa, "rsa-root": self.top}
        modern = {**self.alone, **{f"root-{spec}": one for spec, one in self.roots.items()}}
        known = {"all": classic | modern, "rsa": classic, "ml-dsa": modern}[trusted]

        def make(message: bytes) -> Forms:
            made = self._signatures.setdefault(message, dict(self._all(message)))
            return Forms(made, {name: pki.der(one.certificate) for name, one in known.items()})

        return make

    def _all(self, message: bytes) -> Iterator[tuple[str, bytes]]:
        for spec in pki.ML_DSA_SPECS:
            for name, signature in self._of(spec, message):
                yield f"{spec}-{name}", signature
        yield from self._of_two(message)

    def _of(self, spec: str, message: bytes) -> Iterator[tuple[str, bytes]]:
        leaf = self.alone[spec]
        yield "embedded", sign(message, leaf)
        yield "bare", sign(message, leaf, certificates=False)
        for name, root in (("chain", self.roots[spec]), ("chain-below-rsa", self.top)):
            yield name, sign(message, pki.make_leaf(root, f"Below {name} {spec}", key=spec))
        below = pki.make_leaf(self.roots[spec], f"Below {spec}", key="RSA-2048")
        yield "rsa-below", sign(message, below)
        for digest, oid in _DIGESTS.items():
            yield f"digest-{digest}", _message(spec, leaf, message, leaf.key.sign(message), oid)
        for digest, oid in (("sha512", _SHA512), ("sha256", _DIGESTS["sha256"])):
            yield f"attributes-{digest}", _with_attributes(spec, leaf, message, digest, oid)
        others = {
            "context": leaf.key.sign(message, b"context"),
            "prehashed": leaf.key.sign(hashlib.sha512(message).digest()),
            "raw": leaf.key.sign(bytes.fromhex(message.decode())),
            "upper-case": leaf.key.sign(message.upper()),
            "newline": leaf.key.sign(message + b"\n"),
            "short": leaf.key.sign(message)[:-1],
            "long": leaf.key.sign(message) + b"\0",
        }
        for name, signature in others.items():
            yield name, _message(spec, leaf, message, signature)
        other = next(one for one in pki.ML_DSA_SPECS if one != spec)
        yield "other-parameters", _message(other, leaf, message, leaf.key.sign(message))
        chance = random.Random(spec)
        for number in range(_FLIPS):
            changed = bytearray(leaf.key.sign(message))
            # the hints, at the end, are few
            at = -1 - number if number % 2 else chance.randrange(len(changed))
            changed[at] ^= chance.randrange(1, 256)
            yield f"flip-{number}", _message(spec, leaf, message, bytes(changed))

    def _of_two(self, message: bytes) -> Iterator[tuple[str, bytes]]:
        leaf = self.alone["ML-DSA-65"]
        for name, first, second in (("rsa-first", self.rsa, leaf), ("rsa-last", leaf, self.rsa)):
            yield f"two-{name}", sign(message, first, second)
            yield f"two-{name}-bare", sign(message, first, second, certificates=False)
        raw = leaf.key.sign(message.upper())
        for name, certificates in (("", True), ("-bare", False)):
            both = sign(message, self.rsa, leaf, certificates=certificates)
            yield f"two-bad-ml-dsa{name}", _replace_signature(both, raw)


def sign(message: bytes, *entities: pki.Entity, certificates: bool = True) -> bytes:
    """Return what dmsign-fast makes of these signers."""
    first, *others = (
        LocalSigner(key_spec_of(one.certificate.public_key()), one.chain, one.key)
        for one in entities
    )
    root_hash = bytes.fromhex(message.decode())
    return sign_root_hash(root_hash, first, and_by=others, certificates=certificates)


def _replace_signature(signed: bytes, raw: bytes) -> bytes:
    """Put another signature of ML-DSA in the place of the one that is there."""
    head = wrap(4, raw)[: -len(raw)]
    at = signed.rindex(head) + len(head)
    return signed[:at] + raw + signed[at + len(raw) :]


def _oid(dotted: str) -> bytes:
    return bytes(core.ObjectIdentifier(dotted).dump())


def _message(
    spec: str,
    leaf: pki.Entity,
    message: bytes,
    signature: bytes,
    digest: str = _SHA512,
    attributes: bytes = b"",
) -> bytes:
    identifier = wrap(0x30, _oid(digest))
    return Parts(
        leaf.key,
        (leaf.certificate.public_bytes(Encoding.DER),),
        message,
        digests=wrap(0x31, identifier),
        digest=identifier,
        attributes=attributes,
        algorithm=wrap(0x30, _oid(_OIDS[spec])),
        signature=signature,
    ).der()


def _with_attributes(spec: str, leaf: pki.Entity, message: bytes, digest: str, oid: str) -> bytes:
    def attribute(kind: str, value: bytes) -> bytes:
        return wrap(0x30, _oid(kind) + wrap(0x31, value))

    content = attribute("1.2.840.113549.1.9.3", _oid("1.2.840.113549.1.7.1")) + attribute(
        "1.2.840.113549.1.9.4", wrap(4, hashlib.new(digest, message).digest())
    )
    signature = leaf.key.sign(wrap(0x31, content))
    return _message(spec, leaf, message, signature, oid, wrap(0xA0, content))
