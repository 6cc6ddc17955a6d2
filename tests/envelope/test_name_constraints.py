"""Name constraints and critical extensions of a chain: by RFC 5280, as openssl has them."""

import ipaddress

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from pki import make_intermediate, make_leaf, make_root, openssl

from dmsign_fast.envelope.chain import Purpose, chain_problem


def name(*values):
    kinds = (NameOID.COUNTRY_NAME, NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
    pairs = zip(kinds, values, strict=False)
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in pairs])


def mail_subject(mail):
    attributes = [*name("US", "a", "b"), x509.NameAttribute(NameOID.EMAIL_ADDRESS, mail)]
    return x509.Name(attributes)


ACME = x509.DirectoryName(name("US", "Acme"))
DNS, MAIL = x509.DNSName, x509.RFC822Name
URI = x509.UniformResourceIdentifier
NET = x509.IPAddress(ipaddress.ip_network("10.1.0.0/16"))
US_ACME, US_OTHER = name("US", "Acme", "x"), name("US", "Other", "x")


def address(text):
    return x509.IPAddress(ipaddress.ip_address(text))


# permitted and excluded subtrees; the leaf's subject and alternative names; whether it is allowed
CASES = [
    ([ACME], None, US_ACME, [], True),
    ([ACME], None, name("US", " aCME "), [], True),
    ([ACME], None, US_OTHER, [], False),
    ([ACME], None, name("US"), [], False),
    (None, [ACME], US_ACME, [], False),
    (None, [ACME], name("US", "ACME"), [], False),
    (None, [ACME], US_OTHER, [], True),
    ([DNS("a.example")], None, US_ACME, [], True),
    ([DNS("a.example")], None, US_ACME, [DNS("a.example")], True),
    ([DNS("a.example")], None, US_ACME, [DNS("b.A.example")], True),
    ([DNS("a.example")], None, US_ACME, [DNS("ba.example")], False),
    ([DNS("a.example")], None, US_ACME, [DNS("a.example"), DNS("other")], False),
    (None, [DNS("a.example")], US_ACME, [DNS("b.a.example")], False),
    (None, [DNS("a.example")], US_ACME, [DNS("example")], True),
    ([MAIL("a.example")], None, US_ACME, [MAIL("x@a.example")], True),
    ([MAIL("a.example")], None, US_ACME, [MAIL("x@b.a.example")], False),
    ([MAIL(".a.example")], None, US_ACME, [MAIL("x@b.a.example")], True),
    ([MAIL("x@a.example")], None, US_ACME, [MAIL("y@a.example")], False),
    ([MAIL("a.example")], None, mail_subject("x@a.example"), [], True),
    ([MAIL("a.example")], None, mail_subject("x@b.example"), [], False),
    ([URI("a.example")], None, US_ACME, [URI("https://a.example/x")], True),
    ([URI("a.example")], None, US_ACME, [URI("https://b.example/x")], False),
    (None, [URI(".a.example")], US_ACME, [URI("https://b.a.example/x")], False),
    ([NET], None, US_ACME, [address("10.1.2.3")], True),
    ([NET], None, US_ACME, [address("10.2.2.3")], False),
    ([NET], None, US_ACME, [address("::1")], False),
    (None, [NET], US_ACME, [address("10.1.2.3")], False),
]


def chain_of(permitted, excluded, subject, alternative):
    constraints = x509.NameConstraints(permitted, excluded)
    root = make_root()
    issuer = make_intermediate(root, "constrains", extensions=((constraints, True),))
    names = ((x509.SubjectAlternativeName(alternative), False),) if alternative else ()
    return make_leaf(issuer, "constrained", subject=subject, extensions=names)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_openssl(case, tmp_path):
    *made, allowed = case
    leaf = chain_of(*made)
    problem = chain_problem(leaf.chain, Purpose.CODE_SIGNING)
    assert (problem is None) == allowed, problem
    files = leaf.write(tmp_path)
    done = openssl(
        *("verify", "-x509_strict", "-CAfile", str(files.root), "-untrusted", str(files.bundle)),
        str(files.leaf),
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode == 0) == allowed, done.stdout + done.stderr


def test_names_that_cannot_be_compared():
    """openssl calls such a constraint unsupported."""
    oid = x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))
    for permitted, excluded in (([oid], None), (None, [oid])):
        leaf = chain_of(permitted, excluded, US_ACME, [oid])
        assert "RegisteredID" not in (problem := chain_problem(leaf.chain, Purpose.CODE_SIGNING))
        assert "1.2.3" in problem


def test_what_a_ca_issues_to_itself_is_free():
    """The leaf below it is not."""
    constraints = x509.NameConstraints([x509.DirectoryName(name("US", "Acme"))], None)
    root = make_root("r", subject=name("SE", "Root"), extensions=((constraints, True),))
    again = make_intermediate(root, "again", subject=name("SE", "Root"))
    good, bad = (make_leaf(again, "leaf", subject=one) for one in (US_ACME, US_OTHER))
    assert chain_problem(good.chain, Purpose.CODE_SIGNING) is None
    assert "does not allow" in chain_problem(bad.chain, Purpose.CODE_SIGNING)


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0")
EXPLICIT = x509.PolicyConstraints(0, None)
FREE = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)])


@pytest.mark.parametrize(
    ("extension", "critical", "says"),
    [
        (UNKNOWN, False, None),
        (UNKNOWN, True, "1.2.3.4"),
        (EXPLICIT, True, "2.5.29.36"),
        (FREE, True, None),
        (x509.InhibitAnyPolicy(0), True, None),
        (x509.TLSFeature([x509.TLSFeatureType.status_request]), True, "1.3.6.1.5.5.7.1.24"),
    ],
)
@pytest.mark.parametrize("where", ["leaf", "issuer", "root"])
@pytest.mark.parametrize("purpose", Purpose)
def test_critical_extensions(extension, critical, says, where, purpose):
    from tsa import TIMESTAMPING

    def extra(place):
        return ((extension, critical),) if place == where else ()

    usages = (TIMESTAMPING,) if purpose is Purpose.TIMESTAMPING else ()
    root = make_root("critical root", extensions=extra("root"))
    issuer = make_intermediate(root, "critical issuer", extensions=extra("issuer"))
    leaf = make_leaf(issuer, "critical", extensions=(*usages, *extra("leaf")))
    problem = chain_problem(leaf.chain, purpose)
    assert problem is None if says is None else f"critical extension {says}" in problem
