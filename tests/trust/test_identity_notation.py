"""Trusted identities and subjects: who is taken for whom, as the real notation decides.

Where it decides otherwise, docs/notation-differences.md names the case.
"""

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from differences import differences
from forge import forge_jws
from notation import SCOPE, Layout, Notation
from pki import make_intermediate, make_leaf, make_root, pem

from dmsign_fast.errors import FormatError
from dmsign_fast.trust.verdict import envelope_verdict, trust_by_policy

JWS = "application/jose+json"
ISSUER = make_intermediate(make_root())
C, ST, O = NameOID.COUNTRY_NAME, NameOID.STATE_OR_PROVINCE_NAME, NameOID.ORGANIZATION_NAME  # noqa: E741
CN, SERIAL = NameOID.COMMON_NAME, NameOID.SERIAL_NUMBER
USUAL = [[(C, "US")], [(ST, "WA")], [(O, "example")]]
MINIMAL = "x509.subject: C=US, ST=WA, O=example"

# the identity, the subject's RDNs, and whether notation takes it
CASES = {
    "usual": (MINIMAL, USUAL, True),
    "another": (MINIMAL + ", OU=x", USUAL, False),
    # subjects
    "several in an rdn": (MINIMAL, [*USUAL, [(CN, "x"), (SERIAL, "1")]], True),
    "several in an rdn, named": (
        MINIMAL + ", CN=x, SERIALNUMBER=1",
        [*USUAL, [(CN, "x"), (SERIAL, "1")]],
        True,
    ),
    "all in an rdn": (MINIMAL, [[(C, "US"), (ST, "WA"), (O, "example")]], True),
    "organization twice": (MINIMAL, [*USUAL, [(O, "example")]], False),
    "organization twice in an rdn": (MINIMAL, [*USUAL[:2], [(O, "example"), (O, "b")]], False),
    "unit twice": (
        MINIMAL,
        [*USUAL, *([(NameOID.ORGANIZATIONAL_UNIT_NAME, one)] for one in "ab")],
        False,
    ),
    "subject-name-twice": (MINIMAL, [*USUAL, [(CN, "a")], [(CN, "b")]], True),
    "subject-serial-twice": (MINIMAL, [*USUAL, [(SERIAL, "a")], [(SERIAL, "b")]], True),
    "email address": (MINIMAL, [*USUAL, [(NameOID.EMAIL_ADDRESS, "a@b.example")]], False),
    "user id": (MINIMAL, [*USUAL, [(NameOID.USER_ID, "a")]], False),
    "domain component": (MINIMAL, [*USUAL, [(NameOID.DOMAIN_COMPONENT, "a")]], False),
    "organization identifier": (
        MINIMAL,
        [*USUAL, [(NameOID.ORGANIZATION_IDENTIFIER, "a")]],
        False,
    ),
    "surname": (MINIMAL, [*USUAL, [(NameOID.SURNAME, "a")]], False),
    "email address, named": (
        MINIMAL + ", 1.2.840.113549.1.9.1=a@b.example",
        [*USUAL, [(NameOID.EMAIL_ADDRESS, "a@b.example")]],
        False,
    ),
    "any signer has an email address": (
        "*",
        [*USUAL, [(NameOID.EMAIL_ADDRESS, "a@b.example")]],
        True,
    ),
    "equals and number sign": (MINIMAL, [*USUAL, [(CN, "a=#b")]], False),
    "number sign": (MINIMAL + r", CN=\#b", [*USUAL, [(CN, "#b")]], True),
    "spaces around": (MINIMAL + r", CN=\ b\ ", [*USUAL, [(CN, " b ")]], True),
    # identities
    "equals and number sign in the identity": (MINIMAL + r", CN=a=#b", USUAL, False),
    "number sign after a space": (MINIMAL + ", CN= #b", [*USUAL, [(CN, "#b")]], True),
    "tab before a type": ("x509.subject: C=US, ST=WA,\tO=example", USUAL, False),
    "tab after a type": ("x509.subject: C=US, ST=WA, O\t=example", USUAL, False),
    "tab before a value": ("x509.subject: C=US, ST=WA, O=\texample", USUAL, False),
    "newline after a value": (MINIMAL + "\n", USUAL, False),
    "newline in the subject": (
        "x509.subject: C=US, ST=WA, O=a\n",
        [*USUAL[:2], [(O, "a\n")]],
        True,
    ),
    "lower case": ("x509.subject: c=US, ST=WA, O=example", USUAL, False),
    "another kind": ("arn:aws:signer:x", USUAL, False),
    "identity-of-another-kind-beside": ("arn:aws:signer:x\0" + MINIMAL, USUAL, True),
    "no kind": ("C=US", USUAL, False),
    "identity-quotes": (MINIMAL + ', CN="b"', [*USUAL, [(CN, '"b"')]], True),
    "identity-angle-brackets": (MINIMAL + ", CN=<b>", [*USUAL, [(CN, "<b>")]], True),
    "identity-empty-value": (MINIMAL + ", OU=", USUAL, True),
    "identity-odd-type": (MINIMAL + ", CN_X=", USUAL, True),
    "identity-not-utf-8": (MINIMAL.replace("O=", r"OU=\FF, O="), USUAL, False),
}


@pytest.mark.parametrize("what", CASES)
def test_who_is_trusted(what, tmp_path):
    identities, rdns, accepted = CASES[what]
    subject = x509.Name(
        [x509.RelativeDistinguishedName([x509.NameAttribute(*one) for one in rdn]) for rdn in rdns]
    )
    leaf = make_leaf(ISSUER, "identity", subject=subject)
    layout = Layout(tmp_path / "oci")
    envelope = forge_jws(leaf, layout.image)
    layout.attach(envelope, JWS, [])
    notation = Notation(tmp_path / "home")
    notation.trust(pem(leaf.root), policy={"trustedIdentities": identities.split("\0")})
    done = notation.verify(layout)
    assert (done.exit_code == 0) == accepted, done.err
    try:
        trust = trust_by_policy(SCOPE, notation.config)
        ours = envelope_verdict(envelope, JWS, trust, target=layout.image).accepted
    except FormatError:
        ours = False
    different = what in differences("Trusted identities")
    assert ours == (accepted and not different), what


def test_every_difference_is_a_case():
    assert differences("Trusted identities") <= set(CASES)
