"""Trusted identities, by the specification and as notation reads them."""

import contextlib

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from pki import make_leaf

from dmsign_fast.errors import FormatError
from dmsign_fast.trust.identity import identity_problem, parse_identities

P = "x509.subject: "
MINIMAL = P + "C=US, ST=WA, O=example"


def attributes(text):
    return dict(parse_identities([text], "policy")[0].attributes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINIMAL, {"C": "US", "ST": "WA", "O": "example"}),
        ("x509.subject:C=US,S=WA,O=example", {"C": "US", "ST": "WA", "O": "example"}),
        (P + "C = US ;ST= WA,O=  a b  ", {"C": "US", "ST": "WA", "O": "a b"}),
        (P + r"C=US, ST=WA, O=a\, b\; \\c", {"C": "US", "ST": "WA", "O": r"a, b; \c"}),
        (P + r"C=US, ST=WA, O=\ a\ ", {"C": "US", "ST": "WA", "O": " a "}),
        (P + r"C=US, ST=WA, O=gr\C3\BC\C3\9Fe", {"C": "US", "ST": "WA", "O": "grüße"}),
        (P + "C=US, ST=WA, O=a=b, 1.2.3=x", {"C": "US", "ST": "WA", "O": "a=b", "1.2.3": "x"}),
    ],
)
def test_names(text, expected):
    assert attributes(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("C=US, ST=WA, O=x", "not of the form"),
        (P, "RFC 4514"),
        (P + "US", "RFC 4514"),
        (P + "C=US, ST=WA", "lacks O"),
        (P + "O=x", "lacks C, ST"),
        (P + "c=US, ST=WA, O=x", "lacks C"),
        (P + "C=US, ST=WA, O=", "O more than once, or empty"),
        (P + "C=US, ST=WA, O=x, O=y", "O more than once"),
        (P + "C=US, ST=WA, S=OR, O=x", "ST more than once"),
        (P + "C=US, ST=WA+O=x", "escape"),
        (P + "C=US, ST=WA, O=#04024869", "RFC 4514"),
        (P + 'C=US, ST=WA, O="x"', "escape|empty"),
        (P + "C=US, ST=WA, O=x,", "RFC 4514"),
        (P + "C=US, ST=WA, O=x\\", "escape"),
        (P + r"C=US, ST=WA, O=\FF", "UTF-8"),
    ],
)
def test_what_is_no_identity(text, says):
    with pytest.raises(FormatError, match=says):
        parse_identities([text], "policy")


def test_any_stands_alone():
    assert parse_identities(["*"], "policy") == ()
    with pytest.raises(FormatError, match="stands alone"):
        parse_identities(["*", MINIMAL], "policy")


def test_overlapping_identities_are_refused():
    with pytest.raises(FormatError, match="overlaps"):
        parse_identities([MINIMAL + ", OU=a", MINIMAL], "policy")
    with pytest.raises(FormatError, match="overlaps"):
        parse_identities([MINIMAL, MINIMAL], "policy")
    assert len(parse_identities([MINIMAL + ", OU=a", MINIMAL + ", OU=b"], "policy")) == 2


def signer(*parts):
    """A certificate with a subject of these RDNs, each one or several attributes."""
    names = [
        x509.RelativeDistinguishedName([x509.NameAttribute(*one) for one in part]) for part in parts
    ]
    return make_leaf(subject=x509.Name(names)).certificate


US = [(NameOID.COUNTRY_NAME, "US")]
WA = [(NameOID.STATE_OR_PROVINCE_NAME, "WA")]
EXAMPLE = [(NameOID.ORGANIZATION_NAME, "example")]


def test_a_signer_with_more_attributes_matches():
    certificate = signer(US, WA, EXAMPLE, [(NameOID.COMMON_NAME, "a, b")])
    assert identity_problem(certificate, parse_identities([MINIMAL], "p")) is None
    assert identity_problem(certificate, parse_identities([MINIMAL + r", CN=a\, b"], "p")) is None


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([US, WA], "is not 'x509.subject"),
        ([US, WA, [(NameOID.ORGANIZATION_NAME, "Example")]], "is not 'x509.subject"),
        ([US, WA, EXAMPLE, EXAMPLE], "more than once"),
        ([US, WA, EXAMPLE, [(NameOID.EMAIL_ADDRESS, "a@b")]], "emailAddress"),
        ([US, WA, EXAMPLE, [(NameOID.COMMON_NAME, "a=#b")]], "'=#' in it"),
    ],
)
def test_other_signers_do_not(parts, says):
    assert says in identity_problem(signer(*parts), parse_identities([MINIMAL], "p"))


@given(st.text(max_size=40))
def test_junk(text):
    for one in (text, P + text, MINIMAL + text):
        with contextlib.suppress(FormatError):
            parse_identities([one], "policy")
