"""What we say that Linux says, and what it does say."""

import random

import pki
import pytest
from cryptography import x509
from kernel.cases import make
from kernel.images import Images
from signatures import more

from dmsign_fast.errors import ParameterError
from dmsign_fast.node.judge import Outcome, judge

# of cryptography, on a serial number that damage made negative
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

# Linux reads these, dmsign-fast does not
NOT_JUDGED = {"form-keyid", "form-two-signers"}


def judged(case, trusted):
    signature = case.signature.read_bytes() if case.signature.exists() else None
    return judge(signature, bytes.fromhex(case.root_hash.read_text()), trusted)


def verdict(judgement):
    """As tests/kernel has it."""
    if judgement.outcome is Outcome.REFUSED:
        return judgement.errno
    return {"accepted": "reads", "unknown": "unknown"}[judgement.outcome]


def trusted_by(images):
    return [entity.certificate for entity in images.trusted.values()]


@pytest.mark.parametrize("kind", ["cases", "more"])
def test_every_verdict_is_that_of_the_kernel(kind, tmp_path):
    images = Images(tmp_path)
    cases = list(make(images, 0, 0) if kind == "cases" else more(images))
    trusted = trusted_by(images)
    ours, expected = {}, {}
    for case in cases:
        judgement = judged(case, () if case.name == "unsealed" else trusted)
        ours[case.name] = verdict(judgement)
        # a device with a bad block opens
        opened = case.expected.startswith("EIO")
        expected[case.name] = "reads" if opened else case.expected
        if case.name in NOT_JUDGED:
            expected[case.name] = "unknown"
        assert judgement.reason
        assert bool(judgement.advice) == (judgement.outcome is not Outcome.ACCEPTED)
        if kind == "cases" and not opened:
            assert bool(judgement.stricter) == case.stricter, judgement
    assert ours == expected
    assert len(cases) > {"cases": 100, "more": 20}[kind]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return Images(tmp_path_factory.mktemp("images"))


def says(case, trusted):
    judgement = judged(case, trusted)
    return f"{judgement.errno}: {judgement.reason}; {judgement.advice}"


def test_each_cause_of_enokey_is_told_from_the_others(images):
    root = pki.make_root("The Root")
    signer = pki.make_leaf(root, "The Signer")
    case = images.signed("enokey", signer)
    bare = images.signed("enokey-bare", signer, "--no-certs")
    other = pki.make_root("Another").certificate
    ed25519 = pki.make_leaf(name="Edwards", key="Ed25519").certificate
    assert "there is no signature" in str(judge(None, bytes(32), [other]))
    assert "there is no signature" in str(judge(b"", bytes(32), [other]))
    assert "CN=The Root is self-signed and not trusted" in says(case, [other])
    assert "does not hold the signer's certificate" in says(bare, [other])
    assert f"{signer.certificate.serial_number:x}" in says(bare, [other])
    assert "not sealed" in says(bare, ())
    assert "cannot load the certificate CN=Edwards" in says(bare, [ed25519])
    assert judged(case, [root.certificate]).outcome is Outcome.ACCEPTED
    assert judged(bare, [signer.certificate]).outcome is Outcome.ACCEPTED
    assert judged(bare, [root.certificate]).errno == "ENOKEY"


def test_a_certificate_that_linux_cannot_load_is_not_trusted(images):
    signer = images.trust("EC-256")
    bare = images.signed("unloadable", signer, "--no-certs")
    damaged = bytearray(pki.der(signer.certificate))
    damaged[-1] ^= 1  # of its signature of itself
    certificate = x509.load_der_x509_certificate(bytes(damaged))
    assert "cannot load the certificate CN=Trusted EC-256" in says(bare, [certificate])
    assert judged(bare, [signer.certificate]).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize(
    ("slip", "words"),
    [
        (lambda text: text + b"\n", "the root hash and a newline"),
        (bytes.upper, "the root hash in upper case"),
        (lambda text: bytes.fromhex(text.decode()), "the raw bytes of the root hash"),
    ],
)
def test_a_slip_is_named_with_certificates_or_without(slip, words, bare, images):
    more = ("-nocerts",) if bare else ()
    name = f"slip-{words}-{bare}"
    case = images.by_openssl(name, "smime", "-noattr", "-md", "sha256", *more, slip=slip)
    assert f"EKEYREJECTED: the signature is over {words}" in says(case, trusted_by(images))


def test_without_certificates_all_but_trust_is_judged(images):
    good = images.signed("untrusting", images.trust("EC-256"))
    judgement = judged(good, None)
    assert (judgement.outcome, judgement.errno) == (Outcome.UNKNOWN, "")
    assert judgement.signer == "CN=Trusted EC-256"
    assert "--cert" in judgement.advice
    other = images.signed("untrusting-other", images.trust("EC-256"))
    judgement = judge(good.signature.read_bytes(), bytes.fromhex(other.root_hash.read_text()), None)
    assert judgement.errno == "EKEYREJECTED"


def test_what_only_we_refuse_is_said_of_what_linux_accepts(images):
    expired = pki.make_expired_leaf(name="Long gone")
    case = images.by_openssl("gone", "smime", "-noattr", "-md", "sha256", signer=expired)
    judgement = judged(case, [expired.certificate])
    assert judgement.outcome is Outcome.ACCEPTED
    assert "CN=Long gone expired" in judgement.stricter


def test_no_damage_makes_it_fail(images):
    chance = random.Random(7)
    for key in ("RSA-2048", "EC-256"):
        case = images.signed(f"damage-{key}", images.trust(key))
        good, root_hash = case.signature.read_bytes(), bytes.fromhex(case.root_hash.read_text())
        for _ in range(300):
            damaged = bytearray(good)
            damaged[chance.randrange(len(good))] ^= chance.randrange(1, 256)
            judgement = judge(bytes(damaged), root_hash, trusted_by(images))
            assert (judgement.outcome is Outcome.REFUSED) == bool(judgement.errno)
        for _ in range(50):
            judge(chance.randbytes(chance.randrange(60)), root_hash, None)
            assert judge(good[: chance.randrange(1, len(good))], root_hash, None).errno == "EBADMSG"


def test_a_large_signature_is_einval_and_a_root_hash_is_checked(images):
    assert judge(b"\x30" * 40000, bytes(32), None).errno == "EINVAL"
    with pytest.raises(ParameterError):
        judge(b"\x30", bytes(65), None)


def test_sha3_is_left_open(images):
    case = images.by_openssl("sha3", "smime", "-noattr", "-md", "sha3-256")
    assert "depends on its modules" in judged(case, trusted_by(images)).reason


def test_judging_agrees_with_verifying(images, tmp_path):
    """What verify accepts, Linux accepts: the other way round there is ``stricter``."""
    anchors = tmp_path / "anchors.pem"
    for key in ("RSA-2048", "EC-384"):
        signer = images.trust(key)
        case = images.signed(f"agree-{key}", signer)
        anchors.write_bytes(pki.pem(signer.certificate))
        assert case.verify(anchors) == 0
        assert judged(case, [signer.certificate]).outcome is Outcome.ACCEPTED
