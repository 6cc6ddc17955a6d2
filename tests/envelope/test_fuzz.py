"""Whatever the bytes are, only our own exceptions come out, and no change passes for the original.

A change may go unnoticed where nothing depends on it, such as in the self-signature of an embedded
root; what must hold is that the verdict is then the same to the last field.
"""

from dataclasses import replace

import pytest
from helpers_pkcs7 import ROOT_HASH, sign, verify
from hypothesis import given, settings
from hypothesis import strategies as st
from pki import der, make_intermediate, make_leaf, make_root

from dmsign_fast.envelope.signed_data import parse_signed_data
from dmsign_fast.errors import DmsignError, FormatError

# cryptography warns of odd certificates, such as one with a negative serial number.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ALONE = make_leaf()
CHAIN = make_leaf(make_intermediate(make_root()))
BARE = sign(ROOT_HASH, ALONE, certificates=False)
EMBEDDED = sign(ROOT_HASH, ALONE)
WITH_CHAIN = sign(ROOT_HASH, CHAIN)


def check(data, entity, original):
    """Tell whether changed bytes are taken; then they mean the same as the original."""
    try:
        verdict = verify(data, ROOT_HASH, entity.root)
    except DmsignError:
        return False
    # How many certificates come along is signed by no one, and bears on nothing.
    expected = verify(original, ROOT_HASH, entity.root)
    assert replace(verdict, embedded=0) == replace(expected, embedded=0)
    return True


@pytest.mark.parametrize("data", [BARE, EMBEDDED, WITH_CHAIN], ids=["bare", "alone", "chain"])
def test_cut_short_at_every_byte(data):
    for end in range(len(data)):
        with pytest.raises(FormatError, match=r"ends early|empty"):
            verify(data[:end], ROOT_HASH, ALONE.root)


def test_every_bit_counts_without_certificates():
    for bit in range(len(BARE) * 8):
        flipped = bytearray(BARE)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not check(bytes(flipped), ALONE, BARE), f"bit {bit}"


def test_every_bit_counts_but_in_the_name_of_the_embedded_certificate():
    """When it is not the signer's, the signer is the anchor; as in a kernel with its keyring."""
    named = EMBEDDED.index(ALONE.certificate.tbs_certificate_bytes)
    free = range(named, EMBEDDED.index(b"Test Signer", named) + len("Test Signer"))
    for bit in range(len(EMBEDDED) * 8):
        flipped = bytearray(EMBEDDED)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not check(bytes(flipped), ALONE, EMBEDDED) or bit // 8 in free, f"bit {bit}"


def test_a_changed_byte_in_a_chain_is_refused_or_means_the_same():
    whole = der(CHAIN.root)
    free = range(WITH_CHAIN.index(whole), WITH_CHAIN.index(whole) + len(whole))
    for at in range(len(WITH_CHAIN)):
        changed = bytearray(WITH_CHAIN)
        changed[at] ^= 0x01
        assert not check(bytes(changed), CHAIN, WITH_CHAIN) or at in free, f"byte {at}"


def test_the_count_of_unused_bits_is_fixed():
    """It is the one part of a certificate that neither its issuer nor its parser guards."""
    chain = CHAIN
    while chain.certificate.signature[-1] & 1:
        chain = make_leaf(make_intermediate(make_root()))
    original = sign(ROOT_HASH, chain)
    changed = bytearray(original)
    changed[original.index(chain.certificate.signature) - 1] = 1
    with pytest.raises(FormatError, match="whole bytes"):
        verify(bytes(changed), ROOT_HASH, chain.root)


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes(data):
    with pytest.raises(DmsignError):
        verify(data, ROOT_HASH, ALONE.root)


@settings(deadline=None)
@given(st.data())
def test_mutated_signatures(data):
    original, entity = data.draw(
        st.sampled_from([(BARE, ALONE), (EMBEDDED, ALONE), (WITH_CHAIN, CHAIN)])
    )
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(changed)))
        length = data.draw(st.integers(0, 40))
        changed[start : start + length] = data.draw(st.binary(max_size=40))
    check(bytes(changed), entity, original)


TAGS = st.sampled_from(bytes.fromhex("0102030405060a0c13161718303180a0a1a3"))


def wrap(tag, content):
    size = len(content)
    head = bytes((tag, size)) if size < 0x80 else bytes((tag, 0x82)) + size.to_bytes(2)
    return head + content if size < 0x80 or size > 0xFF else bytes((tag, 0x81, size)) + content


VALUES = st.recursive(
    st.builds(wrap, TAGS, st.binary(max_size=20)),
    lambda inner: st.builds(
        lambda tag, parts: wrap(tag | 0x20, b"".join(parts)), TAGS, st.lists(inner, max_size=6)
    ),
    max_leaves=20,
)


def values_in(data, start=0, end=None):
    """Yield where each value inside DER begins and ends, outermost first."""
    end = len(data) if end is None else end
    while start < end:
        size, content = data[start + 1], start + 2
        if size > 0x80:
            content += size & 0x7F
            size = int.from_bytes(data[start + 2 : content])
        yield start, content, content + size
        if data[start] & 0x20:
            yield from values_in(data, content, content + size)
        start = content + size


def replace_value(data, target, new):
    """Put other DER in place of one value, with all lengths around it put right."""

    def rebuild(start, end):
        out = b""
        while start < end:
            _, content, stop = next(values_in(data, start, end))
            if start == target:
                out += new
            elif data[start] & 0x20:
                out += wrap(data[start], rebuild(content, stop))
            else:
                out += data[start:stop]
            start = stop
        return out

    return rebuild(0, len(data))


@settings(deadline=None)
@given(st.data())
def test_any_value_replaced_by_another(data):
    """Well-formed DER at the wrong place gets past the first check and into the parsers."""
    original, entity = data.draw(st.sampled_from([(BARE, ALONE), (EMBEDDED, ALONE)]))
    places = [start for start, _, _ in values_in(original)]
    target = data.draw(st.sampled_from(places))
    start, _, stop = next(values_in(original, data.draw(st.sampled_from(places))))
    new = data.draw(st.one_of(st.just(b""), st.just(original[start:stop]), VALUES))
    check(replace_value(original, target, new), entity, original)


def test_replacing_with_the_same_is_the_same():
    for start, _, stop in values_in(EMBEDDED):
        assert replace_value(EMBEDDED, start, EMBEDDED[start:stop]) == EMBEDDED
    assert parse_signed_data(EMBEDDED).certificates == ALONE.chain
