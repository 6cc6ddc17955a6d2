"""Where revocation is asked for, and where not: what is named and not asked is unknown."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID as Access
from cryptography.x509.oid import NameOID
from forge import forge_jws
from notation import SCOPE, Layout, Notation
from pki import DAY, NOW, make_intermediate, make_leaf, make_root, pem
from revocable import CA_USAGE, ISSUER, ROOT
from slow_server import DRIPS, slow_server

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.trust import revocation
from dmsign_fast.trust.policy import Validation
from dmsign_fast.trust.revocation import Status, fetch_revocation, sources_of
from dmsign_fast.trust.validations import Outcome
from dmsign_fast.trust.verdict import envelope_verdict, trust_by_policy, trust_files

JWS = "application/jose+json"
URI = x509.UniformResourceIdentifier


class Web:
    """A server of paths; ``asked`` are those it was asked for."""

    def __init__(self):
        self.pages, self.asked = {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                status, headers, body = outer.pages.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def put(self, path, body, status=200, **headers):
        self.pages[path] = (
            status,
            {name.replace("_", "-"): value for name, value in headers.items()},
            body,
        )

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def web():
    made = Web()
    yield made
    made.close()


def crl(*revoked, number=1, delta_of=None, freshest=None, signer=ISSUER):
    """A CRL of the issuer, that revokes these certificates."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ISSUER.certificate.subject)
        .last_update(NOW - DAY)
        .next_update(NOW + DAY)
        .add_extension(x509.CRLNumber(number), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ISSUER.key.public_key()), False
        )
    )
    if delta_of is not None:
        builder = builder.add_extension(x509.DeltaCRLIndicator(delta_of), True)
    if freshest is not None:
        builder = builder.add_extension(x509.FreshestCRL([point(freshest)]), False)
    for entity in revoked:
        entry = x509.RevokedCertificateBuilder(entity.certificate.serial_number, NOW - DAY).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def point(*urls):
    return x509.DistributionPoint([URI(one) for one in urls], None, None, None)


def with_points(*points, issuer=ISSUER, name="leaf"):
    lists = (x509.CRLDistributionPoints(list(points)), False)
    return make_leaf(issuer, name, extensions=(lists,))


def with_responder(name):
    access = x509.AuthorityInformationAccess([x509.AccessDescription(Access.OCSP, name)])
    return make_leaf(ISSUER, "asks", extensions=((access, False),))


RDN = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
DIRECTORY = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
NOT_ASKED = {
    "ldap": with_points(point("ldap://x/cn=crl")),
    "ftp": with_points(point("ftp://x/crl")),
    "file": with_points(point("file:///etc/passwd")),
    "no scheme": with_points(point("x/crl")),
    "http without slashes": with_points(point("http:x")),
    "dns": with_points(x509.DistributionPoint([x509.DNSName("x")], None, None, None)),
    "directory": with_points(x509.DistributionPoint([DIRECTORY], None, None, None)),
    "relative": with_points(x509.DistributionPoint(None, RDN, None, [DIRECTORY])),
    "issuer": with_points(x509.DistributionPoint(None, None, None, [DIRECTORY])),
    "ocsp ldap": with_responder(URI("ldap://x/")),
    "ocsp directory": with_responder(DIRECTORY),
}


@pytest.mark.parametrize("what", NOT_ASKED)
def test_what_cannot_be_asked_is_unknown_and_never_nothing(what):
    leaf = NOT_ASKED[what]
    assert sources_of(leaf.certificate)
    (found,) = fetch_revocation(leaf.chain)
    assert found.status is Status.UNKNOWN
    assert found.evidence
    trust = trust_files(TrustAnchors((ROOT.certificate,)), revocation=True)
    image = {"mediaType": "a/b", "digest": f"sha256:{0:064}", "size": 1}
    for check in (None, fetch_revocation):
        verdict = envelope_verdict(
            forge_jws(leaf, image), JWS, trust, target=image, revocation=check
        )
        assert not verdict.accepted
        assert verdict.findings[-1].outcome is Outcome.UNCHECKED


def test_what_names_no_source():
    """A certificate of an issuer is no source."""
    name = x509.AccessDescription(Access.CA_ISSUERS, URI("http://x/"))
    access = x509.AuthorityInformationAccess([name])
    leaf = make_leaf(ISSUER, "names its issuer", extensions=((access, False),))
    assert not sources_of(leaf.certificate)
    assert fetch_revocation(leaf.chain) == ()


