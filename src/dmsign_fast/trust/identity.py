"""Trusted identities: ``x509.subject: C=US, ST=WA, O=example`` (trust policy specification).

Such an identity matches a signer whose subject has at least its attributes. Types are
case-sensitive and S stands for ST, as in notation; C, ST and O must be there. An identity of
another kind, ``KIND:VALUE``, means something to a verification plugin, and matches nobody here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

from dmsign_fast.errors import FormatError
from dmsign_fast.signing.certificates import name_of

__all__ = ["ANY", "Identity", "identity_problem", "parse_identities"]

ANY = "*"

_PREFIX = "x509.subject"
_MANDATORY = ("C", "ST", "O")
_TYPE = re.compile(r" *([A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+) *= *", re.ASCII)
# notation looks for it in the whole text, of a signer's subject too
_ENCODED = "=#"
# RFC 4514: a special character after a backslash, or two hex digits for a byte of UTF-8.
_PIECE = re.compile(r"""\\([\\,;+"<>=\#\x20])|\\([0-9A-Fa-f]{2})|([^\\,;+"<>]+)""")
# Go's crypto/x509/pkix names these types; notation can match no others.
_TYPES = {
    NameOID.COUNTRY_NAME: "C",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COMMON_NAME: "CN",
    NameOID.SERIAL_NUMBER: "SERIALNUMBER",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.STREET_ADDRESS: "STREET",
    NameOID.POSTAL_CODE: "POSTALCODE",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """The attributes that a signer's subject must have, by type; None of another kind."""

    text: str
    attributes: Mapping[str, str] | None

    def is_of(self, subject: Mapping[str, str]) -> bool:
        """Tell whether a subject has at least these attributes."""
        return self.attributes is not None and self.attributes.items() <= subject.items()


def parse_identities(texts: Iterable[str], policy: str) -> tuple[Identity, ...]:
    """Return the identities of a policy statement, none of them for ``*``, which is any signer.

    Raises FormatError for an identity that is malformed or lacks C, ST or O, for ``*`` beside
    others, and where an identity includes another.
    """
    texts = list(texts)
    if texts == [ANY]:
        return ()
    identities = []
    for text in texts:
        kind, colon, name = text.partition(":")
        if not colon:
            raise FormatError(
                f"{policy}: the trusted identity {text!r} is not of the form '{_PREFIX}: C=..., "
                f"ST=..., O=...'; {ANY!r}, any signer, stands alone"
            )
        what = f"{policy}: the trusted identity {text!r}"
        identities.append(Identity(text, _parse(name, what) if kind == _PREFIX else None))
    for one in identities:
        for other in identities:
            if one is not other and other.attributes and one.is_of(other.attributes):
                raise FormatError(f"{policy}: {one.text!r} overlaps with {other.text!r}")
    return tuple(identities)


def identity_problem(signer: x509.Certificate, identities: Iterable[Identity]) -> str | None:
    """Say why the signer is none of the identities, or None."""
    found: dict[str, str] = {}
    who = f"the subject {name_of(signer)}"
    for attribute in signer.subject:
        name = _TYPES.get(attribute.oid)
        if name is None:
            return (
                f"{who} has an attribute {attribute.oid.dotted_string} ({attribute.oid._name}), "
                f"with which notation compares no subject: trust {ANY!r} and a store of its own"
            )
        if name in found:
            # a reader would have to choose which value is meant
            return f"{who} has {name} more than once"
        found[name] = str(attribute.value)
    if any(_ENCODED in f"{name}={_escaped(value)}" for name, value in found.items()):
        return f"{who} has {_ENCODED!r} in it, which notation compares with nothing"
    identities = list(identities)
    if any(one.is_of(found) for one in identities):
        return None
    trusted = " or ".join(repr(one.text) for one in identities)
    return f"the signer {name_of(signer)} is not {trusted}"


def _escaped(value: str) -> str:
    return f"\\{value}" if value.startswith("#") else value


def _parse(name: str, what: str) -> dict[str, str]:
    attributes: dict[str, str] = {}
    at = 0
    while True:
        kind = _TYPE.match(name, at)
        if kind is None or _ENCODED in name:
            raise FormatError(f"{what} is not a name in the form of RFC 4514")
        value, at = _value(name, kind.end(), what)
        key = "ST" if kind[1] == "S" else kind[1]
        if key in attributes or not value:
            raise FormatError(f"{what} has {key} more than once, or empty")
        attributes[key] = value
        if at == len(name):
            break
        if name[at] not in ",;":
            raise FormatError(f"{what} has {name[at]!r} where ',' should be; escape it with '\\'")
        at += 1
    missing = [one for one in _MANDATORY if one not in attributes]
    if missing:
        raise FormatError(f"{what} lacks {', '.join(missing)}")
    return attributes


def _value(name: str, at: int, what: str) -> tuple[str, int]:
    """Return the value that begins there, without spaces that are not escaped, and its end."""
    value, kept = b"", 0
    while piece := _PIECE.match(name, at):
        special, byte, plain = piece.groups()
        value += bytes.fromhex(byte) if byte else (special or plain).encode()
        if not plain:
            kept = len(value)
        at = piece.end()
    try:
        text = value[:kept].decode() + value[kept:].decode().rstrip(" ")
    except UnicodeDecodeError:
        raise FormatError(f"{what} has escaped bytes that are not UTF-8") from None
    return text, at
