"""Whatever the bytes are, only our own exceptions come out, and what is signed cannot change."""

import json

import cbor2
import pytest
from forge import forge_cose, forge_jws
from helpers_pkcs7 import signer_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pki import NOW, der, make_intermediate, make_leaf, make_root

from dmsign_fast.envelope.media import FORMATS
from dmsign_fast.envelope.notary import check_envelope, parse_envelope, sign_manifest
from dmsign_fast.errors import FormatError, VerificationError
from dmsign_fast.strict_json import read_object

# cryptography warns of odd certificates, such as one with a negative serial number.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

JWS, COSE = FORMATS
LEAF = make_leaf(make_intermediate(make_root()))
IMAGE = {"mediaType": "a/b", "digest": "sha256:00", "size": 1}
MADE = {
    one: sign_manifest(
        IMAGE,
        signer_of(LEAF),
        media_type=one,
        signing_time=NOW,
        agent="me/1",
        user_metadata={"a": "b"},
    )
    for one in FORMATS
}
both = pytest.mark.parametrize("media_type", FORMATS)
OURS = (FormatError, VerificationError)


def taken(data, media_type):
    """Return what an envelope means, or None if it is refused by one of our exceptions."""
    try:
        found = parse_envelope(data, media_type)
        check_envelope(found)
    except OURS:
        return None
    return found


def meaning(found):
    """All that the signature covers, and the certificates."""
    return (found.payload, found.scheme, found.critical, found.signing_time, found.expiry,
            found.extended, found.message, found.certificate_chain)  # fmt: skip


@both
def test_a_flipped_bit_anywhere_is_refused_or_changes_only_what_is_not_signed(media_type):
    data = MADE[media_type]
    original = parse_envelope(data, media_type)
    check_envelope(original)
    passed = []
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        found = taken(bytes(flipped), media_type)
        if found is not None:
            assert meaning(found) == meaning(original), f"byte {at}"
            passed.append(at)
    # what passes is in the name of the software, and nowhere else
    agent = data.index(b"me/1")
    assert set(passed) <= set(range(agent, agent + 4))


@pytest.mark.parametrize("part", ["protected", "payload", "signature"])
def test_any_flipped_bit_of_a_part_of_a_jws(part):
    envelope = json.loads(MADE[JWS])
    data = envelope[part].encode()
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        text = json.dumps({**envelope, part: flipped.decode("latin-1")}).encode()
        assert taken(text, JWS) is None, f"bit {bit}"


@pytest.mark.parametrize("part", [0, 2, 3], ids=["protected", "payload", "signature"])
def test_any_flipped_bit_of_a_part_of_a_cose(part):
    four = cbor2.loads(MADE[COSE]).value
    for bit in range(len(four[part]) * 8):
        flipped = bytearray(four[part])
        flipped[bit // 8] ^= 1 << bit % 8
        changed = [bytes(flipped) if at == part else one for at, one in enumerate(four)]
        assert taken(cbor2.dumps(cbor2.CBORTag(18, changed)), COSE) is None, f"bit {bit}"


@both
def test_cut_short_at_every_byte(media_type):
    data = MADE[media_type]
    for end in range(len(data)):
        with pytest.raises(FormatError):
            parse_envelope(data[:end], media_type)


@both
@settings(max_examples=150)
@given(junk=st.binary(max_size=200))
def test_junk(media_type, junk):
    assert taken(junk, media_type) is None
    assert taken(b"\xd2\x84" + junk, media_type) is None


@both
@settings(max_examples=150)
@given(data=st.data())
def test_pieces_replaced(media_type, data):
    whole = MADE[media_type]
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    changed = whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:]
    found = taken(changed, media_type)
    assert found is None or meaning(found) == meaning(parse_envelope(whole, media_type))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)
OURS_BY_NAME = ("signingScheme", "signingTime", "expiry", "signingAgent", "timestampSignature")
NAMES = st.sampled_from(
    ["alg", "crit", "cty", "x5c", "x", *(f"io.cncf.notary.{one}" for one in OURS_BY_NAME)]
)


@settings(max_examples=80)
@given(st.dictionaries(NAMES, VALUES, max_size=3), st.dictionaries(NAMES, VALUES, max_size=2))
@example({"alg": {}}, {})
@example({"crit": [{}]}, {})
@example({"alg": []}, {"x5c": [[]]})
def test_any_json_in_the_headers(protected, header):
    found = taken(forge_jws(LEAF, IMAGE, protected=protected, header=header), JWS)
    assert found is None or found.certificate_chain == LEAF.chain


CBOR = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.binary(max_size=9)
    | st.text(max_size=9)
    | st.builds(cbor2.CBORTag, st.integers(0, 300), st.integers()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.integers() | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
LABELS = NAMES | st.sampled_from([1, 2, 3, 4, 33, -1]) | st.booleans() | st.floats(0, 3)


@settings(max_examples=80)
@given(st.dictionaries(LABELS, CBOR, max_size=3), st.dictionaries(LABELS, CBOR, max_size=2))
@example({1: cbor2.CBORTag(35, "(")}, {})
@example({2: [[]]}, {33: [cbor2.CBORTag(2, b"")]})
@example({"x": cbor2.undefined}, {})
def test_any_cbor_in_the_headers(protected, header):
    found = taken(forge_cose(LEAF, IMAGE, protected=protected, header=header), COSE)
    assert found is None or found.certificate_chain == LEAF.chain


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100000,
        b'{"a":' * 100000,
        b'{"a":1e999,"b":' + b"9" * 5000 + b"}",
        b'{"a":"\\ud800"}',
        b'{"\\ud800":1}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1,"a":1}',
        b'{"a":[{"b":1,"b":2}]}',
        b"\xff\xfe{\x00}\x00",
        b"null",
        b"",
    ],
)
def test_json_that_is_refused(data):
    with pytest.raises(FormatError, match=r"^the thing "):
        read_object(data, "the thing")


def test_cbor_that_is_deep_or_long():
    for data in (b"\x81" * 100000, b"\xd2" + b"\x81" * 5000 + b"\0", b"\xd2\x9b" + b"\xff" * 8,
                 b"\xd2\x5b\x00" + b"\xff" * 7, b"\xd2\xbb" + b"\x7f" * 8):  # fmt: skip
        with pytest.raises(FormatError):
            parse_envelope(data, COSE)


@settings(max_examples=100)
@given(st.data())
def test_a_changed_certificate_is_refused_or_not_parsed(data):
    raw = bytearray(der(LEAF.certificate))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    chain = [bytes(raw), *(der(one) for one in LEAF.above)]
    assert taken(forge_cose(LEAF, IMAGE, header={33: chain}), COSE) is None