def judge(leaf, tmp_path):
    """The status, and whether notation accepts."""
    found = fetch_revocation(leaf.chain)
    layout = Layout(tmp_path / "oci")
    layout.attach(forge_jws(leaf, layout.image), JWS, [])
    notation = Notation(tmp_path / "home")
    notation.trust(pem(ROOT.certificate))
    done = notation.verify(layout)
    return [one.status for one in found], done.exit_code == 0


@pytest.mark.parametrize("scheme", ["http", "HTTP", "Http"])
@pytest.mark.parametrize("revoked", [False, True])
def test_schemes_in_any_case(scheme, revoked, web, tmp_path):
    leaf = with_points(point(web.url("/crl").replace("http", scheme)), name="upper")
    web.put("/crl", crl(*[leaf] * revoked))
    status = Status.REVOKED if revoked else Status.GOOD
    assert judge(leaf, tmp_path) == ([status], not revoked)


def test_each_distribution_point_counts(web, tmp_path):
    leaf = with_points(point(web.url("/1")), point(web.url("/2")), name="two points")
    web.put("/1", crl())
    assert judge(leaf, tmp_path) == ([Status.UNKNOWN], False)
    web.put("/2", crl())
    assert judge(leaf, tmp_path / "good") == ([Status.GOOD], True)
    web.put("/2", crl(leaf))
    assert judge(leaf, tmp_path / "revoked") == ([Status.REVOKED], False)
    web.put("/1", b"junk")
    assert fetch_revocation(leaf.chain)[0].status is Status.REVOKED


def test_a_point_that_cannot_be_asked_beside_one_that_can(web):
    leaf = with_points(point("ldap://x/"), point(web.url("/crl")), name="ldap beside")
    web.put("/crl", crl())
    (found,) = fetch_revocation(leaf.chain)
    assert found.status is Status.UNKNOWN
    assert "ldap://x/" in found.evidence


def test_names_of_one_point_are_ways_to_the_same_list(web):
    leaf = with_points(point("ldap://x/", web.url("/gone"), web.url("/crl")), name="three ways")
    web.put("/crl", crl())
    assert fetch_revocation(leaf.chain)[0].status is Status.GOOD
    web.put("/crl", crl(leaf))
    assert fetch_revocation(leaf.chain)[0].status is Status.REVOKED


def test_delta_lists(web, tmp_path):
    """What the base list names is asked for too."""
    leaf = with_points(point(web.url("/base")), name="delta")
    web.put("/base", crl(freshest=web.url("/delta")))
    assert judge(leaf, tmp_path / "gone") == ([Status.UNKNOWN], False)
    web.put("/delta", crl(number=2, delta_of=1))
    assert judge(leaf, tmp_path / "good") == ([Status.GOOD], True)
    web.put("/delta", crl(leaf, number=3, delta_of=1))
    assert judge(leaf, tmp_path / "revoked") == ([Status.REVOKED], False)


# -- what comes from the other side


ODD = {
    "not there": {"body": crl(), "status": 404},
    "a part": {"body": crl(), "status": 206},
    "nothing": {"body": b""},
    "deep": {"body": b"\x30\x80" * 1000},
    "compressed": {"body": gzip.compress(crl()), "Content_Encoding": "gzip"},
    "to a file": {"body": b"", "status": 302, "Location": "file:///etc/passwd"},
    "to ftp": {"body": b"", "status": 302, "Location": "ftp://127.0.0.1/"},
    "to itself": {"body": b"", "status": 302, "Location": "/crl"},
}


@pytest.mark.parametrize("what", ODD)
def test_odd_answers(what, web):
    leaf = with_points(point(web.url("/crl")), name="odd")
    web.put("/crl", **ODD[what])
    (found,) = fetch_revocation(leaf.chain)
    assert found.status is Status.UNKNOWN
    assert len(web.asked) <= 4


def test_a_redirect_is_followed(web):
    leaf = with_points(point(web.url("/crl")), name="moved")
    web.put("/crl", b"", status=302, Location="/moved")
    web.put("/moved", crl(leaf))
    assert fetch_revocation(leaf.chain)[0].status is Status.REVOKED


def test_too_much(web, monkeypatch):
    leaf = with_points(point(web.url("/crl")), name="much")
    web.put("/crl", crl())
    monkeypatch.setattr(revocation, "_LONGEST_CRL", len(crl()) - 100)
    (found,) = fetch_revocation(leaf.chain)
    assert found.status is Status.UNKNOWN
    assert "more than" in found.evidence


@pytest.mark.parametrize("drip", DRIPS)
def test_too_slow(drip):
    with slow_server(*DRIPS[drip]) as place:
        leaf = with_points(point(f"http://{place}/crl"), name="slow")
        (found,) = fetch_revocation(leaf.chain, timeout=0.3)
    assert found.status is Status.UNKNOWN
    assert "s in all" in found.evidence


