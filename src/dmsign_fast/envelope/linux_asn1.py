"""ASN.1 as Linux reads it: ``lib/asn1_decoder.c``, which is neither BER nor DER.

A grammar is a tree of ``Match``, one for each line of the kernel's ``.asn1`` files. What the
decoder does not look at is as good as right: unused bits, lengths in more bytes than they need, the
order in a SET, bytes behind the outermost value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

__all__ = [
    "ANY",
    "BIT_STRING",
    "BOOLEAN",
    "GENERALIZED_TIME",
    "INTEGER",
    "OBJECT_IDENTIFIER",
    "OCTET_STRING",
    "SEQUENCE",
    "SET",
    "UTC_TIME",
    "Asn1Error",
    "Fail",
    "Match",
    "Step",
    "Value",
    "choice",
    "context",
    "decode",
    "name_grammar",
]

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING = 0x01, 0x02, 0x03, 0x04
OBJECT_IDENTIFIER, UTC_TIME, GENERALIZED_TIME = 0x06, 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31
ANY = -1
"""Instead of a tag: whatever comes."""

_CONSTRUCTED = 0x20
_INDEFINITE = 0x80


class Asn1Error(Exception):
    """The bytes do not match the grammar, which is EBADMSG."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value that matched; ``encoding`` is header and content, without an end-of-contents."""

    tag: int
    encoding: bytes
    header: int

    @property
    def content(self) -> bytes:
        """All but the header."""
        return self.encoding[self.header :]


@dataclass(frozen=True, slots=True)
class Match:
    """One value.

    Attributes:
        tag: the first byte of it, or ANY.
        action: is called with the context and the value, of a value with parts when it has ended.
        parts: the values in it; without them nothing looks inside.
        many: the parts may come again and again (SEQUENCE OF, SET OF), and do once at least.
        optional: another value, or none, may be there instead.
        other: a further alternative of a choice; skipped if an earlier alternative matched.
    """

    tag: int
    action: Callable[[Any, Value], None] | None = None
    parts: Sequence[Step] = ()
    many: bool = False
    optional: bool = False
    other: bool = False


@dataclass(frozen=True, slots=True)
class Fail:
    """The end of a choice: at least one alternative must have matched."""


Step = Match | Fail


def context(number: int, *, parts: bool) -> int:
    """Return the context-specific tag of that number."""
    return 0x80 | number | (_CONSTRUCTED if parts else 0)


def name_grammar(
    note_type: Callable[[Any, Value], None], action: Callable[[Any, Value], None]
) -> Match:
    """Return the grammar of a Name, of which the types of its attributes are noted."""
    attribute = Match(SEQUENCE, parts=(Match(OBJECT_IDENTIFIER, note_type), Match(ANY)))
    return Match(SEQUENCE, action, parts=(Match(SET, parts=(attribute,), many=True),), many=True)


def choice(*alternatives: Match) -> tuple[Step, ...]:
    """Return the steps of a CHOICE that is not optional."""
    first, *others = (replace(one, optional=True) for one in alternatives)
    return (first, *(replace(one, other=True) for one in others), Fail())


def decode(grammar: Match, target: object, data: bytes) -> None:
    """Match the data, and call the actions with ``target``, which may raise errors of their own."""
    _Decoder(target, data).match(grammar, len(data))


class _Decoder:
    def __init__(self, target: object, data: bytes) -> None:
        self._target, self._data = target, data
        self._at = 0
        # FLAG_MATCHED; it outlives a step that is passed over at the end of the data
        self._matched = False

    def match(self, step: Match, end: int) -> None:
        if (step.other and self._matched) or (step.optional and self._at == end):
            return
        self._matched = False
        start = self._at
        if end - start < 2:
            raise Asn1Error("it ends early")
        tag = self._data[start]
        if tag & 0x1F == 0x1F:
            raise Asn1Error("a tag of several bytes")
        # where parts are expected the bit that says so is not looked at
        if step.tag != ANY and (step.tag ^ tag) & ~(step.tag & _CONSTRUCTED):
            if step.optional:
                return
            raise Asn1Error(f"the tag {tag:#04x} where another is expected")
        self._matched = True
        length = self._length(tag, end)
        header = self._at - start
        if not step.parts:
            stop = self._find_end(end) if length is None else self._at + length
            self._act(step, tag, start, stop, header)
            self._at = stop
            return
        stop = self._parts(step, end, length)
        self._matched = True
        self._act(step, tag, start, stop, header)

    def _act(self, step: Match, tag: int, start: int, stop: int, header: int) -> None:
        if step.action is not None:
            step.action(self._target, Value(tag, self._data[start:stop], header))

    def _length(self, tag: int, end: int) -> int | None:
        """Read the length, which is None if it is indefinite."""
        length = self._data[self._at + 1]
        self._at += 2
        if length == _INDEFINITE:
            if not tag & _CONSTRUCTED:
                raise Asn1Error("a value without parts and length")
            if end - self._at < 2:
                raise Asn1Error("it ends early")
            return None
        if length > _INDEFINITE:
            size = length - _INDEFINITE
            if size > 2:
                raise Asn1Error("a length of more than two bytes")
            if size > end - self._at:
                raise Asn1Error("it ends early")
            length = int.from_bytes(self._data[self._at : self._at + size])
            self._at += size
        if length > end - self._at:
            raise Asn1Error("it ends early")
        return length

    def _parts(self, step: Match, end: int, length: int | None) -> int:
        """Match the parts and return where the content ends."""
        inner = end if length is None else self._at + length
        while True:
            for part in step.parts:
                if isinstance(part, Match):
                    self.match(part, inner)
                elif not self._matched:
                    raise Asn1Error("none of the alternatives")
            if length is not None:
                if self._at < inner and step.many:
                    continue
                if self._at != inner:
                    raise Asn1Error("more parts than there may be")
                return inner
            if end - self._at < 2:
                raise Asn1Error("it ends early")
            if self._data[self._at]:
                if step.many:
                    continue
                raise Asn1Error("more parts than there may be")
            if self._data[self._at + 1]:
                raise Asn1Error("an end-of-contents with a length")
            self._at += 2
            return self._at - 2

    def _find_end(self, end: int) -> int:
        """``asn1_find_indefinite_length()``: skip what nothing looks into, to where it ends."""
        data, at, depth = self._data, self._at, 1
        while depth:
            if end - at < 2:
                raise Asn1Error("it ends early")
            tag, at = data[at], at + 1
            if tag == 0:
                if data[at]:
                    raise Asn1Error("an end-of-contents with a length")
                at, depth = at + 1, depth - 1
                continue
            more = tag & 0x1F == 0x1F
            while more:
                if end - at < 2:
                    raise Asn1Error("it ends early")
                more, at = bool(data[at] & 0x80), at + 1
            length, at = data[at], at + 1
            if length == _INDEFINITE:
                if not tag & _CONSTRUCTED:
                    raise Asn1Error("a value without parts and length")
                depth += 1
                continue
            if length > _INDEFINITE:
                size = length - _INDEFINITE
                if size > min(7, end - at):
                    raise Asn1Error("it ends early")
                length, at = int.from_bytes(data[at : at + size]), at + size
            if length > end - at:
                raise Asn1Error("it ends early")
            at += length
        return at
