"""The outer shape of DER, checked before any parser sees the bytes (X.690, sections 8 and 10).

asn1crypto parses lazily and takes BER. This one pass over tags and lengths refuses what DER does
not allow, so that every byte of the input belongs to exactly one value and the parser's work is
bounded. SET OF need not be sorted: OpenSSL writes certificates in the order it was given them.
"""

from __future__ import annotations

from dmsign_fast.errors import FormatError

__all__ = ["check_der"]

_MAX_DEPTH = 32

_BOOLEAN, _INTEGER, _NULL, _SEQUENCE, _SET = 0x01, 0x02, 0x05, 0x10, 0x11


def check_der(data: bytes) -> None:
    """Raise FormatError unless ``data`` is exactly one value in DER."""
    end = _check_value(data, 0, len(data), 0)
    if end != len(data):
        raise FormatError(f"{len(data) - end} bytes follow the end of the signature")


def _check_value(data: bytes, start: int, limit: int, depth: int) -> int:
    """Check the value at ``start`` and return where it ends, at most ``limit``."""
    if depth > _MAX_DEPTH:
        raise FormatError(f"not DER at byte {start}: nested more than {_MAX_DEPTH} deep")
    tag, content, end = _header(data, start, limit)
    constructed = bool(tag & 0x20)
    if tag & 0xC0 == 0:  # the universal class
        number = tag & 0x1F
        if constructed != (number in (_SEQUENCE, _SET)):
            raise FormatError(f"not DER at byte {start}: a value of type {number} in pieces")
        _check_primitive(data[content:end], number, start)
    if constructed:
        while content < end:
            content = _check_value(data, content, end, depth + 1)
    return end


def _header(data: bytes, start: int, limit: int) -> tuple[int, int, int]:
    """Return the tag and where the content begins and ends."""
    if limit - start < 2:
        raise FormatError(f"the signature ends early, at byte {start}; it was cut short")
    tag, length, content = data[start], data[start + 1], start + 2
    # The kernel's lib/asn1_decoder.c takes no long tags either.
    if tag & 0x1F == 0x1F or tag == 0:
        raise FormatError(f"not DER at byte {start}: no value begins with {tag:#04x}")
    if length == 0x80:
        raise FormatError(f"not DER at byte {start}: indefinite length, which is BER")
    if length > 0x80:
        size = length & 0x7F
        octets = data[content : min(content + size, limit)]
        if len(octets) < size:
            raise FormatError(f"the signature ends early, at byte {content}; it was cut short")
        length = int.from_bytes(octets)
        content += size
        if octets[0] == 0 or length < 0x80:
            raise FormatError(f"not DER at byte {start}: a length longer than needed")
    if length > limit - content:
        raise FormatError(f"the signature ends early: the value at byte {start} was cut short")
    return tag, content, content + length


def _check_primitive(content: bytes, number: int, start: int) -> None:
    """Check the types that BER can encode in several ways."""
    good = True
    if number == _BOOLEAN:
        good = content in (b"\x00", b"\xff")
    elif number == _INTEGER:
        padded = len(content) > 1 and (content[0], content[1] >> 7) in ((0x00, 0), (0xFF, 1))
        good = len(content) > 0 and not padded
    elif number == _NULL:
        good = not content
    if not good:
        raise FormatError(f"not DER at byte {start}: a value of type {number} badly encoded")