def test_the_time_is_for_the_whole_chain():
    with slow_server(*DRIPS["body"]) as place:
        points = [point(f"http://{place}/{number}") for number in range(8)]
        issuer = make_intermediate(
            ROOT,
            "slow issuer",
            usage=CA_USAGE,
            extensions=((x509.CRLDistributionPoints(points), False),),
        )
        leaf = with_points(*points, issuer=issuer, name="all slow")
        found = fetch_revocation(leaf.chain, timeout=0.3)
    assert [one.status for one in found] == [Status.UNKNOWN] * 2
    assert found[0].evidence.count("was not asked") == 7
    assert found[1].evidence.count("was not asked") == 8


def test_so_many_requests_and_no_more(web):
    points = [point(web.url(f"/{number}")) for number in range(40)]
    (found,) = fetch_revocation(with_points(*points, name="many").chain)
    assert found.status is Status.UNKNOWN
    assert len(web.asked) == 32


# -- whose URLs are fetched


def verdict_of(envelope, trust, image):
    return envelope_verdict(envelope, JWS, trust, target=image, revocation=fetch_revocation)


IMAGE = {"mediaType": "a/b", "digest": f"sha256:{0:064}", "size": 1}


def test_nothing_is_fetched_for_a_stranger(web):
    trust = trust_files(TrustAnchors((make_root("trusted").certificate,)), revocation=True)
    leaf = with_points(point(web.url("/crl")), name="stranger")
    verdict = verdict_of(forge_jws(leaf, IMAGE), trust, IMAGE)
    assert not verdict.accepted
    assert web.asked == []
    assert verdict.findings[-1].outcome is Outcome.UNCHECKED
    assert verdict.findings[-1].validation is Validation.REVOCATION


@pytest.mark.parametrize("action", ["log", "enforce"])
def test_nor_for_an_identity_that_is_not_trusted(action, web, tmp_path):
    notation = Notation(tmp_path)
    verification = {"level": "strict", "override": {"authenticity": action, "revocation": "log"}}
    policy = {
        "trustedIdentities": ["x509.subject: C=US, ST=WA, O=x"],
        "signatureVerification": verification,
    }
    notation.trust(pem(ROOT.certificate), policy=policy)
    trust = trust_by_policy(SCOPE, notation.config)
    leaf = with_points(point(web.url("/crl")), name="another")
    verdict = verdict_of(forge_jws(leaf, IMAGE), trust, IMAGE)
    assert verdict.accepted == (action == "log")
    assert web.asked == []


def test_nor_above_what_is_trusted(web):
    """The chain is not signed: above a trusted issuer a stranger can put his own, of its key."""
    mine = make_root("mine")
    crossed = make_intermediate(
        mine,
        "Issuer",
        key_name="Issuer",
        extensions=((x509.CRLDistributionPoints([point(web.url("/above"))]), False),),
    )
    below = make_intermediate(ISSUER, "below", usage=CA_USAGE)
    leaf = with_points(point(web.url("/leaf")), issuer=below, name="of ours")
    chain = (leaf.certificate, below.certificate, *crossed.chain)
    trust = trust_files(TrustAnchors((below.certificate,)), revocation=True)
    verdict = verdict_of(forge_jws(leaf, IMAGE, chain=chain), trust, IMAGE)
    assert verdict.findings[1].outcome is Outcome.PASSED
    assert web.asked == ["/leaf"]


def test_a_trusted_issuer_may_be_revoked_itself(web, tmp_path):
    lists = (x509.CRLDistributionPoints([point(web.url("/crl"))]), False)
    trusted = make_intermediate(ISSUER, "trusted issuer", extensions=(lists,))
    leaf = make_leaf(trusted, "below it")
    web.put("/crl", crl(trusted))
    trust = trust_files(TrustAnchors((trusted.certificate,)), revocation=True)
    verdict = verdict_of(forge_jws(leaf, IMAGE), trust, IMAGE)
    assert verdict.findings[-1].outcome is Outcome.FAILED
    layout = Layout(tmp_path / "oci")
    layout.attach(forge_jws(leaf, layout.image), JWS, [])

    def notation_accepts(home):
        notation = Notation(tmp_path / home)  # each with a cache of lists of its own
        notation.trust(pem(trusted.certificate))
        return notation.verify(layout).exit_code == 0

    assert not notation_accepts("revoked")
    web.put("/crl", crl())
    assert verdict_of(forge_jws(leaf, IMAGE), trust, IMAGE).accepted
    assert notation_accepts("good")
