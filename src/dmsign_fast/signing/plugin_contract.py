"""What plugins of notation and the programs that run them say to each other.

Commands and members are those of notaryproject/specifications, ``specs/plugin-extensibility.md``.
``signing_scheme``, which asks a plugin for RSA PKCS#1 v1.5, comes from notation-azure-kv.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

from dmsign_fast.errors import FormatError
from dmsign_fast.signing.scheme import Family, Scheme
from dmsign_fast.strict_json import Members

__all__ = [
    "CONTRACT_VERSION",
    "DESCRIBE_KEY",
    "ENVELOPE",
    "GENERATE_ENVELOPE",
    "GENERATE_SIGNATURE",
    "GET_METADATA",
    "METADATA_MEMBERS",
    "PREFIX",
    "RAW",
    "REVOCATION_CHECK",
    "SIGNING_SCHEME",
    "TRUSTED_IDENTITY",
    "VERIFY_SIGNATURE",
    "Metadata",
    "algorithm_name",
    "from_base64",
    "hash_name",
    "precedence",
    "to_base64",
]

CONTRACT_VERSION = "1.0"

GET_METADATA = "get-plugin-metadata"
DESCRIBE_KEY = "describe-key"
GENERATE_SIGNATURE = "generate-signature"
GENERATE_ENVELOPE = "generate-envelope"

VERIFY_SIGNATURE = "verify-signature"

TRUSTED_IDENTITY = "SIGNATURE_VERIFIER.TRUSTED_IDENTITY"
REVOCATION_CHECK = "SIGNATURE_VERIFIER.REVOCATION_CHECK"
RAW = "SIGNATURE_GENERATOR.RAW"
ENVELOPE = "SIGNATURE_GENERATOR.ENVELOPE"

PREFIX = "notation-"  # of an executable's name
SIGNING_SCHEME = "signing_scheme"

METADATA_MEMBERS = (
    *("name", "description", "version", "url"),
    *("supportedContractVersions", "capabilities"),
)

_LONGEST_VERSION = 255
_NUMBER = r"(?:0|[1-9]\d*)"
_PART = rf"(?:{_NUMBER}|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_VERSION = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_PART}(?:\.{_PART})*))?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)

_ALGORITHMS = {
    Family.RSA_PKCS1: "RSASSA-PKCS1-v1_5",
    Family.RSA_PSS: "RSASSA-PSS",
    Family.ECDSA: "ECDSA",
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a plugin says of itself."""

    name: str
    description: str
    version: str
    url: str
    contract_versions: tuple[str, ...]
    capabilities: tuple[str, ...]

    @classmethod
    def of(cls, said: Members) -> Metadata:
        """Read the answer to ``get-plugin-metadata``; FormatError if a member is missing."""
        return cls(
            name=said.text("name"),
            description=said.text("description"),
            version=said.text("version"),
            url=said.text("url"),
            contract_versions=said.texts("supportedContractVersions"),
            capabilities=said.texts("capabilities"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the answer to ``get-plugin-metadata``."""
        values = (
            *(self.name, self.description, self.version, self.url),
            *(list(self.contract_versions), list(self.capabilities)),
        )
        return dict(zip(METADATA_MEMBERS, values, strict=True))


def hash_name(scheme: Scheme) -> str:
    """Return the ``hashAlgorithm``, such as ``SHA-256``."""
    return f"SHA-{scheme.bits}"


def algorithm_name(scheme: Scheme) -> str:
    """Return the ``signingAlgorithm``, such as ``RSASSA-PSS-SHA-256``."""
    return f"{scheme.named(_ALGORITHMS, 'a plugin')}-{hash_name(scheme)}"


def precedence(version: str) -> tuple[object, ...]:
    """Return what orders versions as https://semver.org does; FormatError for what is none."""
    parts = _VERSION.fullmatch(version) if len(version) <= _LONGEST_VERSION else None
    if parts is None:
        raise FormatError(f"the version {version[:80]!r} is not a semantic one, such as 1.2.3")
    *numbers, before = parts.groups()
    # numbers come before words, and what has neither is the release itself
    words = [
        (0, int(one), "") if one.isdecimal() else (1, 0, one)
        for one in (before.split(".") if before else [])
    ]
    return (*map(int, numbers), not before, words)


def to_base64(data: bytes) -> str:
    """Return the bytes as JSON holds them."""
    return base64.b64encode(data).decode()


def from_base64(text: str, what: str) -> bytes:
    """Return the bytes again; FormatError, which names ``what``, for what is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise FormatError(f"{what} is not base64") from None
