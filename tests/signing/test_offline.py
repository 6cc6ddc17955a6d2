"""Signatures that are made elsewhere: what is taken, in which form, and what is asked for."""

import pytest
from helpers_pkcs7 import signer_of
from pki import KEY_SPECS, make_leaf, make_root

from dmsign_fast.errors import SigningError
from dmsign_fast.signing.offline import Answers, NotSignedError, Recorder, check_answer
from dmsign_fast.signing.scheme import SCHEMES, notary_scheme, to_fixed_width

MESSAGE = b"4f53b76a0d1c2e3f"


@pytest.mark.parametrize("key", KEY_SPECS)
def test_each_form_of_a_signature_is_taken(key):
    leaf = make_leaf(make_root(), f"Signer {key}", key=key)
    signer = signer_of(leaf)
    for scheme in (one for one in SCHEMES if key in one.key_specs):
        signature = signer.sign(MESSAGE, scheme)
        for form in (signature, to_fixed_width(signature, scheme)):
            assert check_answer(leaf.certificate, MESSAGE, form, scheme) == signature
        for wrong in (b"", signature[:-1], signature + b"\0", signature.hex().encode()):
            with pytest.raises(SigningError):
                check_answer(leaf.certificate, MESSAGE, wrong, scheme)
        with pytest.raises(SigningError, match=r"is not a|it is a"):
            check_answer(leaf.certificate, MESSAGE + b"\n", signature, scheme)


def test_what_is_asked_for_is_noted_once():
    leaf = make_leaf(make_root())
    recorder = Recorder(leaf.chain)
    scheme = notary_scheme(recorder.key_spec)
    for message in (MESSAGE, b"other", MESSAGE):
        with pytest.raises(NotSignedError):
            recorder.sign(message, scheme)
    assert recorder.asked == [(MESSAGE, scheme), (b"other", scheme)]
    assert (recorder.certificate_chain, recorder.key_spec) == (leaf.chain, "EC-256")


def test_an_answer_is_to_one_question():
    leaf = make_leaf(make_root(), key="RSA-2048")
    first, second, *_ = (one for one in SCHEMES if "RSA-2048" in one.key_specs)
    answers = Answers(leaf.chain, {(MESSAGE, first): b"signature"})
    assert answers.sign(MESSAGE, first) == b"signature"
    assert answers.key_spec == "RSA-2048"
    for message, scheme in ((MESSAGE, second), (MESSAGE + b"\n", first)):
        with pytest.raises(SigningError, match="was prepared for what is to be signed now"):
            answers.sign(message, scheme)
