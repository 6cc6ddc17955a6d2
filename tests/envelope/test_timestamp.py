"""Timestamps of ``openssl ts``, and what is wrong with some."""

import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from asn1crypto import cms, tsp
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku
from helpers import program
from hypothesis import given, settings
from hypothesis import strategies as st
from pki import DAY, NOW, make_intermediate, make_root
from slow_server import DRIPS, slow_server
from tsa import Authority, forge_token, make_tsa, serve

from dmsign_fast.envelope.timestamp import over_http, request_timestamp, verify_timestamp
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import FormatError, ParameterError, StorageError, VerificationError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SIGNATURE = b"the raw signature"
ROOT = make_root("TSA Root")
ISSUER = make_intermediate(ROOT, "TSA Intermediate")
ROOTS = TrustAnchors((ROOT.certificate,))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(make_tsa(ISSUER), tmp_path_factory.mktemp("tsa"))


@pytest.fixture(scope="module")
def token(authority):
    return request_timestamp(SIGNATURE, authority.answer, ROOTS)


def stamped(directory, entity=None, **options):
    """Return a token that was not verified."""
    authority = Authority(entity or make_tsa(ISSUER), directory, **options)
    (directory / "message").write_bytes(SIGNATURE)
    subprocess.run(
        [program("openssl"), "ts", "-query", "-data", "message", "-sha256", "-cert", "-out", "q"],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    answer = authority.answer((directory / "q").read_bytes())
    return tsp.TimeStampResp.load(answer)["time_stamp_token"].dump()


def test_what_a_token_says(token, authority):
    stamp = verify_timestamp(token, SIGNATURE, ROOTS)
    assert abs(stamp.time - datetime.now(UTC)) < timedelta(minutes=10)
    assert stamp.accuracy == timedelta(seconds=1, milliseconds=500, microseconds=100)
    assert (stamp.earliest, stamp.latest) == (
        stamp.time - stamp.accuracy,
        stamp.time + stamp.accuracy,
    )
    assert stamp.chain == authority.entity.chain


@pytest.mark.parametrize(
    ("key", "digest", "ess"),
    [
        ("RSA-3072", "sha512", "sha256"),
        ("EC-256", "sha256", "sha384"),
        ("EC-384", "sha256", "sha512"),
        ("EC-521", "sha384", "sha256"),
    ],
)
def test_keys_and_digests_of_authorities(key, digest, ess, tmp_path):
    entity = make_tsa(ISSUER, f"TSA {key}", key=key)
    verify_timestamp(stamped(tmp_path, entity, digest=digest, ess=ess), SIGNATURE, ROOTS)


def test_the_request_asks_for_the_certificate_with_a_fresh_nonce(authority):
    seen = []

    def ask(request):
        seen.append(tsp.TimeStampReq.load(request).native)
        return authority.answer(request)

    for _ in range(2):
        request_timestamp(SIGNATURE, ask, ROOTS)
    assert seen[0]["cert_req"] is True
    assert seen[0]["message_imprint"]["hash_algorithm"]["algorithm"] == "sha512"
    assert seen[0]["nonce"] != seen[1]["nonce"]
    assert {**seen[0], "nonce": 0} == {**seen[1], "nonce": 0}


def test_an_answer_to_another_request_is_refused(authority):
    answers = []
    request_timestamp(
        SIGNATURE, lambda one: answers.append(authority.answer(one)) or answers[0], ROOTS
    )
    with pytest.raises(VerificationError, match="nonce differs"):
        request_timestamp(SIGNATURE, lambda _: answers[0], ROOTS)


def test_a_refusal_is_told(authority):
    def ask(request):
        changed = tsp.TimeStampReq.load(request)
        changed["req_policy"] = "1.2.3.99"
        return authority.answer(changed.dump(force=True))

    with pytest.raises(VerificationError, match=r"refuses: rejection .*[Pp]olicy"):
        request_timestamp(SIGNATURE, ask, ROOTS)


@pytest.mark.parametrize("answer", [b"", b"0", b"<html>", b"\x30\x03\x02\x01\x00", b"\x30\x00"])
def test_what_is_no_response_is_refused(answer):
    with pytest.raises(FormatError, match="RFC 3161"):
        request_timestamp(SIGNATURE, lambda _: answer, ROOTS)


def test_another_signature_or_root_is_refused(token):
    with pytest.raises(VerificationError, match="over another signature"):
        verify_timestamp(token, SIGNATURE + b".", ROOTS)
    nobody = TrustAnchors((make_root("Nobody").certificate,))
    with pytest.raises(
        VerificationError, match="who is not trusted; you trust CN=Nobody: no certificate leads"
    ):
        verify_timestamp(token, SIGNATURE, nobody)
    intermediate = TrustAnchors((ISSUER.certificate,))
    with pytest.raises(VerificationError, match="not a self-signed root"):
        verify_timestamp(token, SIGNATURE, intermediate)


def eku(*usages, critical=True):
    return (x509.ExtendedKeyUsage(list(usages)), critical)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"extensions": (eku(Eku.TIME_STAMPING, Eku.CODE_SIGNING),)}, "not timeStamping alone"),
        ({"extensions": (eku(Eku.TIME_STAMPING, critical=False),)}, "alone, and critical"),
        ({"extensions": ()}, "not timeStamping alone"),
        ({"ca": True}, "is a CA"),
        ({"usage": ("digital_signature", "key_encipherment")}, "includes key_encipherment"),
        ({"usage": None}, "has no key usage"),
        ({"usage": ("crl_sign",)}, "lacks digitalSignature"),
        ({"key": "RSA-2560"}, "no support for a key"),
        ({"end": NOW - DAY / 2}, "expired"),
        ({"start": NOW + DAY / 2}, "not valid before"),
    ],
)
def test_certificates_that_must_not_stamp(options, says):
    entity = make_tsa(ISSUER, f"TSA {says} {options.get('key')}", **options)
    with pytest.raises(VerificationError, match=says):
        verify_timestamp(forge_token(entity, SIGNATURE), SIGNATURE, ROOTS)


