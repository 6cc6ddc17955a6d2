"""What we say that Linux says to hand-made signatures, as the guest of tests/kernel has it."""

import json
from pathlib import Path

import pytest
from helpers_pkcs7 import ROOT_HASH
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel.signature_forms import make_forms

from dmsign_fast.envelope import linux_certificates
from dmsign_fast.envelope.linux import LinuxOutcome, linux_verdict
from dmsign_fast.envelope.linux_asn1 import (
    ANY,
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    Asn1Error,
    Match,
    choice,
    decode,
)
from dmsign_fast.envelope.linux_keys import RefusedError, UnknownError
from dmsign_fast.envelope.pkcs7 import verify_root_hash, why_stricter
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import DmsignError
from dmsign_fast.signing.certificates import parse_certificate

# of cryptography, on serial numbers that damage made negative
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

KNOWN = json.loads((Path(__file__).parents[1] / "vectors/linux-forms.json").read_text())
OPEN = {"form-digest-sm3": "ENOPKG"}
"""What doctor leaves open, since other kernels have it."""
FORMS = make_forms(ROOT_HASH.hex().encode())
ENROLLED = list(FORMS.enrolled.values())
ROOT = parse_certificate(FORMS.enrolled["forms-root"])


def test_every_form_has_an_answer_of_linux():
    named = {one for one in FORMS.signatures if "mutant" not in one and "swapped" not in one}
    assert named == set(KNOWN)


@pytest.mark.parametrize(("name", "errno"), KNOWN.items(), ids=KNOWN)
def test_doctor_says_what_linux_says(name, errno):
    verdict = linux_verdict(FORMS.signatures[name], ROOT_HASH, ENROLLED)
    if name in OPEN:
        assert (verdict.outcome, errno) == (LinuxOutcome.UNKNOWN, OPEN[name])
        return
    assert verdict.errno == errno, verdict
    assert verdict.outcome == ("refused" if errno else "accepted")
    assert verdict.reason
    assert bool(verdict.advice) == bool(errno)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("form-bytes-behind", "bytes follow the end"),
        ("form-indefinite", "indefinite length"),
        ("ecdsa-junk-behind", "not the DER of two positive numbers"),
        ("ecdsa-without-sign", "not the DER of two positive numbers"),
        ("form-signers-two", "one signer twice"),
        ("form-digests-other", "differ"),
        ("certificate-extended-usage-server-embedded", "lacks codeSigning"),
        ("certificate-unknown-critical-embedded", "critical"),
        ("attributes-as-sequence", "SignedData"),
    ],
)
def test_what_linux_takes_and_we_do_not(name, why):
    signature = FORMS.signatures[name]
    assert linux_verdict(signature, ROOT_HASH, [ROOT]).outcome is LinuxOutcome.ACCEPTED
    assert why in why_stricter(signature, ROOT_HASH, [ROOT])


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_nothing_makes_it_fail(data):
    """And nothing is good for us that is not for Linux."""
    good = FORMS.signatures[data.draw(st.sampled_from(sorted(FORMS.signatures)))]
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(changed)))
        length = data.draw(st.integers(0, 30))
        changed[start : start + length] = data.draw(st.binary(max_size=30))
    verdict = linux_verdict(bytes(changed), ROOT_HASH, ENROLLED)
    assert (verdict.outcome is LinuxOutcome.REFUSED) == bool(verdict.errno)
    try:
        verify_root_hash(bytes(changed), ROOT_HASH, TrustAnchors((ROOT,)))
    except DmsignError:
        return
    assert linux_verdict(bytes(changed), ROOT_HASH, [ROOT]).outcome is LinuxOutcome.ACCEPTED


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_no_certificate_makes_it_fail(data):
    changed = bytearray(data.draw(st.sampled_from(ENROLLED)))
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(changed)))
        changed[start : start + 5] = data.draw(st.binary(max_size=9))
    try:
        parsed = linux_certificates.parse(bytes(changed))
    except (Asn1Error, RefusedError, UnknownError):
        return
    assert parsed.name


def read(grammar, data):
    """Return the contents that were noted."""
    noted = []
    decode(grammar(lambda _, value: noted.append(value.content.hex())), None, bytes.fromhex(data))
    return noted


def numbers(note):
    return Match(SEQUENCE, parts=(Match(INTEGER, note),), many=True)


def either(note):
    return Match(SEQUENCE, parts=choice(Match(INTEGER, note), Match(OCTET_STRING, note)))


def anything(note):
    return Match(SEQUENCE, note, parts=(Match(ANY, note, optional=True),))


@pytest.mark.parametrize(
    ("grammar", "data", "noted"),
    [
        (numbers, "3006020101020102", ["01", "02"]),
        (numbers, "30810202010102"[:0], None),
        (numbers, "30810302010100", ["01"]),
        (numbers, "1003020101", ["01"]),
        (numbers, "30800201010000", ["01"]),
        (numbers, "30820003020101ff", ["01"]),
        (numbers, "3000", None),
        (numbers, "3083000003020101", None),
        (numbers, "30800201010001", None),
        (numbers, "3080020101", None),
        (numbers, "3003220101", None),
        (numbers, "30031f0101", None),
        (numbers, "3005020101", None),
        (either, "3003040101", ["01"]),
        (either, "3006020101020101", None),
        (either, "30020500", None),
        (anything, "3000", [""]),
        (anything, "30051f01010000", None),
        (anything, "300724800401010000", ["0401010000", "24800401010000"]),
        (anything, "3006248004010100", None),
        (anything, "3004a4800000", ["0000", "a4800000"]),
        (anything, "300404800000", None),
    ],
)
def test_asn1_as_linux_reads_it(grammar, data, noted):
    if noted is None:
        with pytest.raises(Asn1Error):
            read(grammar, data)
    else:
        assert read(grammar, data) == noted
