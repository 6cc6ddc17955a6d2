import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmsign_fast.envelope.der import check_der
from dmsign_fast.errors import FormatError


def wrap(content: bytes, tag: int = 0x30) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(octets))) + octets + content


@pytest.mark.parametrize(
    "good",
    [
        "3000",
        "0500",
        "020100",
        "02020080",
        "0202ff7f",
        "0101ff",
        "0400",
        "a003020101",
        "80021234",
        "3009310702010004020000",
    ],
)
def test_der_is_taken(good):
    check_der(bytes.fromhex(good))


def test_lengths_in_more_than_one_byte():
    for size in (0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000):
        check_der(wrap(bytes(size), 0x04))
        check_der(wrap(wrap(bytes(size), 0x04)))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("", "ends early"),
        ("30", "ends early"),
        ("3001", "ends early"),
        ("300100", "ends early"),
        ("30820101", "ends early"),
        ("30820001", "longer than needed"),
        ("3082", "ends early"),
        ("30030201", "ends early"),
        ("30030202ff00", "ends early"),
        ("3084ffffffff", "ends early"),
        ("30ff" + "ff" * 127, "ends early"),
        ("300000", "1 bytes follow"),
        ("3000" * 2, "2 bytes follow"),
        ("30800000", "indefinite length"),
        ("308100", "longer than needed"),
        ("04817f" + "00" * 127, "longer than needed"),
        ("04820080" + "00" * 128, "longer than needed"),
        ("1f8101", "begins with 0x1f"),
        ("bf810100", "begins with 0xbf"),
        ("30020000", "begins with 0x00"),
        ("2400", "type 4 in pieces"),
        ("1000", "type 16 in pieces"),
        ("0200", "badly encoded"),
        ("02020001", "badly encoded"),
        ("0202ff80", "badly encoded"),
        ("010101", "badly encoded"),
        ("0100", "badly encoded"),
        ("050100", "badly encoded"),
    ],
)
def test_the_rest_is_refused(bad, message):
    with pytest.raises(FormatError, match=message):
        check_der(bytes.fromhex(bad))


def test_depth_is_bounded():
    data = b"\x05\x00"
    for _ in range(32):
        data = wrap(data)
    check_der(data)
    with pytest.raises(FormatError, match="nested"):
        check_der(wrap(data))
    for _ in range(5000):
        data = wrap(data)
    with pytest.raises(FormatError, match="nested"):
        check_der(data)


VALUES = st.recursive(
    st.binary(max_size=300).map(lambda content: wrap(content, 0x04)),
    lambda inner: st.lists(inner, max_size=4).map(lambda parts: wrap(b"".join(parts))),
    max_leaves=10,
)


@settings(deadline=None)
@given(VALUES)
def test_built_der_is_taken_and_no_part_of_it(data):
    check_der(data)
    for end in range(0, len(data), max(1, len(data) // 20)):
        with pytest.raises(FormatError):
            check_der(data[:end])
