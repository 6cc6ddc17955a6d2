"""Signatures that nobody should make, for what Linux says to them.

How their certificates name their issuers is in authority_identifiers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pki
from asn1crypto import cms
from helpers import flip

from .identities import EMBEDDED, Identities
from .images import Case, Image
from .openssl_signatures import ATTRIBUTES, PLAIN, SLIPS, openssl_case

_SHA256, _SHA512 = (bytes.fromhex(f"0609608648016503040{one}") for one in ("201", "203"))


def _forms() -> Iterator[Case]:
    bare = ("cms", "-noattr")
    yield openssl_case("form-keyid", *bare, "-keyid", stricter=True)
    yield openssl_case("form-ber", *bare, "-stream", expected="EBADMSG")
    second = ("-signer", "EC-256/leaf.pem", "-inkey", "EC-256/key.pem")
    yield openssl_case("form-two-signers", *PLAIN, *second)
    timestamp = ("-econtent_type", "1.2.840.113549.1.9.16.1.4")
    yield openssl_case("form-content-type", *bare, *timestamp, expected="EINVAL")
    yield openssl_case("form-capabilities-content", "smime", "-nodetach", expected="EKEYREJECTED")
    for name, slip in SLIPS.items():
        options = {"slip": slip, "expected": "EKEYREJECTED"}
        yield openssl_case(f"{name}-no-certs", *PLAIN, "-nocerts", **options)
        yield openssl_case(f"{name}-attributes", *ATTRIBUTES, **options)


def _attributes() -> Iterator[Case]:
    """Once edited they are not what was signed: that is looked at later."""
    edits = {"repeated": (_repeat, "EKEYREJECTED"), "short-digest": (_shorten, "EBADMSG")}
    for name, (change, expected) in edits.items():
        edit = _edit_attributes(change)
        yield openssl_case(f"attributes-{name}", *ATTRIBUTES, edit=edit, expected=expected)
    yield openssl_case("attributes-time", *ATTRIBUTES, signer="late", expected="EKEYREJECTED")


def _edit_attributes(change: Callable[[cms.CMSAttributes], None]) -> Callable[[bytes], bytes]:
    def edit(der: bytes) -> bytes:
        message = cms.ContentInfo.load(der)
        change(message["content"]["signer_infos"][0]["signed_attrs"])
        return message.dump(force=True)

    return edit


def _repeat(attributes: cms.CMSAttributes) -> None:
    attributes.append(attributes[0].copy())


def _shorten(attributes: cms.CMSAttributes) -> None:
    for one in attributes:
        if one["type"].native == "message_digest":
            one["values"] = [b"short"]


def _algorithms() -> Iterator[Case]:
    pairs = ("RSA-2048", "sha224"), ("EC-256", "sha512"), ("EC-384", "sha256"), ("EC-256", "sha1")
    for key, digest in pairs:
        yield openssl_case(f"{key}-{digest}", *PLAIN, signer=key, digest=digest, stricter=True)
    yield openssl_case("md5", *PLAIN, digest="md5", expected="ENOPKG")
    other = {"edit": lambda der: der.replace(_SHA256, _SHA512), "expected": "EBADMSG"}
    yield openssl_case("RSA-2048-other-digest", *PLAIN, **other)
    for kind in EMBEDDED:
        embedded = ("-certfile", f"embedded {kind}/leaf.pem")
        yield openssl_case(f"embedded-{kind}", *PLAIN, *embedded, expected="ENOPKG")
    yield openssl_case("embedded-sha1", *PLAIN, "-certfile", "sha1/leaf.pem", stricter=True)


def _issuers() -> Iterator[Case]:
    ways = {
        "none": "ENOKEY",
        "serial": "reads",
        "both": "reads",
        "wrong-key": "EKEYREJECTED",
        "wrong-serial": "ENOKEY",
    }
    for way, expected in ways.items():
        yield openssl_case(f"names-{way}", *PLAIN, signer=f"names {way}", expected=expected)
    refused = {"expected": "EKEYREJECTED"}
    yield openssl_case("chain-stolen", *PLAIN, signer="stolen", **refused)
    root = ("-certfile", "namer/leaf.pem")
    yield openssl_case("chain-stolen-root", *PLAIN, *root, signer="stolen", **refused)
    yield openssl_case("chain-names-itself", *PLAIN, signer="halfway", **refused)
    yield openssl_case("chain-root-itself", *PLAIN, signer="namer", stricter=True)
    yield Case("chain-root-damaged", "EINVAL", signer="below RSA", change=_damage_root)


def _damage_root(image: Image, identities: Identities) -> None:
    """The last byte of the root's signature of itself."""
    root = pki.der(identities["below RSA"].root)
    flip(image.signature, image.signature.read_bytes().index(root) + len(root) - 1)


BAD_SIGNATURES = (*_forms(), *_attributes(), *_algorithms(), *_issuers())
