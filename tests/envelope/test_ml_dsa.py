"""ML-DSA and several signers: what is made, what Linux says to it, and what is refused.

``make kernel-mldsa`` asks a kernel the same; ``tests/kernel/mldsa_forms.py`` has the forms.
"""

import random

import pytest
from asn1crypto import algos, cms
from helpers_pkcs7 import sign as sign_by
from helpers_pkcs7 import signer_of
from helpers_pkcs7 import verify as verify_by
from hypothesis import given, settings
from hypothesis import strategies as st
from pki import ML_DSA_SPECS, make_intermediate, make_leaf, make_root

from dmsign_fast.envelope.linux import LinuxOutcome, linux_verdict, root_hash_message
from dmsign_fast.envelope.linux_ml_dsa import ML_DSA_PARAMETERS
from dmsign_fast.errors import ParameterError, SigningError, VerificationError
from dmsign_fast.signing.local import load_local_signer
from dmsign_fast.signing.scheme import ML_DSA, KeySpec, ml_dsa_problem
from dmsign_fast.trust.issue import generate_key

ROOT_HASH = bytes(range(32))
RSA = make_leaf(name="Beside", key="RSA-2048")
LEAVES = {spec: make_leaf(name=f"Alone {spec}", key=spec) for spec in ML_DSA_SPECS}
every_spec = pytest.mark.parametrize("spec", ML_DSA_SPECS)


def sign(entity, *others, **options):
    return sign_by(ROOT_HASH, entity, and_by=[signer_of(one) for one in others], **options)


def verify(signature, *trusted):
    return verify_by(signature, ROOT_HASH, *trusted)


def linux(signature, *trusted):
    return linux_verdict(signature, ROOT_HASH, [one.certificate for one in trusted])


MADE = {spec: sign(leaf) for spec, leaf in LEAVES.items()}


def test_this_machine_has_ml_dsa():
    """Without it nothing here says anything: install cryptography 48 or newer."""
    assert ml_dsa_problem() is None


def test_without_it_nothing_is_good(monkeypatch):
    problem = "pip install 'cryptography>=48'"
    below = sign(make_leaf(make_root("Elsewhere"), "Unread", key="ML-DSA-44"))
    monkeypatch.setattr("dmsign_fast.signing.scheme.ml_dsa_problem", lambda: problem)
    monkeypatch.setattr("dmsign_fast.envelope.linux_keys.ml_dsa_problem", lambda: problem)
    with pytest.raises(SigningError, match="cryptography>=48"):
        generate_key(KeySpec.ML_DSA_44)
    verdict = linux(below, make_root("Elsewhere"))
    assert (verdict.outcome, verdict.reason) == (LinuxOutcome.UNKNOWN, problem)
    with pytest.raises(VerificationError, match="cryptography>=48"):
        verify(below, make_root("Elsewhere").certificate)


@every_spec
def test_the_form(spec):
    content = cms.ContentInfo.load(sign(LEAVES[spec]), strict=True)["content"]
    (info,) = content["signer_infos"]
    algorithm = info["signature_algorithm"]
    assert ML_DSA[algorithm["algorithm"].dotted] == spec
    assert algorithm["parameters"].dump() == b""
    assert info["digest_algorithm"]["algorithm"].native == "sha512"
    assert info["signed_attrs"].dump() == b""
    LEAVES[spec].certificate.public_key().verify(
        info["signature"].native, root_hash_message(ROOT_HASH)
    )
    assert len(info["signature"].native) == ML_DSA_PARAMETERS[KeySpec(spec)].size


@every_spec
@pytest.mark.parametrize("above", ["RSA-2048", "same"])
@pytest.mark.parametrize("certificates", [True, False])
def test_a_chain(spec, above, certificates):
    root = make_root(f"Above {spec} {above}", key=spec if above == "same" else above)
    leaf = make_leaf(make_intermediate(root, f"Between {spec}", key=spec), f"Of {spec}", key=spec)
    made = sign(leaf, certificates=certificates)
    found = verify(made, root.certificate if certificates else leaf.certificate)
    assert (found.key_spec, found.scheme, found.signers) == (spec, spec.lower(), 1)
    assert "CONFIG_CRYPTO_MLDSA" in found.needs
    assert "CONFIG_CRYPTO_MLDSA" in linux(made, root if certificates else leaf).needs


def test_an_rsa_key_below_ml_dsa_needs_it_too():
    leaf = make_leaf(make_root("Top", key="ML-DSA-65"), "Below", key="RSA-2048")
    assert "CONFIG_CRYPTO_MLDSA" in verify(sign(leaf), leaf.root).needs
    assert verify(sign(leaf, certificates=False), leaf.certificate).needs
    assert not verify(sign(RSA), RSA.certificate).needs


@every_spec
def test_a_key_in_a_pem_file(spec, tmp_path):
    files = LEAVES[spec].write(tmp_path, b"secret")
    assert load_local_signer(files.key, files.chain, lambda: b"secret").key_spec == spec


