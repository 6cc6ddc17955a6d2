"""The Notary Project's COSE envelope: a tagged COSE_Sign1 (RFC 9052, section 4.2).

The headers are those of ``specs/signature-envelope-cose.md``; maps are written in the order of
RFC 8949, section 4.2.1, as go-cose writes them. What is read must be in the shortest encoding, with
definite lengths and without repetition; the order of a map is free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dmsign_fast.envelope.claims import (
    AGENT,
    CONTENT_TYPE,
    CRITICAL,
    TIMES,
    TIMESTAMP,
    Parts,
    Unsigned,
)
from dmsign_fast.errors import FormatError, VerificationError
from dmsign_fast.signing.scheme import SCHEMES, Scheme

if TYPE_CHECKING:
    from cbor2 import CBORTag

__all__ = ["Cose"]

_SIGN1 = b"\xd2"  # tag 18
_EPOCH = 1  # the tag of a time in seconds
_MAX_DEPTH = 8

_ALGORITHM, _CHAIN = 1, 33
_LABELS = {CRITICAL: 2, CONTENT_TYPE: 3}
_NAMES = {label: name for name, label in _LABELS.items()}


@dataclass(frozen=True, slots=True)
class Cose:
    """See ``EnvelopeFormat``."""

    media_type: str = "application/cose"

    def protect(self, scheme: Scheme, headers: Mapping[str, Any]) -> bytes:
        """Return the protected header, a CBOR map."""
        from cbor2 import CBORTag

        encoded: dict[Any, Any] = {_ALGORITHM: scheme.cose}
        for name, value in headers.items():
            time = name in TIMES
            encoded[_LABELS.get(name, name)] = (
                CBORTag(_EPOCH, int(value.timestamp())) if time else value
            )
        return _encode(encoded)

    def message(self, protected: bytes, payload: bytes) -> bytes:
        """Return the Sig_structure (RFC 9052, section 4.4)."""
        return _encode(["Signature1", protected, b"", payload])

    def assemble(
        self, protected: bytes, payload: bytes, signature: bytes, unsigned: Unsigned
    ) -> bytes:
        """Return the envelope."""
        header: dict[Any, Any] = {_CHAIN: list(unsigned.certificates)}
        if unsigned.agent is not None:
            header[AGENT] = unsigned.agent
        if unsigned.timestamp_token is not None:
            header[TIMESTAMP] = unsigned.timestamp_token
        return _SIGN1 + _encode([protected, header, payload, signature])

    def parse(self, data: bytes) -> Parts:
        """Take an envelope apart."""
        if not data.startswith(_SIGN1):
            raise FormatError("the envelope is not a COSE_Sign1 with its tag, 18")
        envelope = _decode(data[1:], "the COSE envelope")
        match envelope:
            case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
                pass
            case _:
                raise FormatError("the COSE envelope is not four values with a payload inside")
        headers = _decode(protected, "the protected header")
        if not isinstance(headers, dict):
            raise FormatError("the protected header is not a map")
        _check_labels(headers)
        _check_labels(unprotected)
        algorithm = headers.pop(_ALGORITHM, None)
        return Parts(
            message=self.message(protected, payload),
            payload=payload,
            scheme=_scheme(algorithm),
            headers=_named(headers),
            signature=signature,
            unsigned=_unsigned(unprotected),
        )


class _PlainTags(Mapping[int, "Callable[[Any, bool], CBORTag]"]):
    """Decodes no tag to what it stands for: dates, numbers, regular expressions and the like."""

    def __getitem__(self, tag: int) -> Callable[[Any, bool], CBORTag]:
        from cbor2 import CBORTag

        return lambda value, _immutable: CBORTag(tag, value)

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _encode(value: object) -> bytes:
    import cbor2

    return cbor2.dumps(value, canonical=True)


def _decode(data: bytes, what: str) -> Any:
    import cbor2

    try:
        value = cbor2.loads(
            data,
            semantic_decoders=_PlainTags(),
            max_depth=_MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
        encoded = cbor2.dumps(value)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise FormatError(f"{what} is not CBOR: {error}") from None
    # The second encoding lacks repeated keys, padding and bytes behind the end.
    if encoded != data:
        raise FormatError(f"{what} is not in the deterministic encoding of RFC 8949, section 4.2")
    return value


def _check_labels(headers: dict[Any, Any]) -> None:
    # The exact type: Python holds True and 1.0 equal to 1, so a map with True would pass.
    if not all(type(label) in (int, str) for label in headers):
        raise FormatError("a header of the COSE envelope has a label that is no number and no text")


def _scheme(algorithm: object) -> Scheme:
    for scheme in SCHEMES:
        if type(algorithm) is int and scheme.cose == algorithm:
            return scheme
    possible = ", ".join(f"{one.cose} ({one.jose})" for one in SCHEMES if one.cose)
    raise VerificationError(f"the algorithm {algorithm!r} is not allowed; allowed are {possible}")


def _named(headers: dict[Any, Any]) -> dict[str, Any]:
    """Return the headers by their names in JWS; other numbers become text."""
    named: dict[str, Any] = {}
    for label, value in headers.items():
        name = _NAMES.get(label, str(label))
        if name in named or label in _LABELS or name == "alg":
            raise FormatError(f"the protected header {name} is there by number and by name")
        named[name] = _time(name, value) if name in TIMES else value
    if isinstance(named.get(CRITICAL), list):
        named[CRITICAL] = [str(label) if type(label) is int else label for label in named[CRITICAL]]
    return named


def _time(name: str, value: Any) -> datetime:
    from cbor2 import CBORTag

    if isinstance(value, CBORTag) and value.tag == _EPOCH and type(value.value) is int:
        try:
            return datetime.fromtimestamp(value.value, UTC)
        except (ValueError, OverflowError, OSError):
            pass
    raise FormatError(f"{name} is not a time in whole seconds with the tag 1")


def _unsigned(header: dict[Any, Any]) -> Unsigned:
    if not header.keys() <= {_CHAIN, AGENT, TIMESTAMP}:
        raise FormatError("the unprotected header has other labels than 33, agent and timestamp")
    chain = header.get(_CHAIN)
    if not isinstance(chain, list):
        raise FormatError("the envelope holds no certificates; it needs an array under label 33")
    return Unsigned(tuple(chain), header.get(AGENT), header.get(TIMESTAMP))