def test_the_authority_need_be_valid_at_the_time_of_the_stamp_only():
    old = {"start": NOW - 99 * DAY, "end": NOW - 90 * DAY}
    root = make_root("Old Root", **old)
    entity = make_tsa(make_intermediate(root, "Old Intermediate", **old), "Old TSA", **old)
    roots = TrustAnchors((root.certificate,))
    when = NOW - 95 * DAY
    assert verify_timestamp(forge_token(entity, b"", when=when), b"", roots).time == when
    with pytest.raises(VerificationError, match="expired"):
        verify_timestamp(forge_token(entity, b""), b"", roots)


def test_the_certificate_is_the_one_that_was_signed_for():
    entity = make_tsa(ISSUER, "Twins")
    twin = make_tsa(ISSUER, "Twins", serial=entity.certificate.serial_number)
    assert twin.certificate != entity.certificate
    chain = (twin.certificate, *entity.above)
    with pytest.raises(FormatError, match="does not hold the certificate that its signer names"):
        verify_timestamp(forge_token(entity, b"", embedded=chain), b"", ROOTS)
    chain = (twin.certificate, *entity.chain)
    verify_timestamp(forge_token(entity, b"", embedded=chain), b"", ROOTS)


def test_a_weak_imprint_is_refused():
    with pytest.raises(VerificationError, match="weak digest"):
        verify_timestamp(forge_token(make_tsa(ISSUER), b"", imprint="sha1"), b"", ROOTS)


def changed(token, change):
    info = cms.ContentInfo.load(token)
    change(info["content"])
    return info.dump(force=True)


def drop(kind):
    def change(content):
        signer = content["signer_infos"][0]
        kept = [one for one in signer["signed_attrs"] if one["type"].native != kind]
        signer["signed_attrs"] = cms.CMSAttributes(kept)

    return change


def other_time(content):
    info = content["encap_content_info"]["content"].parsed
    info["gen_time"] = info["gen_time"].native - 365 * DAY
    content["encap_content_info"]["content"] = info