@every_spec
@pytest.mark.parametrize(
    ("content", "context"),
    [
        (root_hash_message(ROOT_HASH), b"context"),
        (ROOT_HASH, None),
        (root_hash_message(ROOT_HASH).upper(), None),
        (root_hash_message(ROOT_HASH) + b"\n", None),
    ],
    ids=["context", "raw", "upper case", "newline"],
)
def test_what_is_signed_otherwise_is_refused(spec, content, context):
    key = LEAVES[spec].key
    forged = _with(LEAVES[spec], key.sign(content, context))
    verdict = linux(forged, LEAVES[spec])
    assert (verdict.outcome, verdict.errno) == (LinuxOutcome.REFUSED, "EKEYREJECTED")
    with pytest.raises(VerificationError):
        verify(forged, LEAVES[spec].certificate)


def _raw(signature):
    (info,) = cms.ContentInfo.load(signature)["content"]["signer_infos"]
    return info["signature"].native


def _with(entity, raw):
    """Return the message of the entity with another raw signature of the same size."""
    made = sign(entity)
    assert len(raw) == len(_raw(made))
    return made.replace(_raw(made), raw)


@every_spec
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_changed_signature_is_never_taken(spec, seed):
    chance = random.Random(seed)
    raw = bytearray(_raw(MADE[spec]))
    raw[chance.randrange(len(raw))] ^= chance.randrange(1, 256)
    forged = MADE[spec].replace(_raw(MADE[spec]), bytes(raw))
    verdict = linux(forged, LEAVES[spec])
    decoded = ML_DSA_PARAMETERS[KeySpec(spec)].decodes(bytes(raw))
    assert verdict.errno == ("EKEYREJECTED" if decoded else "EBADMSG")


@every_spec
@settings(max_examples=30, deadline=None)
@given(message=st.binary(max_size=80))
def test_every_signature_that_is_made_decodes(spec, message):
    parameters = ML_DSA_PARAMETERS[KeySpec(spec)]
    raw = LEAVES[spec].key.sign(message)
    assert parameters.decodes(raw)
    assert not parameters.decodes(raw + b"\0")
    assert not parameters.decodes(raw[:-1])
    # more hints than there may be, and a response that is too large
    assert not parameters.decodes(raw[:-1] + bytes((parameters.omega + 1,)))
    after = raw[parameters.commitment + 8 :]
    assert not parameters.decodes(raw[: parameters.commitment] + bytes(8) + after)


@every_spec
def test_names_of_other_packages_do_not_matter(spec, monkeypatch):
    # pyhanko-certvalidator, of --revocation, teaches asn1crypto other names
    for oid in ML_DSA:
        monkeypatch.setitem(algos.SignedDigestAlgorithmId._map, oid, f"theirs {oid}")
    leaf = LEAVES[spec]
    assert verify(sign(leaf), leaf.certificate).key_spec == spec


class TestSeveralSigners:
    @every_spec
    def test_any_of_them_does(self, spec):
        both = sign(RSA, LEAVES[spec])
        for trusted, key in ((RSA, "RSA-2048"), (LEAVES[spec], spec)):
            found = verify(both, trusted.certificate)
            assert (found.key_spec, found.signers, found.embedded) == (key, 2, 2)
            assert "CONFIG_CRYPTO_MLDSA" in found.needs
            assert linux(both, trusted).signer == found.signer.subject

    def test_without_certificates_linux_need_not_know_ml_dsa(self):
        both = sign(RSA, LEAVES["ML-DSA-65"], certificates=False)
        assert linux(both, RSA).needs.startswith("Linux 7.0 or newer, for")
        assert "CONFIG_CRYPTO_MLDSA" in linux(both, LEAVES["ML-DSA-65"]).needs

    @pytest.mark.parametrize("certificates", [True, False])
    def test_a_bad_one_beside_a_good_one(self, certificates):
        leaf = LEAVES["ML-DSA-65"]
        both = sign(RSA, leaf, certificates=certificates)
        good = _raw(sign(leaf))
        infos = cms.ContentInfo.load(both)["content"]["signer_infos"]
        raw = next(one["signature"].native for one in infos if len(one["signature"].native) > 999)
        assert len(raw) == len(good)
        forged = both.replace(raw, leaf.key.sign(b"other"))
        # where the certificate of the bad one is known, it counts
        assert linux(forged, RSA, leaf).errno == "EKEYREJECTED"
        known = linux(forged, RSA)
        assert known.errno == ("EKEYREJECTED" if certificates else "")
        assert linux(forged, leaf).errno == "EKEYREJECTED"
        if not certificates:
            assert verify(forged, RSA.certificate).key_spec == "RSA-2048"

    def test_no_stranger_is_taken(self):
        both = sign(RSA, LEAVES["ML-DSA-44"])
        assert linux(both, make_leaf(name="Nobody")).errno == "ENOKEY"
        with pytest.raises(VerificationError):
            verify(both, make_leaf(name="Nobody").certificate)

    def test_the_same_twice(self):
        with pytest.raises(ParameterError, match="the same certificate"):
            sign(RSA, RSA)
