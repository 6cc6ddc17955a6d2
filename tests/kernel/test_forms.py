"""Hand-made and damaged signatures: Linux, doctor and verify on each.

Never is one good for verify that Linux refuses. Linux and doctor agree, error by error.
"""

import json
import os
from pathlib import Path

import pytest
from cryptography import x509

from dmsign_fast.envelope import linux_certificates
from dmsign_fast.envelope.linux import LinuxOutcome, linux_verdict
from dmsign_fast.envelope.linux_asn1 import Asn1Error
from dmsign_fast.envelope.linux_keys import RefusedError, UnknownError
from dmsign_fast.envelope.pkcs7 import verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import DmsignError, FormatError
from dmsign_fast.signing.certificates import parse_certificate

# of cryptography, on serial numbers that damage made negative
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

UNKNOWN = {
    "form-digest-sm3": "SM3 is a module",
}
"""What doctor leaves open, and why."""
FEWEST = 500
VECTORS = Path(__file__).parents[1] / "vectors/linux-forms.json"


@pytest.fixture(scope="module")
def enrolled(judged):
    """What Linux took into its keyring."""
    folder = judged.directory / "guest/forms/enrolled"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def root_hash(judged):
    return bytes.fromhex((judged.directory / "guest/forms/root-hash").read_text())


@pytest.fixture(scope="module")
def signatures(judged):
    folder = judged.directory / "guest/forms/cases"
    found = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    assert len(found) >= FEWEST
    assert set(found) == set(judged.forms.errors)
    return found


def test_linux_and_doctor_agree(judged, enrolled, root_hash, signatures):
    differences = {}
    for name, signature in signatures.items():
        verdict = linux_verdict(signature, root_hash, list(enrolled.values()))
        said = verdict.errno if verdict.outcome is not LinuxOutcome.UNKNOWN else "unknown"
        wanted = "unknown" if name in UNKNOWN else judged.forms.errors[name]
        if said != wanted:
            differences[name] = f"Linux {judged.forms.errors[name]!r}, doctor {said!r}"
    assert not differences


def test_the_answers_are_those_that_quick_tests_have(judged):
    """DMSIGN_UPDATE_VECTORS=1 writes them anew."""
    chance = ("mutant", "swapped")
    errors = judged.forms.errors.items()
    named = {
        name: error for name, error in sorted(errors) if not any(one in name for one in chance)
    }
    if os.environ.get("DMSIGN_UPDATE_VECTORS"):
        VECTORS.write_text(json.dumps(named, indent=1) + "\n")
    assert named == json.loads(VECTORS.read_text())


def test_what_is_good_for_verify_is_good_for_linux(judged, enrolled, root_hash, signatures):
    """Whatever else is trusted here than there, or not: those that cryptography can read."""
    anchors = TrustAnchors(tuple(readable(enrolled.values())))
    good = set()
    for name, signature in signatures.items():
        try:
            verify_root_hash(signature, root_hash, anchors)
        except DmsignError:
            continue
        good.add(name)
    assert not {name for name in good if judged.forms.errors[name]}
    # and it is not good for nothing
    accepted = {name for name, error in judged.forms.errors.items() if not error}
    assert len(good) > 60
    assert len(accepted - good) > 40


def readable(certificates):
    for der in certificates:
        try:
            yield parse_certificate(der)
        except FormatError:
            continue


def test_linux_and_doctor_load_the_same_certificates(judged, enrolled):
    differences = {}
    for name, der in enrolled.items():
        try:
            linux_certificates.parse(der)
            loaded = True
        except (Asn1Error, RefusedError, UnknownError):
            loaded = False
        if loaded != judged.forms.enrolled[name]:
            differences[name] = f"Linux {judged.forms.enrolled[name]}, doctor {loaded}"
    assert not differences


def test_what_is_enrolled_is_what_is_tested(enrolled):
    assert len(enrolled) > 100
    assert x509.load_der_x509_certificate(enrolled["forms-root"])
