"""What we say that Linux says, and what tests/kernel has it say."""

import random
from functools import cache

import pytest
from cryptography import x509
from kernel.cases import CASES
from kernel.identities import make_identities
from kernel.openssl_signatures import PLAIN, openssl_case
from pki import der

from dmsign_fast.envelope.linux import LinuxOutcome, linux_verdict
from dmsign_fast.envelope.pkcs7 import why_stricter
from dmsign_fast.errors import ParameterError

# of cryptography, on a serial number that damage made negative
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

KNOWN = {case.name: case for case in CASES if case.expected}


@pytest.fixture(scope="module")
def identities(tmp_path_factory):
    return make_identities(tmp_path_factory.mktemp("identities"))


@pytest.fixture(scope="module")
def image(identities, tmp_path_factory):
    """The image of the case of that name, made when it is first asked for."""
    directory = tmp_path_factory.mktemp("images")
    return cache(lambda name: KNOWN[name].make(directory, identities))


@pytest.fixture(scope="module")
def everyone(identities):
    return [identities[name].certificate for name in identities.trusted]


def read(image):
    signature = image.signature.read_bytes() if image.signature.exists() else None
    return signature, bytes.fromhex(image.root_hash.read_text())


def judged(image, trusted):
    return linux_verdict(*read(image), trusted)


@pytest.mark.parametrize("case", KNOWN.values(), ids=KNOWN)
def test_the_verdict_is_that_of_the_kernel(case, image, everyone):
    verdict = judged(image(case.name), () if case.name == "unsealed" else everyone)
    assert verdict.reason
    assert bool(verdict.advice) == (verdict.outcome is not LinuxOutcome.ACCEPTED)
    # a device with a bad block opens
    opens = case.expected.split()[0] in ("reads", "EIO")
    assert verdict.outcome == ("accepted" if opens else "refused"), verdict
    assert verdict.errno == ("" if opens else case.expected), verdict
    if opens:
        assert bool(why_stricter(*read(image(case.name)), everyone)) == case.stricter


def says(image, trusted):
    verdict = judged(image, trusted)
    return f"{verdict.errno}: {verdict.reason}; {verdict.advice}"


def test_each_cause_of_enokey_is_told_from_the_others(image, identities):
    root, signer = identities["root"].certificate, identities["below root"].certificate
    bare = image("chain-no-certs")
    other = identities["namer"].certificate
    ed25519 = identities["embedded Ed25519"].certificate
    assert "there is no signature" in str(linux_verdict(None, bytes(32), [other]))
    assert "there is no signature" in str(linux_verdict(b"", bytes(32), [other]))
    chain = image("chain-root")
    assert (
        "by CN=Below Root under CN=Trusted Root, not trusted; you trust CN=Trusted Namer"
        in says(chain, [other])
    )
    assert "does not hold the signer's certificate" in says(bare, [other])
    assert f"{signer.serial_number:x}" in says(bare, [other])
    assert "not sealed" in says(bare, ())
    assert "cannot load the certificate CN=Embedded Ed25519" in says(bare, [ed25519])
    assert judged(chain, [root]).outcome is LinuxOutcome.ACCEPTED
    assert judged(bare, [signer]).outcome is LinuxOutcome.ACCEPTED
    assert judged(bare, [root]).errno == "ENOKEY"


def test_a_certificate_that_linux_cannot_load_is_not_trusted(image, identities):
    signer, bare = identities["EC-256"].certificate, image("EC-256-sha256-no-certs")
    damaged = bytearray(der(signer))
    damaged[-1] ^= 1  # of its signature of itself
    certificate = x509.load_der_x509_certificate(bytes(damaged))
    assert "cannot load the certificate CN=Trusted EC-256" in says(bare, [certificate])
    assert judged(bare, [signer]).outcome is LinuxOutcome.ACCEPTED


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
    verdict = judged(good, None)
    assert (verdict.outcome, verdict.errno) == (LinuxOutcome.UNKNOWN, "")
    assert verdict.signer == "CN=Trusted EC-256"
    assert "--trust" in verdict.advice
    verdict = linux_verdict(
        good.signature.read_bytes(), bytes.fromhex(other.root_hash.read_text()), None
    )
    assert verdict.errno == "EKEYREJECTED"


def test_what_only_we_refuse_is_said_of_what_linux_accepts(image, identities):
    expired, trusted = image("stricter-expired"), [identities["expired"].certificate]
    assert judged(expired, trusted).outcome is LinuxOutcome.ACCEPTED
    assert "CN=Expired expired" in why_stricter(*read(expired), trusted)


def test_no_damage_makes_it_fail(image, everyone):
    chance = random.Random(7)
    for name in ("RSA-2048-sha256", "EC-256-sha256"):
        good = image(name).signature.read_bytes()
        root_hash = bytes.fromhex(image(name).root_hash.read_text())
        for _ in range(300):
            damaged = bytearray(good)
            damaged[chance.randrange(len(good))] ^= chance.randrange(1, 256)
            verdict = linux_verdict(bytes(damaged), root_hash, everyone)
            assert (verdict.outcome is LinuxOutcome.REFUSED) == bool(verdict.errno)
        for _ in range(50):
            linux_verdict(chance.randbytes(chance.randrange(60)), root_hash, None)
            assert (
                linux_verdict(good[: chance.randrange(1, len(good))], root_hash, None).errno
                == "EBADMSG"
            )


def test_a_large_signature_is_einval_and_a_root_hash_is_checked():
    assert linux_verdict(b"\x30" * 40000, bytes(32), None).errno == "EINVAL"
    with pytest.raises(ParameterError):
        linux_verdict(b"\x30", bytes(65), None)


def test_sha3_is_left_open(identities, everyone, tmp_path):
    case = openssl_case("sha3", *PLAIN, digest="sha3-256")
    assert "depends on its modules" in judged(case.make(tmp_path, identities), everyone).reason
