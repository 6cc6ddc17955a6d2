"""Images and signatures, good and bad: the kernel's verdict on each, and that ours is the same."""

import pytest
from cryptography import x509

from dmsign_fast.envelope.linux import LinuxOutcome, linux_verdict
from kernel.cases import CASES
from kernel.images import bad_blocks

# of cryptography, on a serial number that damage made negative
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def check(case, judged):
    """The kernel says and reads what it should, and dmsign-fast agrees with it."""
    answer, image = judged.answers[case.name], judged.image(case.name)
    assert answer.verdict == case.expected or not case.expected
    if answer.sha256:
        bad = bad_blocks(answer.verdict)
        assert answer.sha256 == case.readable(image, bad)
        assert answer.status == case.status(bad)
    if not case.judged:
        return
    foretold = _foretell(image, judged.anchors)
    assert foretold is not LinuxOutcome.ACCEPTED or answer.opened, "doctor is laxer than the kernel"
    ours = image.verify(judged.anchors)
    assert ours in (0, 1, 3)
    if case.expected:
        assert (ours == 0) == (case.expected == "reads" and not case.stricter)
    else:
        assert ours != 0 or answer.verdict == "reads", "dmsign-fast is laxer than the kernel"


def _foretell(image, anchors):
    """What doctor says; why is the matter of tests/envelope/test_linux.py."""
    trusted = x509.load_pem_x509_certificates(anchors.read_bytes())
    signature = image.signature.read_bytes()
    return linux_verdict(signature, bytes.fromhex(image.root_hash.read_text()), trusted).outcome


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict(case, judged):
    check(case, judged)