def sha1(content):
    content["signer_infos"][0]["digest_algorithm"] = {"algorithm": "sha1"}


def no_signer(content):
    content["signer_infos"] = cms.SignerInfos([])


def no_certificates(content):
    del content["certificates"]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (drop("signing_certificate_v2"), FormatError, "lacks the signed attribute 1.2.840.*2.47"),
        (drop("message_digest"), FormatError, "lacks the signed attribute 1.2.840.*9.4"),
        (drop("content_type"), FormatError, "lacks the signed attribute 1.2.840.*9.3"),
        (drop("signing_time"), VerificationError, "not signed by the key"),
        (other_time, VerificationError, "not what its authority signed"),
        (sha1, FormatError, "weak or unknown"),
        (no_signer, FormatError, "no signer"),
        (no_certificates, FormatError, "certificates"),
    ],
)
def test_tokens_that_were_changed(change, error, says, token):
    with pytest.raises(error, match=says):
        verify_timestamp(changed(token, change), SIGNATURE, ROOTS)


def test_any_changed_byte_is_refused_or_means_the_same(token):
    expected = verify_timestamp(token, SIGNATURE, ROOTS)
    passed = 0
    for at in range(0, len(token), 2):
        flipped = bytearray(token)
        flipped[at] ^= 1 << at % 8
        try:
            found = verify_timestamp(bytes(flipped), SIGNATURE, ROOTS)
        except (FormatError, VerificationError):
            continue
        passed += 1
        assert found == expected, f"byte {at}"
    assert passed < len(token) / 6  # the root that comes along, which no one looks at


@settings(max_examples=150)
@given(st.binary(max_size=200))
def test_junk(junk):
    with pytest.raises(FormatError):
        verify_timestamp(junk, SIGNATURE, ROOTS)


def test_over_http(authority, token):
    with serve(authority.answer) as url:
        made = request_timestamp(SIGNATURE, over_http(url), ROOTS)
    assert verify_timestamp(made, SIGNATURE, ROOTS).chain == authority.entity.chain


@pytest.mark.parametrize(
    ("answer", "options", "says"),
    [
        (lambda _: b"no", {"status": 500}, "500"),
        (lambda _: b"no", {"kind": "text/html"}, "text/html, so it is no timestamp authority"),
        (lambda _: bytes((1 << 20) + 1), {}, "more than 1048576 bytes"),
    ],
)
def test_strange_answers_over_http(answer, options, says):
    with serve(answer, **options) as url, pytest.raises(StorageError, match=says):
        over_http(url)(b"request")


def test_no_answer_over_http():
    with serve(lambda _: b"") as url:
        pass
    with pytest.raises(StorageError, match="no timestamp from"):
        over_http(url)(b"request")


@pytest.mark.parametrize("drip", DRIPS)
def test_an_authority_that_never_ends(drip):
    with slow_server(*DRIPS[drip]) as place, pytest.raises(StorageError, match="s in all"):
        over_http(f"http://{place}/", timeout=0.3)(b"request")


@pytest.mark.parametrize("url", ["", "ftp://x/", "file:///etc/passwd", "localhost:80"])
def test_urls_that_are_none(url):
    with pytest.raises(ParameterError, match="http or https"):
        over_http(url)


def test_the_baseline_policy_stands_for_a_second(tmp_path):
    authority = Authority(make_tsa(ISSUER), tmp_path)
    config = (tmp_path / "tsa.cnf").read_text()
    for policy, accuracy in (("0.4.0.2023.1.1", 1), ("1.2.3.4", 0)):
        text = config.replace("default_policy = 1.2.3.4", f"default_policy = {policy}")
        lines = [line for line in text.splitlines() if not line.startswith("accuracy")]
        (tmp_path / "tsa.cnf").write_text("\n".join(lines) + "\n")
        token = request_timestamp(SIGNATURE, authority.answer, ROOTS)
        assert verify_timestamp(token, SIGNATURE, ROOTS).accuracy == timedelta(seconds=accuracy)
