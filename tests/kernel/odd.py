"""Signatures that nobody should make, for what Linux says to them.

How their certificates name their issuers is in issuers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pki
from asn1crypto import cms
from helpers import flip

from .foreign import ATTRIBUTES, PLAIN, SLIPS, foreign
from .images import Case, Image
from .people import EMBEDDED, People

_SHA256, _SHA512 = (bytes.fromhex(f"0609608648016503040{one}") for one in ("201", "203"))


def _forms() -> Iterator[Case]:
    bare = ("cms", "-noattr")
    yield foreign("form-keyid", *bare, "-keyid", stricter=True)
    yield foreign("form-ber", *bare, "-stream", expected="EBADMSG")
    second = ("-signer", "EC-256/leaf.pem", "-inkey", "EC-256/key.pem")
    yield foreign("form-two-signers", *PLAIN, *second, stricter=True)
    timestamp = ("-econtent_type", "1.2.840.113549.1.9.16.1.4")
    yield foreign("form-content-type", *bare, *timestamp, expected="EINVAL")
    yield foreign("form-capabilities-content", "smime", "-nodetach", expected="EKEYREJECTED")
    for name, slip in SLIPS.items():
        options = {"slip": slip, "expected": "EKEYREJECTED"}
        yield foreign(f"{name}-no-certs", *PLAIN, "-nocerts", **options)
        yield foreign(f"{name}-attributes", *ATTRIBUTES, **options)


def _attributes() -> Iterator[Case]:
    """Once edited they are not what was signed: that is looked at later."""
    edits = {"repeated": (_repeat, "EKEYREJECTED"), "short-digest": (_shorten, "EBADMSG")}
    for name, (change, expected) in edits.items():
        edit = _edit_attributes(change)
        yield foreign(f"attributes-{name}", *ATTRIBUTES, edit=edit, expected=expected)
    yield foreign("attributes-time", *ATTRIBUTES, signer="late", expected="EKEYREJECTED")


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
        yield foreign(f"{key}-{digest}", *PLAIN, signer=key, digest=digest, stricter=True)
    yield foreign("md5", *PLAIN, digest="md5", expected="ENOPKG")
    other = {"edit": lambda der: der.replace(_SHA256, _SHA512), "expected": "EBADMSG"}
    yield foreign("RSA-2048-other-digest", *PLAIN, **other)
    for kind in EMBEDDED:
        embedded = ("-certfile", f"embedded {kind}/leaf.pem")
        yield foreign(f"embedded-{kind}", *PLAIN, *embedded, expected="ENOPKG")
    yield foreign("embedded-sha1", *PLAIN, "-certfile", "sha1/leaf.pem", stricter=True)


def _issuers() -> Iterator[Case]:
    ways = {
        "none": "ENOKEY",
        "serial": "reads",
        "both": "reads",
        "wrong-key": "EKEYREJECTED",
        "wrong-serial": "ENOKEY",
    }
    for way, expected in ways.items():
        yield foreign(f"names-{way}", *PLAIN, signer=f"names {way}", expected=expected)
    refused = {"expected": "EKEYREJECTED"}
    yield foreign("chain-stolen", *PLAIN, signer="stolen", **refused)
    root = ("-certfile", "namer/leaf.pem")
    yield foreign("chain-stolen-root", *PLAIN, *root, signer="stolen", **refused)
    yield foreign("chain-names-itself", *PLAIN, signer="halfway", **refused)
    yield foreign("chain-root-itself", *PLAIN, signer="namer", stricter=True)
    yield Case("chain-root-damaged", "EINVAL", signer="below RSA", change=_damage_root)


def _damage_root(image: Image, people: People) -> None:
    """The last byte of the root's signature of itself."""
    root = pki.der(people["below RSA"].root)
    flip(image.signature, image.signature.read_bytes().index(root) + len(root) - 1)


ODD = (*_forms(), *_attributes(), *_algorithms(), *_issuers())
