"""What we say that Linux says, and what tests/kernel has it say."""

import random
from functools import cache

import pytest
from cryptography import x509
from kernel.cases import CASES
from kernel.foreign import PLAIN, foreign
from kernel.people import make_people
from pki import der

from dmsign_fast.errors import ParameterError
from dmsign_fast.envelope.linux import Outcome, judge

# of cryptography, on a serial number that damage made negative
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

KNOWN = {case.name: case for case in CASES if case.expected}
# Linux reads these, dmsign-fast does not
NOT_JUDGED = {"form-keyid", "form-two-signers"}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return make_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def image(people, tmp_path_factory):
    """The image of the case of that name, made when it is first asked for."""
    directory = tmp_path_factory.mktemp("images")
    return cache(lambda name: KNOWN[name].make(directory, people))


@pytest.fixture(scope="module")
def everyone(people):
    return [people[name].certificate for name in people.trusted]


def judged(image, trusted):
    signature = image.signature.read_bytes() if image.signature.exists() else None
    return judge(signature, bytes.fromhex(image.root_hash.read_text()), trusted)


@pytest.mark.parametrize("case", KNOWN.values(), ids=KNOWN)
def test_the_verdict_is_that_of_the_kernel(case, image, everyone):
    judgement = judged(image(case.name), () if case.name == "unsealed" else everyone)
    assert judgement.reason
    assert bool(judgement.advice) == (judgement.outcome is not Outcome.ACCEPTED)
    if case.name in NOT_JUDGED:
        assert judgement.outcome is Outcome.UNKNOWN
        return
    # a device with a bad block opens
    opens = case.expected.split()[0] in ("reads", "EIO")
    assert judgement.outcome == ("accepted" if opens else "refused"), judgement
    assert judgement.errno == ("" if opens else case.expected), judgement
    assert bool(judgement.stricter) == case.stricter, judgement


def says(image, trusted):
    judgement = judged(image, trusted)
    return f"{judgement.errno}: {judgement.reason}; {judgement.advice}"


def test_each_cause_of_enokey_is_told_from_the_others(image, people):
    root, signer = people["root"].certificate, people["below root"].certificate
    bare = image("chain-no-certs")
    other = people["namer"].certificate
    ed25519 = people["embedded Ed25519"].certificate
    assert "there is no signature" in str(judge(None, bytes(32), [other]))
    assert "there is no signature" in str(judge(b"", bytes(32), [other]))
    chain = image("chain-root")
    assert "CN=Trusted Root is self-signed and not trusted" in says(chain, [other])
    assert "does not hold the signer's certificate" in says(bare, [other])
    assert f"{signer.serial_number:x}" in says(bare, [other])
    assert "not sealed" in says(bare, ())
    assert "cannot load the certificate CN=Embedded Ed25519" in says(bare, [ed25519])
    assert judged(chain, [root]).outcome is Outcome.ACCEPTED
    assert judged(bare, [signer]).outcome is Outcome.ACCEPTED
    assert judged(bare, [root]).errno == "ENOKEY"


def test_a_certificate_that_linux_cannot_load_is_not_trusted(image, people):
    signer, bare = people["EC-256"].certificate, image("EC-256-sha256-no-certs")
    damaged = bytearray(der(signer))
    damaged[-1] ^= 1  # of its signature of itself
    certificate = x509.load_der_x509_certificate(bytes(damaged))
    assert "cannot load the certificate CN=Trusted EC-256" in says(bare, [certificate])
    assert judged(bare, [signer]).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("form", ["", "-no-certs", "-attributes"])
@pytest.mark.parametrize(
    ("slip", "words"),
    [
        ("newline", "the root hash and a newline"),
        ("upper-case", "the root hash in upper case"),
        ("raw-bytes", "the raw bytes of the root hash"),
    ],
)
def test_a_slip_is_named_in_every_form(slip, words, form, image, everyone):
    said = says(image(f"{slip}{form}"), everyone)
    assert f"EKEYREJECTED: the signature is over {words}" in said


def test_without_certificates_all_but_trust_is_judged(image):
    good, other = image("EC-256-sha256"), image("EC-384-sha384")
    judgement = judged(good, None)
    assert (judgement.outcome, judgement.errno) == (Outcome.UNKNOWN, "")
    assert judgement.signer == "CN=Trusted EC-256"
    assert "--cert" in judgement.advice
    judgement = judge(good.signature.read_bytes(), bytes.fromhex(other.root_hash.read_text()), None)
    assert judgement.errno == "EKEYREJECTED"


def test_what_only_we_refuse_is_said_of_what_linux_accepts(image, people):
    judgement = judged(image("stricter-expired"), [people["expired"].certificate])
    assert judgement.outcome is Outcome.ACCEPTED
    assert "CN=Expired expired" in judgement.stricter


def test_no_damage_makes_it_fail(image, everyone):
    chance = random.Random(7)
    for name in ("RSA-2048-sha256", "EC-256-sha256"):
        good = image(name).signature.read_bytes()
        root_hash = bytes.fromhex(image(name).root_hash.read_text())
        for _ in range(300):
            damaged = bytearray(good)
            damaged[chance.randrange(len(good))] ^= chance.randrange(1, 256)
            judgement = judge(bytes(damaged), root_hash, everyone)
            assert (judgement.outcome is Outcome.REFUSED) == bool(judgement.errno)
        for _ in range(50):
            judge(chance.randbytes(chance.randrange(60)), root_hash, None)
            assert judge(good[: chance.randrange(1, len(good))], root_hash, None).errno == "EBADMSG"


def test_a_large_signature_is_einval_and_a_root_hash_is_checked():
    assert judge(b"\x30" * 40000, bytes(32), None).errno == "EINVAL"
    with pytest.raises(ParameterError):
        judge(b"\x30", bytes(65), None)


def test_sha3_is_left_open(people, everyone, tmp_path):
    case = foreign("sha3", *PLAIN, digest="sha3-256")
    assert "depends on its modules" in judged(case.make(tmp_path, people), everyone).reason
